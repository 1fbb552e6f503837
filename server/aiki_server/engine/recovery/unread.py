"""Queued runs that nobody serves: no live worker waits where they are rung, nor would a poll give them to one.

Nothing is wrong with such a run, and nothing will come of it: a pool whose workers are all gone, a version that nobody carries any more, a build
that a run stays on. A pool at zero has some for a moment, so each is told with its age, and whoever is told judges.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from aiki_server.engine.commit.after_commit import Place
from aiki_server.engine.workers.registry import Registry
from aiki_server.model.sweeps import Backlog

log = logging.getLogger(__name__)

SAID_AFTER_SECONDS = 15.0
MOST_KINDS = 50
"""Of each namespace of which figures are kept; those that have waited longest."""
STEP_SECONDS = 0.002
MOST_SAID = 200
"""Of which it is remembered that they were logged."""


class Kind(NamedTuple):
    """What is counted together."""

    namespace: str
    workflow: str
    version: str


class Waiting(NamedTuple):
    """How many runs, and for how long the oldest has been queued."""

    runs: int
    oldest_seconds: float


class Unserved:
    """`look` is called by the sweeper; `found` is what it saw last."""

    def __init__(self, registry: Registry) -> None:
        self.found: dict[Kind, Waiting] = {}
        self._registry = registry
        self._said: set[Place] = set()

    async def look(self, backlogs: Iterable[Backlog]) -> None:
        """Which of these nobody serves. There may be thousands, so others have their turn meanwhile."""
        unserved: list[Backlog] = []
        began = time.perf_counter()
        for one in backlogs:
            if not self._registry.readers(one.place).live:
                unserved.append(one)
            if time.perf_counter() - began > STEP_SECONDS:
                await asyncio.sleep(0)
                began = time.perf_counter()
        unserved.sort(key=lambda one: -one.oldest_seconds)
        found: dict[Kind, Waiting] = {}
        kinds = Counter[str]()
        for one in unserved:
            kind = Kind(one.namespace, one.workflow, one.version or "")
            if kind in found or kinds[one.namespace] < MOST_KINDS:
                kinds[one.namespace] += kind not in found
                runs, oldest = found.get(kind, (0, 0.0))
                found[kind] = Waiting(runs + one.runs, max(oldest, one.oldest_seconds))
        self.found = found
        late = {one.place for one in unserved[:MOST_SAID] if one.oldest_seconds >= SAID_AFTER_SECONDS}
        for namespace, pool, workflow, version, build in late - self._said:
            log.warning(
                "queued runs that no worker serves",
                extra={"namespace": namespace, "pool": pool, "workflow": workflow, "version": version, "build": build},
            )
        self._said = late
