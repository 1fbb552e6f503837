"""Runs whose time has come. Sleeps until the next one is due, or until a lane says that it parked an earlier one.

Due is judged by the database's clock in the statement that moves the run (S19); this machine's clock only decides how long to
sleep. Several replicas may fire at once: each run is moved by one of them (SKIP LOCKED).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

from aiki_server.engine.commit.after_commit import Effects
from aiki_server.engine.runtime.clock import DatabaseClock
from aiki_server.model.entries import AROUND_THE_INSTANT
from aiki_server.model.instants import micros
from aiki_server.store.connections import Pool
from aiki_server.store.queries import timers

LIMIT = 1_000
LONGEST_SLEEP = 10.0
"""Another replica may have parked a run and died before it was due."""
COLLISION_PAUSE = 0.02
"""When what is due is locked by somebody else."""


class Timers:
    """`turn` has to be repeated by a Loop; `hint` shortens its sleep."""

    def __init__(self, pool: Pool, *, clock: DatabaseClock, after: Callable[[Effects], None]) -> None:
        self.lateness = 0.0
        self._pool = pool
        self._clock = clock
        self._after = after
        self._wake_at = 0.0
        self._woken = asyncio.Event()

    def hint(self, due_at: datetime) -> None:
        """Something is due at `due_at`."""
        at = time.monotonic() + (micros(due_at) - self._clock.now()) / 1e6
        if at < self._wake_at:
            self._wake_at = at
            self._woken.set()

    def hurry(self) -> None:
        """Anything may be due."""
        self._wake_at = 0.0
        self._woken.set()

    async def turn(self) -> None:
        """Move what is due; then sleep until something is."""
        # From here on every hint counts: it may be about a run that the query below is too early to see.
        self._wake_at = time.monotonic() + LONGEST_SLEEP
        async with self._pool.acquire() as db:
            fired = await timers.fire(db, limit=LIMIT, entry=AROUND_THE_INSTANT)
            seconds = await timers.next_due(db) if len(fired) < LIMIT else 0.0
        self._tell(fired)
        if len(fired) == LIMIT:
            return
        if seconds is not None:
            self._wake_at = min(self._wake_at, time.monotonic() + max(seconds, 0.0 if fired else COLLISION_PAUSE))
            self.lateness = max(-seconds, 0.0)
        await self._sleep()

    async def _sleep(self) -> None:
        while (left := self._wake_at - time.monotonic()) > 0:
            self._woken.clear()
            try:
                async with asyncio.timeout(left):
                    await self._woken.wait()
            except TimeoutError:
                return

    def _tell(self, fired: list[timers.Queued]) -> None:
        effects = Effects()
        for run in fired:
            effects.ring((run.namespace, run.pool, run.workflow, run.version, run.build), run.id)
        self._after(effects)
