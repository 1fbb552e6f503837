"""How long the loop's thread has really been held up: by code that computes, or by code that waits and gives the loop nothing to do.

Wall time says nothing on a machine that is slow: a process that gets a tenth of a core, or that was stopped for a while, needs ten times as long for the
same code. So computing is judged by the CPU time of the thread, and standing still by the time in which it got none although this process
was given some: the looks come about as often as they should, which they do not in a process that is throttled.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

IDLE_SHARE: Final = 0.01
"""A thread that got less of the CPU than this between two looks has waited for something."""


class Stopwatch:
    """Started when something begins; `look` is called about once in `tick_seconds`, and says how long it has been held up by then."""

    __slots__ = ("_clock", "_cpu", "_cpu_at", "_cpu_last", "_idle_seconds", "_last", "_tick_seconds")

    def __init__(self, *, clock: Callable[[], float], cpu: Callable[[], float], tick_seconds: float) -> None:
        self._clock = clock
        self._cpu = cpu
        self._tick_seconds = tick_seconds
        self._last = clock()
        self._cpu_at = self._cpu_last = cpu()
        self._idle_seconds = 0.0

    def look(self) -> float:
        """Seconds of CPU, or seconds without any, whichever is more."""
        now, used = self._clock(), self._cpu()
        passed, worked = now - self._last, used - self._cpu_last
        self._last, self._cpu_last = now, used
        if worked < IDLE_SHARE * passed:
            # A look that is late was held up itself: no more than one tick of it is the code's.
            self._idle_seconds += min(passed, 1.5 * self._tick_seconds)
        return max(used - self._cpu_at, self._idle_seconds)


def cpu_clock(thread: int) -> Callable[[], float]:
    """The CPU seconds that a thread of this process has used; where the system does not tell (macOS), those that have passed."""
    clock_of = getattr(time, "pthread_getcpuclockid", None)
    if clock_of is None:
        return time.monotonic
    number = clock_of(thread)
    return lambda: time.clock_gettime(number)
