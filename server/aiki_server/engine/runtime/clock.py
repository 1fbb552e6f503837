"""The database's clock, estimated between readings: for telling workers the time, never for a decision that is written.

It is carried by the monotonic clock, so a step of this machine's wall clock changes nothing (S21).
"""

from __future__ import annotations

import time
from datetime import datetime

from aiki_server.model.instants import micros


class DatabaseClock:
    """`now` in microseconds by Postgres's clock, good to some milliseconds."""

    def __init__(self) -> None:
        self._offset = time.time_ns() // 1_000 - time.monotonic_ns() // 1_000

    def read(self, now: int) -> None:
        """Postgres says that it is `now`."""
        self._offset = now - time.monotonic_ns() // 1_000

    def now(self) -> int:
        """The estimate."""
        return time.monotonic_ns() // 1_000 + self._offset

    def is_ahead(self, at: datetime) -> bool:
        """Whether `at` is still to come. A run that is judged due too early by the estimate's error waits nowhere."""
        return micros(at) > self.now()
