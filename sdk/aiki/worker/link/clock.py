"""The database's time, estimated in the worker: the `now` of its latest answer plus what has passed here since then.

`now` was read before the answer arrived, so the estimate is never ahead of the database: a timer that is due here is due there (S19),
whatever this machine's own clock shows (S21). Written by the heartbeat thread and by the loop: one tuple, replaced whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from aiki.protocol import Micros


class DatabaseClockEstimate:
    """Microseconds since the epoch by the database's clock, and a little behind it."""

    __slots__ = ("_elapsed", "_mark")

    def __init__(self, now: Micros, *, elapsed_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._elapsed = elapsed_ns
        self._mark = (now, elapsed_ns())

    def observe(self, now: Micros) -> None:
        """Take the `now` of an answer that has just arrived."""
        self._mark = (now, self._elapsed())

    def now(self) -> Micros:
        """The estimate."""
        now, at = self._mark
        return now + (self._elapsed() - at) // 1_000
