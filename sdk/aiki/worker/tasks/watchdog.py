"""Sees what blocks the worker's loop, from another thread: workflow code that does not come back is interrupted, a task is named in the log.

Looks once a tick, and only while there are runs in hand: an idle worker's loop is not woken. What counts is what stopwatch.py says: a slow machine
blocks nothing.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from aiki.values.names import place_in_thread
from aiki.worker.tasks.blocking_guard import BlockingGuard
from aiki.worker.tasks.stopwatch import Stopwatch, cpu_clock

log = logging.getLogger("aiki.worker")


class Watchdog:
    """Made in the loop's thread; `look` is called from another, once a tick."""

    def __init__(
        self,
        *,
        guard: BlockingGuard,
        active: Callable[[], int],
        patience_seconds: float,
        tick_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] | None = None,
    ) -> None:
        self._guard = guard
        self._active = active
        self._patience_seconds = patience_seconds
        self._loop: Final = asyncio.get_running_loop()
        self._thread: Final = threading.get_ident()
        started = partial(Stopwatch, clock=clock, cpu=cpu or cpu_clock(self._thread), tick_seconds=tick_seconds)
        self._started: Final[Callable[[], Stopwatch]] = started
        self._running: tuple[int, Stopwatch] | None = None
        self._interrupted: int | None = None
        self._asked: Stopwatch | None = None
        self._told = False
        self.interrupted = 0
        """How often workflow code was interrupted."""
        self.blocked = 0
        """How often something else blocked the loop for as long."""

    def look(self) -> None:
        """Compare with the last look."""
        if not self._interrupt_workflow():
            self._look_at_loop()

    def _interrupt_workflow(self) -> bool:
        """Interrupt workflow code that has been settling for too long; whether some is settling at all."""
        serial = self._guard.running
        if serial is None:
            self._running = None
            return False
        if self._running is None or self._running[0] != serial:
            self._running = (serial, self._started())
        elif self._running[1].look() >= self._patience_seconds:
            place = self._guard.interrupt(serial)
            # Code that waits in C hears of it when it comes back; until then it is asked again at each look, and that is no news.
            if place is not None and self._interrupted != serial:
                self._interrupted = serial
                self.interrupted += 1
                log.error(
                    "workflow code blocked the loop and was interrupted", extra={"location": place, "seconds": self._patience_seconds}
                )
        return True

    def _look_at_loop(self) -> None:
        asked = self._asked  # the loop's thread clears it
        if asked is None:
            self._told = False
            if self._active():
                self._asked = self._started()
                self._call_soon()
        elif not self._told and (seconds := asked.look()) >= self._patience_seconds:
            self._told = True
            self.blocked += 1
            place = place_in_thread(self._thread)
            log.error(
                "the worker's loop is blocked: an async task does what belongs into a thread; make it a `def` task, or await",
                extra={"location": place, "seconds": round(seconds, 1)},
            )

    def _call_soon(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._came_round)
        except RuntimeError:
            log.debug("loop closed before its watchdog")

    def _came_round(self) -> None:
        self._asked = None
