"""The runs that a roll-out drew for a build: how they fare, and what becomes of them when it is over.

A run that was drawn stays on the build for as long as the build has a share. Afterwards, in a pool that pins none, it is the pool's again: whoever serves
its version takes it, which is the same build where that has taken over, and the former one where it was taken back. What a `Pinned` pool promised is kept.

Who starts a run reads a snapshot and may draw for a build whose share has just ended, so every sweep looks again. There is nothing to look at where nothing is rolled out.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from aiki.protocol import Status
from aiki_server.engine.commit.after_commit import Effects
from aiki_server.model.keys import BuildKey
from aiki_server.store.connections import Db, Pool
from aiki_server.store.queries import trials
from aiki_server.store.queries.trials import Figures

AT_ONCE = 1_000
NEWEST = 10_000
"""Of so many runs it is looked at how they fare."""
FIGURES_AGE = 2.0


class Trials:
    """`let_go` is called by the sweeper, and by whoever ends a share."""

    def __init__(self, pool: Pool, *, after: Callable[[Effects], None]) -> None:
        self._pool = pool
        self._after = after
        self._figures: dict[BuildKey, tuple[float, Figures]] = {}

    async def let_go(self) -> int:
        """Free the runs of shares that have ended; how many. A page after the other, each in a transaction of its own."""
        count, looked_at = 0, AT_ONCE
        while looked_at == AT_ONCE:
            async with self._pool.acquire() as db:
                looked_at, freed = await trials.let_go(db, limit=AT_ONCE)
            count += len(freed)
            effects = Effects()
            for run in freed:
                if run.status == Status.QUEUED:
                    effects.ring((run.namespace, run.pool, run.workflow, run.version, run.build), run.id)
            self._after(effects)
        return count

    async def figures(self, db: Db, build: BuildKey) -> Figures:
        """How the runs fare that were drawn for a build, as of a moment ago."""
        read_at, found = self._figures.get(build, (0.0, Figures(0, 0, 0)))
        if time.monotonic() - read_at > FIGURES_AGE:
            found = await trials.figures(db, *build, newest=NEWEST)
            self._figures = {key: one for key, one in self._figures.items() if time.monotonic() - one[0] <= FIGURES_AGE}
            self._figures[build] = (time.monotonic(), found)
        return found
