"""Waiting for runs to end: whoever asks is woken by the lane that ends the run, here or (by Redis) on another replica.

The waiter is there before the first look into Postgres, so an end in between is not missed; a run that was queued here a moment ago
is given a moment to end before that look. If every message is lost, one query a second for all waited-for runs finds out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from uuid import UUID

from aiki.protocol import TERMINAL
from aiki_server.engine.runtime.batcher import Batcher
from aiki_server.model.keys import RunKey
from aiki_server.model.rows import Ended
from aiki_server.store.connections import Pool
from aiki_server.store.queries import runs

FALLBACK_SECONDS = 1.0
TELLING_SECONDS = 0.2
"""Whoever is told of an end, or finds it, while the fallback looks has heard within this; whoever has not is rescued."""
MOMENT_SECONDS = 0.01
MOST_OPEN = 20_000


class Results:
    """`wait` for a run; `reader` and `turn` have to be running."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: dict[RunKey, set[asyncio.Future[Ended | None]]] = {}
        self._open: dict[RunKey, None] = {}
        self.rescued = 0
        """How many waited for an end that nobody told them of."""
        self._draining = False
        self._somebody = asyncio.Event()
        self.reader: Batcher[RunKey, Ended | None] = Batcher("reads of results", self._read)

    async def wait(self, run: RunKey, *, seconds: float) -> Ended | None:
        """The run as it is once it has ended, or at the deadline; None if there is no such run."""
        woken: asyncio.Future[Ended | None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(run, set())
        waiting.add(woken)
        self._somebody.set()
        try:
            return await self._look_then_wait(run, woken, seconds)
        finally:
            waiting.discard(woken)
            if not waiting and self._waiting.get(run) is waiting:
                del self._waiting[run]

    async def _look_then_wait(self, run: RunKey, woken: asyncio.Future[Ended | None], seconds: float) -> Ended | None:
        if run in self._open and seconds > MOMENT_SECONDS:
            await asyncio.wait((woken,), timeout=MOMENT_SECONDS)
            if woken.done() and (end := woken.result()) is not None:
                return end
            seconds -= MOMENT_SECONDS
        (found,) = await self.reader.put([run])
        if found is None:
            return None
        if found.status in TERMINAL or seconds <= 0 or self._draining:
            return found
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if (end := await woken) is not None:
                    return end
        (found,) = await self.reader.put([run])  # as it is now, not as it was when the poll began
        return found

    def queued(self, runs: Iterable[UUID], *, namespace: str) -> None:
        """These runs go on now, and some will end soon. Only a hint, held up to a bound."""
        self._open.update(dict.fromkeys(RunKey(namespace, run) for run in runs))
        while len(self._open) > MOST_OPEN:
            del self._open[next(iter(self._open))]

    def ended(self, ends: Iterable[Ended]) -> None:
        """These runs ended, and this is how."""
        for end in ends:
            run = RunKey(end.namespace, end.id)
            self._open.pop(run, None)
            for woken in self._waiting.get(run, ()):
                if not woken.done():
                    woken.set_result(end)

    async def ended_elsewhere(self, ids: Iterable[UUID], *, namespace: str) -> None:
        """Another replica ended these runs: look how, if somebody here waits for them."""
        if waited := [run for run in (RunKey(namespace, id_) for id_ in ids) if run in self._waiting]:
            self._wake(await self.reader.put(waited))

    def drain(self) -> None:
        """Let nobody wait any more: the process is about to end."""
        self._draining = True
        for waiting in self._waiting.values():
            for woken in waiting:
                if not woken.done():
                    woken.set_result(None)

    async def turn(self) -> None:
        """Once a second, if anybody waits: how do these runs do?"""
        await self._somebody.wait()
        await asyncio.sleep(FALLBACK_SECONDS)
        if not self._waiting:
            self._somebody.clear()
            return
        ends = [end for end in await self.reader.put(list(self._waiting)) if end is not None and end.status in TERMINAL]
        if untold := [woken for end in ends for woken in self._waiting.get(RunKey(end.namespace, end.id), ()) if not woken.done()]:
            await asyncio.wait(untold, timeout=TELLING_SECONDS)
            self.rescued += sum(not woken.done() for woken in untold)
            self.ended(ends)

    @property
    def waiters(self) -> int:
        """How many wait."""
        return sum(len(waiting) for waiting in self._waiting.values())

    def _wake(self, found: Iterable[Ended | None]) -> None:
        self.ended(end for end in found if end is not None and end.status in TERMINAL)

    async def _read(self, wanted: list[RunKey]) -> list[Ended | None]:
        async with self._pool.acquire() as db:
            found = await runs.results(db, set(wanted))
        return [found.get(run) for run in wanted]
