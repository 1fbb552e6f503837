"""Workers, the builds and versions that they carry, and what they hold: rows that dispatch decides over."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID


class Registration(NamedTuple):
    """A build carries a version; `build` is '' outside Kubernetes."""

    namespace: str
    pool: str
    build: str
    workflow: str
    version: str
    registered_at: datetime


class Build(NamedTuple):
    """A build of a pool."""

    namespace: str
    pool: str
    name: str
    promoted_at: datetime | None
    registered_at: datetime


class PoolRow(NamedTuple):
    """A pool with settings of its own."""

    namespace: str
    name: str
    versioning: str
    ever_pinned: bool = False
    """Whether runs were ever promised to stay on their builds."""
    ramp_build: str | None = None
    ramp_percent: int | None = None
    """The build that a roll-out gives a share of the new runs, and the share."""


class WorkerRow(NamedTuple):
    """A worker, and for how many seconds it has been silent."""

    namespace: str
    id: str
    pool: str
    build: str | None
    pod: str | None
    carries: list[str]
    """Of each version, workflow@version."""
    concurrency: int
    active: int
    draining: bool
    registered_at: datetime
    heartbeat_at: datetime
    silent: float


class Drawn(NamedTuple):
    """Only of runs that a roll-out draws: with which share, and how the pool treats builds."""

    percent: int
    versioning: str


class Assigned(NamedTuple):
    """A run that was given a version or a pool."""

    namespace: str
    pool: str | None
    workflow: str
    version: str | None
    build: str | None
    id: UUID
    status: str


class Carrier(NamedTuple):
    """What workers have in common that may claim the same runs: all run the same build of the same pool."""

    namespace: str
    pool: str
    build: str | None
    versions: frozenset[tuple[str, str]]
    """Workflow and version of everything it carries; where no runs are named, of what it takes any run of."""
    own: frozenset[tuple[str, str]] = frozenset()
    """Where no runs are named: versions of which it takes the runs that stay on its build, besides."""


class Missed(NamedTuple):
    """A queued run that a worker named and was not given."""

    namespace: str
    worker: str
    run: UUID
    pool: str | None
    build: str | None
    workflow: str
    version: str | None
    poisoned: bool
    """It was delivered too often without progress: nobody is given it again."""
    known: bool
    """The worker was not declared lost."""

    def fits(self, carrier: Carrier) -> bool:
        """Whether the worker may have it."""
        mine = self.pool == carrier.pool and self.build in (None, carrier.build)
        return mine and (self.workflow, self.version) in carrier.versions and not self.poisoned


class Holding(NamedTuple):
    """Whether a worker holds a run still, whether that is to rest, and up to which item it knows what came in."""

    still: bool
    pause: bool
    inbox_acked_seq: int
