"""The threads of `def` tasks: so many places, and replacements for threads that are lost.

Nothing can interrupt a thread. A function that outlives its timeout, or its run, goes on unheard, and its thread is lost until it returns. The next
function gets a new thread in its place, up to SPARE of them: a few functions that hang must not keep all others from running (S41: and not
without bound). Beyond that the worker is of no use to `def` tasks any more, which `on_change` is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

log = logging.getLogger("aiki.worker")

SPARE: Final = 64
"""How many lost threads are replaced."""
T = TypeVar("T")


class NotBegun(Exception):
    """The function was not called: the lease was in doubt when it was about to be, or there is no thread left for it."""


class Threads:
    """Made and used in the worker's loop, until `close`."""

    def __init__(self, places: int, *, on_change: Callable[[], None], spare: int = SPARE) -> None:
        self._loop: Final = asyncio.get_running_loop()
        self._on_change: Final = on_change
        self._spare: Final = spare
        self._pool: Final = ThreadPoolExecutor(places + spare, thread_name_prefix="aiki-task")
        self._free = places
        self._waiters: Final[deque[asyncio.Future[None]]] = deque()
        self._lost: Final[dict[Future[Any], str]] = {}
        self.busy = 0

    @property
    def exhausted(self) -> bool:
        """Whether more threads are lost than are replaced."""
        return len(self._lost) > self._spare

    def lost(self) -> dict[str, int]:
        """How many threads each task has lost, by its name."""
        return dict(Counter(self._lost.values()))

    async def place(self) -> None:
        """Wait for a free thread: it is the caller's, for `run`. NotBegun where so many are lost that there is none to wait for."""
        if self.exhausted:
            raise NotBegun
        if self._free > 0:
            self._free -= 1
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._release()  # it was ours already
            raise

    async def run(self, name: str, call: Callable[[], T]) -> T:
        """What `call` returns in the thread that was waited for. Where the caller is cancelled meanwhile, it is lost until `call` returns."""
        self.busy += 1
        future = self._pool.submit(call)
        # The thread is free when the function has returned, not when we have stopped waiting for it.
        future.add_done_callback(self._ended)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.done():
                self._lose(future, name)
            raise

    def close(self) -> None:
        """Let go of the threads: those still busy end with their function."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _lose(self, future: Future[Any], name: str) -> None:
        self._lost[future] = name
        log.warning("thread is lost: its task is over and its function goes on", extra={"task": name, "lost": self.lost()})
        if not self.exhausted:
            self._release()
        elif len(self._lost) == self._spare + 1:
            self._on_change()
            while self._waiters:
                waiter = self._waiters.popleft()
                if not waiter.done():
                    waiter.set_exception(NotBegun())

    def _release(self) -> None:
        """To whoever has waited longest."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1

    def _ended(self, future: Future[Any]) -> None:
        """In the thread, or where the future was cancelled before it began."""
        try:
            self._loop.call_soon_threadsafe(self._take_back, future)
        except RuntimeError:
            log.debug("thread of a task ended after its loop")

    def _take_back(self, future: Future[Any]) -> None:
        self.busy -= 1
        replaced = future in self._lost and not self.exhausted
        was_exhausted = self.exhausted
        self._lost.pop(future, None)
        if not replaced:
            self._release()
        if was_exhausted and not self.exhausted:
            self._on_change()
