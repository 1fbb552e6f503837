"""Waiting for a database that is not reached: one that is only just starting, or a network that does not let a new pod through yet."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiki.shared.backoff import backoff_seconds
from aiki_server.model.failures import LOST, MISCONFIGURED

Result = TypeVar("Result")

FIRST_PAUSE_SECONDS = 0.1

log = logging.getLogger(__name__)


async def reached(turn: Callable[[], Awaitable[Result]], *, seconds: float) -> Result:
    """The result of `turn`, tried again for so long while the database is away. Then, or if its URL makes no sense, what the last try raised."""
    ends, failures = time.monotonic() + seconds, 0
    while True:
        try:
            return await turn()
        except MISCONFIGURED:
            raise
        except LOST as error:
            failures += 1
            pause = backoff_seconds(failures, random.random(), base_seconds=FIRST_PAUSE_SECONDS)  # noqa: S311  jitter, not a secret
            if time.monotonic() + pause > ends:
                raise
            log.warning("database not reached", extra={"error": error, "retry_in_seconds": round(pause, 3)})
        await asyncio.sleep(pause)
