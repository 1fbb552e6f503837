"""A background loop that survives its errors and tells whether it lives.

A turn that fails is logged and repeated after a growing pause. `turned_at` is when the last turn ended well: health means that
this was not long ago, not that the process is there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0


class Loop:
    """Repeats `turn`, which itself waits for something to do. `patience`: seconds without a good turn that are too many."""

    def __init__(self, name: str, turn: Callable[[], Awaitable[None]], *, patience: float) -> None:
        self.name = name
        self.errors = 0
        self.turned_at = time.monotonic()
        self._turn = turn
        self._patience = patience

    @property
    def healthy(self) -> bool:
        """Whether a turn ended well lately."""
        return time.monotonic() - self.turned_at < self._patience

    async def run(self) -> None:
        """Turn until cancelled."""
        pause = FIRST_PAUSE
        while True:
            try:
                await self._turn()
            except Exception:
                self.errors += 1
                log.exception("loop failed", extra={"loop": self.name, "retry_in_seconds": pause})
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                self.turned_at = time.monotonic()
                pause = FIRST_PAUSE
