"""A background loop that survives its errors and tells whether it lives.

A turn that fails is logged and repeated after a growing pause. `turned_at` is when the last turn ended well: health means that
this was not long ago, not that the process is there.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from aiki.shared.backoff import backoff_seconds

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0


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
        failures = 0
        while True:
            try:
                await self._turn()
            except Exception:
                self.errors += 1
                failures += 1
                pause = backoff_seconds(
                    failures,
                    random.random(),  # noqa: S311  jitter, not a secret
                    base_seconds=FIRST_PAUSE_SECONDS,
                    max_seconds=LONGEST_PAUSE_SECONDS,
                )
                log.exception("loop failed", extra={"loop": self.name, "retry_in_seconds": round(pause, 3)})
                await asyncio.sleep(pause)
            else:
                self.turned_at = time.monotonic()
                failures = 0
