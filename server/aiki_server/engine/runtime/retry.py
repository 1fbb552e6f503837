"""Repeats what Postgres undid or may not have done: collisions at once, lost connections after a pause.

For idempotent turns only: after a connection is lost during a commit nobody knows whether it took place.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiki.shared.backoff import backoff_seconds
from aiki.shared.redaction import described
from aiki_server.model.failures import COLLIDED, LOST

Result = TypeVar("Result")

ATTEMPTS = 7
"""The first at once, the second without a pause, the others after pauses that are together less than the patience of a client."""
FIRST_PAUSE_SECONDS = 0.1


class DatabaseAwayError(Exception):
    """Postgres cannot be reached; whether the last attempt was written is not known."""


async def repeated(turn: Callable[[], Awaitable[Result]]) -> Result:
    """The result of `turn`, attempted again while Postgres is away or transactions collide."""
    for failures in range(ATTEMPTS - 1):
        try:
            return await turn()
        except COLLIDED:
            await asyncio.sleep(random.random() * 0.01)  # noqa: S311  so that the two do not meet again
        except LOST:
            pause = backoff_seconds(failures, random.random(), base_seconds=FIRST_PAUSE_SECONDS)  # noqa: S311  jitter, not a secret
            await asyncio.sleep(pause)
    try:
        return await turn()
    except LOST as error:
        raise DatabaseAwayError(f"the database is away: {described(error)}") from error
