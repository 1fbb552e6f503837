"""Deletes ended runs past their age, with everything that belongs to them, in small batches and without haste."""

from __future__ import annotations

import asyncio
import logging

from aiki.protocol import TERMINAL
from aiki_server.store.connections import Pool
from aiki_server.store.queries import sweeps

log = logging.getLogger(__name__)

LIMIT = 500
PERIOD = 60.0
BREATH = 0.05
"""Seconds between two batches, so that others get to write."""


class Retention:
    """`turn` has to be repeated by a Loop. Without `days`, nothing is ever deleted."""

    def __init__(self, pool: Pool, *, days: float | None) -> None:
        self.deleted = 0
        self._pool = pool
        self._days = days

    async def turn(self) -> None:
        """Delete what is too old, then wait."""
        if self._days is not None:
            await self.retire(self._days)
        await asyncio.sleep(PERIOD)

    async def retire(self, days: float) -> int:
        """Delete everything that ended longer ago; how many runs."""
        async with self._pool.acquire() as db:
            namespaces = await sweeps.namespaces(db)
        deleted = 0
        for namespace in namespaces:
            for status in sorted(TERMINAL):
                deleted += await self._retire(namespace, status, days)
        if deleted:
            self.deleted += deleted
            log.info("old runs deleted", extra={"runs": deleted})
        return deleted

    async def _retire(self, namespace: str, status: str, days: float) -> int:
        deleted = 0
        while True:
            async with self._pool.acquire() as db:
                batch = await sweeps.retire(db, namespace=namespace, status=status, days=days, limit=LIMIT)
            deleted += batch
            if batch < LIMIT:
                return deleted
            await asyncio.sleep(BREATH)
