"""What the server says of a pool, as the plan needs it. `Load` exists only where the server answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from aiki_operator.scaling.autoscale import Demand, LoadRates
from aiki_operator.spec.pool import Versioning


@dataclass(frozen=True, slots=True)
class PoolWorker:
    """A registered worker."""

    id: str
    pod: str | None
    build: str | None
    active: int
    draining: bool
    age: float
    """Seconds since it registered, by the server's clock."""
    heard: float = 0.0
    """Seconds since its last heartbeat: it learns from the answer whether it drains."""


@dataclass(frozen=True, slots=True)
class BuildLoad:
    """A build that the server knows; `needed` counts the open runs that no other build can serve."""

    name: str
    promoted: bool
    needed: int
    demand: Demand
    promoted_at: float = 0.0
    """When it last took over, in Unix seconds by the server's clock; 0 where it never did."""

    @property
    def idle(self) -> bool:
        """Nothing that this build alone could do, and nothing in its hands."""
        return self.needed == 0 and self.demand.queued == 0 and self.demand.running == 0


@dataclass(frozen=True, slots=True)
class UnservedKind:
    """Queued runs of one kind that no live worker of the pool serves."""

    workflow: str
    version: str | None
    build: str | None
    """The build that they stay on, where they stay on one."""
    runs: int
    seconds: float
    """For how long the oldest of them has been queued."""
    servable: bool
    """Whether a worker that comes back as it was would serve them."""


@dataclass(frozen=True, slots=True)
class RolloutTrial:
    """The build that has a share of the new runs before it takes over, and how the runs fare that were drawn for it."""

    build: str
    percent: int
    runs: int = 0
    completed: int = 0
    failing: int = 0

    @property
    def judged(self) -> int:
        """Runs of which something is known: they have completed, or fail."""
        return self.completed + self.failing


@dataclass(frozen=True, slots=True)
class Load:
    """One reading of a pool. `complete` is false while Redis does not answer: then the demand is a lower bound."""

    versioning: Versioning
    rates: LoadRates
    complete: bool
    lag: int | None
    queued: int
    running: int
    due: tuple[float, ...]
    """The next timers of the whole pool."""
    builds: tuple[BuildLoad, ...]
    workers: tuple[PoolWorker, ...]
    unserved: tuple[UnservedKind, ...] = ()
    oldest_queued_at: datetime | None = None
    """Since when the run that has waited longest is queued."""
    trial: RolloutTrial | None = None
    kept: bool = True
    """Whether the server keeps the builds though nobody uses them; it wants to be told again from time to time."""

    def build(self, name: str) -> BuildLoad | None:
        """What is known of a build."""
        return next((build for build in self.builds if build.name == name), None)


EMPTY_LOAD = Load(Versioning.BY_VERSION, LoadRates(), complete=True, lag=0, queued=0, running=0, due=(), builds=(), workers=())
"""What a server says of a pool that it has never heard of."""
