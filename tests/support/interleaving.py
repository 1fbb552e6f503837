"""A scheduler of statements: parties and servers work side by side, and at each moment a random one of their statements goes to Postgres.

Every statement of every server waits at the gate, `BEGIN` and `COMMIT` included, until the scheduler lets it through; the next goes when it has been
answered, or when it waits for a lock that another one holds. One seed is one order, as far as Postgres answers alike.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from random import Random
from typing import Any

import asyncpg
import pytest

from aiki_server.store import connections

LOCKED_SECONDS = 0.02
"""A statement that is not answered within this is taken to wait for a lock."""
HUNG_SECONDS = 20.0


class Gate:
    """Where statements wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._answered = asyncio.Event()
        self._open = False
        for name in ("fetch", "fetchrow", "fetchval", "execute"):
            monkeypatch.setattr(connections._Connection, name, self._gated(getattr(asyncpg.Connection, name)))

    def _gated(self, method: Any) -> Any:
        async def wait_and_call(connection: Any, *arguments: Any, **options: Any) -> Any:
            await self._enter()
            try:
                return await method(connection, *arguments, **options)
            finally:
                self._answered.set()

        return wait_and_call

    async def _enter(self) -> None:
        if self._open:
            return
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(admitted)
        await admitted

    async def let_one_through(self, random: Random) -> bool:
        """Whether there was one; it has been answered by then, or waits for a lock."""
        self._waiting = [admitted for admitted in self._waiting if not admitted.done()]
        if not self._waiting:
            return False
        self._answered.clear()
        self._waiting.pop(random.randrange(len(self._waiting))).set_result(None)
        self.passed += 1
        try:
            async with asyncio.timeout(LOCKED_SECONDS):
                await self._answered.wait()
        except TimeoutError:
            return True
        return True

    def open(self) -> None:
        """Hold nobody any more."""
        self._open = True
        for admitted in self._waiting:
            if not admitted.done():
                admitted.set_result(None)


async def interleave(gate: Gate, parties: Sequence[Awaitable[None]], random: Random) -> None:
    """Until all parties are done; raises what one of them raises, and TimeoutError where they wait for each other."""
    tasks = [asyncio.ensure_future(party) for party in parties]
    moved_at = time.monotonic()
    try:
        while pending := [task for task in tasks if not task.done()]:
            await asyncio.wait(pending, timeout=0)
            for _ in range(random.randrange(1, 20)):  # as much of the parties' own work as chance gives them
                await asyncio.sleep(0)
            if await gate.let_one_through(random):
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > HUNG_SECONDS:
                raise TimeoutError(f"nothing has moved for {HUNG_SECONDS} s")
            else:
                await asyncio.sleep(0.001)
        for task in tasks:
            task.result()
    finally:
        gate.open()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
