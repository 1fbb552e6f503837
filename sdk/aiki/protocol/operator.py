"""Bodies for the operator, and for people who look after pools: workflows, workers, loads, builds."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from aiki.protocol.runs import History
from aiki.protocol.wire import Wire, WireAnswer
from aiki.protocol.worker import CommitOp, WorkflowVersion


class WorkerInfo(WireAnswer):
    """A registered worker."""

    id: str
    pool: str
    build: str | None
    pod: str | None
    concurrency: int
    active: int
    draining: bool
    registered_at: datetime
    heartbeat_at: datetime


class WorkerList(WireAnswer):
    """The workers whose lease holds."""

    workers: list[WorkerInfo]


class BuildInfo(WireAnswer):
    """A build of a pool: the versions it carries, those it serves now, and how many runs it is needed for."""

    name: str
    promoted: bool
    registered_at: datetime
    carries: list[WorkflowVersion]
    serves: list[WorkflowVersion]
    queued: int
    running: int
    open_runs: int
    """Runs that are not terminal and that this build alone can serve (its versions, or pinned to it)."""
    next_due_at: datetime | None
    busy_workers: int
    workers: int
    promoted_at: datetime | None = None
    """When it last took over; null where it never did."""


class UnservedRuns(WireAnswer):
    """Queued runs of one kind that no live worker of their pool serves. A pool at zero has them for a moment; one that has them for long is in trouble."""

    workflow: str
    version: str | None
    """Null where the run named none and nobody has registered its workflow in the pool."""
    build: str | None
    """The build that the runs stay on, where they stay on one."""
    runs: int
    oldest_seconds: float
    """For how long the oldest of them has been queued."""
    servable: bool
    """Whether a worker that comes back as it was would serve them; if not, nobody ever will, as things are."""
    builds: list[str]
    """The builds whose workers would: none, or one; empty as well where workers without a build would."""


class BuildTrial(WireAnswer):
    """A build that has a share of its pool's new runs before it takes over, and how the newest 10,000 runs fare that were drawn for it."""

    build: str
    percent: int
    runs: int
    completed: int
    failing: int
    """Runs that have failed, have stopped with an error, wait for a retry, or have taken three workers with them. A run that was cancelled is none of them."""


class PoolLoad(WireAnswer):
    """What the autoscaler needs to know of one pool, from Postgres and Redis in one reading."""

    pool: str
    versioning: Literal["ByVersion", "Pinned"]
    now: datetime
    queued: int
    running: int
    due_soon: list[datetime]
    """The next due times of waiting runs, at most 1,000, within the coming ten minutes."""
    stream_lag: int | None
    """Entries no worker has been given yet, over all streams of the pool; null when Redis does not answer."""
    arrivals_per_second: float
    """Mean over the last 60 s of runs becoming queued (starts and wakes)."""
    service_seconds: float | None
    """Mean seconds that an activation occupied a slot, over the last 5 minutes; null when none ended."""
    builds: list[BuildInfo]
    workers: list[WorkerInfo]
    unserved: list[UnservedRuns] = Field(default_factory=list)
    oldest_queued_at: datetime | None = None
    """Since when the run that has waited longest is queued; null where none is."""
    kept: bool = True
    """Whether the server will keep the pool's builds though nobody uses them; where not, PUT /pools/{pool} makes it do so."""
    trial: BuildTrial | None = None
    """The build that has a share of the new runs and has not taken over, where there is one."""


class PoolLoads(WireAnswer):
    """GET /api/v1/pools/load."""

    pools: list[PoolLoad]


class PoolSettings(Wire):
    """PUT /api/v1/pools/{pool}."""

    versioning: Literal["ByVersion", "Pinned"] = "ByVersion"


class BuildShare(Wire):
    """PUT /api/v1/pools/{pool}/builds/{build}/share: how many of a hundred new runs go to a build that has not taken over."""

    percent: int = Field(ge=0, le=100)


class Wakes(WireAnswer):
    """GET /api/v1/pools/wake?timeout=s: the pools at which work arrived while no slot was free; empty at the deadline."""

    pools: list[str]


class Drain(Wire):
    """POST /api/v1/workers/{worker}/drain."""

    drain: bool


class Moved(WireAnswer):
    """How many runs went back to the queue."""

    runs: int


class WorkflowInfo(WireAnswer):
    """A workflow version that was registered, and where it is served."""

    workflow: str
    version: str
    pool: str
    builds: list[str]
    workers: int


class WorkflowList(WireAnswer):
    """GET /api/v1/workflows."""

    workflows: list[WorkflowInfo]


History.model_rebuild()
CommitOp.model_rebuild()
