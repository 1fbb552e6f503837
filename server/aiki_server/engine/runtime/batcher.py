"""Group commit: whatever arrives while a batch is under way goes into the next one; nothing waits on a timer.

A request's items stay together and are answered together. If a batch fails for a reason that may lie in one of its items,
the entries are tried one by one, so that one bad item fails its own request only; unless they may have had their effect already
and must not be tried again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from aiki_server.engine.runtime.histogram import Histogram

Item = TypeVar("Item")
Answer = TypeVar("Answer")

MAX_QUEUED = 50_000
"""Beyond this the server says 503 rather than grow."""


class OverloadedError(Exception):
    """More work is queued than this server takes on."""


class Batcher(Generic[Item, Answer]):
    """Answers items by `apply`, many at once, one batch at a time. `run` has to be running somewhere."""

    def __init__(
        self, name: str, apply: Callable[[list[Item]], Awaitable[list[Answer]]], *, limit: int = 2_000, repeatable: bool = True
    ) -> None:
        self.name = name
        self.batches = 0
        self.items = 0
        self.seconds = Histogram()
        """How long a batch took."""
        self._apply = apply
        self._limit = limit
        self._repeatable = repeatable
        self._queue: deque[tuple[list[Item], asyncio.Future[list[Answer]]]] = deque()
        self._queued = 0
        self._arrived = asyncio.Event()

    @property
    def queued(self) -> int:
        """How many wait to be written."""
        return self._queued

    def put(self, items: list[Item]) -> asyncio.Future[list[Answer]]:
        """The answers to these items, in order."""
        if self._queued >= MAX_QUEUED:
            raise OverloadedError(f"{self._queued} {self.name} wait to be written")
        answered: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._queue.append((items, answered))
        self._queued += len(items)
        self._arrived.set()
        return answered

    async def run(self) -> None:
        """Work on batches until cancelled; what is queued then is told so."""
        try:
            while True:
                await self._arrived.wait()
                await self._work(self._take())
        finally:
            for _, answered in self._queue:
                answered.cancel()
            self._queue.clear()

    def _take(self) -> list[tuple[list[Item], asyncio.Future[list[Answer]]]]:
        taken: list[tuple[list[Item], asyncio.Future[list[Answer]]]] = []
        size = 0
        while self._queue and (not taken or size + len(self._queue[0][0]) <= self._limit):
            entry = self._queue.popleft()
            self._queued -= len(entry[0])
            if entry[1].done():  # whoever asked went away before anything was done
                continue
            size += len(entry[0])
            taken.append(entry)
        if not self._queue:
            self._arrived.clear()
        return taken

    async def _work(self, entries: list[tuple[list[Item], asyncio.Future[list[Answer]]]]) -> None:
        if not entries:
            return
        began = time.perf_counter()
        try:
            answers = await self._apply([item for items, _ in entries for item in items])
        except asyncio.CancelledError:
            for _, answered in entries:
                answered.cancel()
            raise
        except Exception as error:  # noqa: BLE001  a Loop turn: whoever asked gets the error and logs it
            await self._isolate(entries, error)
            return
        self.seconds.observe(time.perf_counter() - began)
        self.batches += 1
        self.items += len(answers)
        start = 0
        for items, answered in entries:
            if not answered.done():
                answered.set_result(answers[start : start + len(items)])
            start += len(items)

    async def _isolate(self, entries: list[tuple[list[Item], asyncio.Future[list[Answer]]]], error: Exception) -> None:
        if self._repeatable and len(entries) > 1 and not isinstance(error, OverloadedError):
            for entry in entries:
                await self._work([entry])
            return
        for _, answered in entries:
            if not answered.done():
                answered.set_exception(error)
