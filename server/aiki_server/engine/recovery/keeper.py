"""Keeps watch over the incarnation of the data, and rebuilds Redis once for each.

A stream may hold ids of runs that are no more, and as many of them as runs are queued: then nobody would see that those are missing in it. So after a restore
the streams go, and are filled from Postgres. A server that dies in between leaves the rebuilding to the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

from aiki_server.engine.redis.circuit import Circuit
from aiki_server.engine.redis.consumers import delete_streams
from aiki_server.store import archive
from aiki_server.store.connections import Pool
from aiki_server.store.incarnations import Incarnations, rung


class Keeper:
    """`turn` has to be repeated by a Loop. `streams` gives the names of all there are; `rung` is called when they have to be filled."""

    def __init__(
        self,
        pool: Pool,
        incarnations: Incarnations,
        circuit: Circuit,
        *,
        streams: Callable[[], Iterable[str]],
        rung: Callable[[], None],
        period: float,
    ) -> None:
        self._pool = pool
        self._incarnations = incarnations
        self._circuit = circuit
        self._streams = streams
        self._rung = rung
        self._period = period
        self._soon = asyncio.Event()
        self.archive_fails = False
        """Whether Postgres failed to hand on its log when it tried last."""

    def hurry(self) -> None:
        """The data are in another incarnation."""
        self._soon.set()

    async def turn(self) -> None:
        """Look at the data, rebuild Redis if that is to be done; then wait a while."""
        self._soon.clear()
        async with self._pool.acquire() as db:
            await self._incarnations.beat(db)
            self.archive_fails = await archive.failing(db)
        await self._rebuild()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._period):
                await self._soon.wait()

    async def _rebuild(self) -> None:
        current = self._incarnations.current
        if current is None or current.rung or not self._circuit.usable:
            return
        if await delete_streams(self._circuit, self._streams()):
            async with self._pool.acquire() as db:
                await rung(db, current.token)
            self._rung()
