"""Forgets what was registered and nobody needs any more, so that a namespace's quota, and the snapshots of all servers, do not fill up for good (S41).

A registration is used while a worker that is there carries it, or a run that has not ended needs it: the same build where the run stays on one, else any
that carries its version. That is looked up, rarely, and noted at the registration; starts and claims write nothing. A named build goes as a whole.
What is in a pool whose settings somebody has set within the time is kept, needed or not: so the operator keeps the builds of a pool that rests at
zero, of which a start must find where it goes.

A start may be placed at a registration at the moment at which it goes. Such a run waits, as one of a workflow that nobody has registered does, for a worker that carries it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from aiki_server.engine.workers.registry import Registry
from aiki_server.store.connections import Pool
from aiki_server.store.queries import pools, unused

log = logging.getLogger(__name__)

PERIOD = 600.0
FRESH_SHARE = 0.1
"""Of the days: for so long it need not be said again that something is used."""


class Unused:
    """`turn` has to be repeated by a Loop. Without `days`, nothing is ever forgotten."""

    def __init__(self, pool: Pool, registry: Registry, *, days: float | None, announce: Callable[[], None]) -> None:
        self._pool = pool
        self._registry = registry
        self._days = days
        self._announce = announce

    async def turn(self) -> None:
        """Forget what is not needed, then wait."""
        if self._days is not None:
            await self.forget(self._days)
        await asyncio.sleep(PERIOD)

    async def forget(self, days: float) -> int:
        """Note what is used, and forget what has not been for so long; how many registrations."""
        async with self._pool.acquire() as db:
            for namespace in await unused.stale(db, days=days * FRESH_SHARE):
                await unused.use(db, namespace, await pools.open_runs(db, namespace), days=days * FRESH_SHARE)
            async with db.transaction():
                gone = await unused.forget(db, days=days)
        if gone:
            log.info("unused registrations forgotten", extra={"registrations": gone})
            await self._registry.renew()
            self._announce()
        return gone
