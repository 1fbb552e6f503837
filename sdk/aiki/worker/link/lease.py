"""Whether the runs in hand are still ours, as far as this process can know.

The server gives them to others when it has not heard from the worker for `seconds` by its own clock. The worker counts from the moment it *sent*
the last heartbeat that was acknowledged, and stops starting effects a margin earlier; so a worker that was frozen or cut off starts nothing
that another may be running (S6). CLOCK_MONOTONIC goes on while a process is stopped, which is what is wanted.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class WorkerLease:
    """One lease for all runs of a worker."""

    __slots__ = ("_clock", "_until", "seconds")

    def __init__(self, seconds: float, *, sent_at: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.seconds = seconds
        self.renewed(sent_at)

    def renewed(self, sent_at: float) -> None:
        """The heartbeat sent at this instant of the monotonic clock was acknowledged."""
        margin_seconds = self.seconds / 5
        self._until = sent_at + self.seconds - margin_seconds

    def is_long_gone(self) -> bool:
        """Whether the server has been silent for two leases: it is gone, or has given the runs to others long ago."""
        return self._clock() > self._until + self.seconds * 6 / 5

    def holds(self) -> bool:
        """Whether effects may be started."""
        return self._clock() < self._until
