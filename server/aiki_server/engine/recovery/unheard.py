"""Runs that are to be cancelled, and whose code nobody can run to be told so: when the server gives up waiting.

Pure. The code of a run is told of its cancel by a worker that carries its version. It is out of reach where no such worker is there: for the
length of a lease where other workers of its pool are, for they show that the pool was deployed without it; for longer where the pool has
none, for it may be away for maintenance. A build that is registered by name is in reach: the operator starts it where it has a run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from aiki_server.engine.dispatch.routing import Serving
from aiki_server.model.keys import BuildKey, PoolKey
from aiki_server.model.workers import WorkerRow

AWAY_SECONDS = 300.0


class Unheard(NamedTuple):
    """A cancelled run that is queued; in the order of `sweeps.unheard`."""

    id: UUID
    namespace: str
    workflow: str
    version: str
    pool: str
    build: str | None
    epoch: int
    seconds: float
    """For how long it has been queued."""


def out_of_reach(run: Unheard, *, serving: Serving, workers: Iterable[WorkerRow], lease: float) -> bool:
    """Whether nobody can tell the code of this run, and nobody will."""
    wanted = f"{run.workflow}@{run.version}"
    live = [worker for worker in workers if worker.namespace == run.namespace and worker.pool == run.pool and worker.silent < lease]
    if any(wanted in worker.carries and run.build in (None, worker.build) for worker in live):
        return False
    names = serving.builds.get(PoolKey(run.namespace, run.pool), {})
    if any(name and run.build in (None, name) and (run.workflow, run.version) in _carries(serving, run, name) for name in names):
        return False
    return run.seconds >= (lease if live else AWAY_SECONDS)


def _carries(serving: Serving, run: Unheard, build: str) -> frozenset[tuple[str, str]]:
    return serving.by_build.get(BuildKey(run.namespace, run.pool, build), frozenset())
