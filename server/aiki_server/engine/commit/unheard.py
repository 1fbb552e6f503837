"""Runs that are to be cancelled, and whose code nobody can run to be told so: when the server gives up waiting, and what it says then.

Pure. The code of a run is told of its cancel by a worker that carries its version. It is out of reach where no such worker is there: for the
length of a lease where other workers of its pool are, for they show that the pool was deployed without it; for longer where the pool has
none, for it may be away for maintenance. A build that is registered by name is in reach: the operator starts it where it has a run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from aiki.protocol import EntryKind
from aiki_server.engine.dispatch.routing import Serving
from aiki_server.model.keys import BuildKey, PoolKey
from aiki_server.model.workers import WorkerRow

AWAY_SECONDS = 300.0
MOST_NAMED = 10
_EFFECTS = ("task:", "child:")


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


class Left(NamedTuple):
    """What a run leaves behind: the reason of its cancel as JSON text, and the chunks of its history."""

    reason: str | None
    chunks: Sequence[str]


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


def because(reason: str | None) -> str:
    """The reason of a cancel (JSON text) as the end of a sentence."""
    return f": {json.loads(reason)}" if reason and reason != "null" else ""


def not_compensated(left: Left) -> str:
    """What nobody has undone, for people."""
    calls, ended = dict[int, str](), list[int]()
    for chunk in left.chunks:
        for entry in json.loads(chunk):
            if entry["k"] == EntryKind.CALL and str(entry.get("a", "")).startswith(_EFFECTS):
                calls[entry["c"]] = str(entry.get("l", entry["a"]))
            elif entry["k"] == EntryKind.DONE and entry.get("c") in calls:
                ended.append(entry["c"])
    if not ended:
        return "No task of it had ended, so there was nothing to compensate."
    named = ", ".join(calls[call] for call in ended[:MOST_NAMED]) + (
        f" and {len(ended) - MOST_NAMED} more" if len(ended) > MOST_NAMED else ""
    )
    return f"Nothing was compensated: no `finally` and no saga of it ran, and what it had done stands: {named}."


def _carries(serving: Serving, run: Unheard, build: str) -> frozenset[tuple[str, str]]:
    return serving.by_build.get(BuildKey(run.namespace, run.pool, build), frozenset())
