"""Repeats what Postgres undid or may not have done: collisions at once, lost connections after a pause.

For idempotent turns only: after a connection is lost during a commit nobody knows whether it took place.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiki.redaction import described
from aiki_server.store.database import COLLIDED, LOST

Result = TypeVar("Result")

PAUSES = (0.0, 0.05, 0.2, 0.5, 1.0, 2.0)
"""Seconds before each further attempt. Together less than the patience of a client."""


class DatabaseAwayError(Exception):
    """Postgres cannot be reached; whether the last attempt was written is not known."""


async def repeated(turn: Callable[[], Awaitable[Result]]) -> Result:
    """The result of `turn`, attempted again while Postgres is away or transactions collide."""
    for pause in PAUSES:
        try:
            return await turn()
        except COLLIDED:
            await asyncio.sleep(random.random() * 0.01)  # noqa: S311  so that the two do not meet again
        except LOST:
            await asyncio.sleep(pause)
    try:
        return await turn()
    except LOST as error:
        raise DatabaseAwayError(f"the database is away: {described(error)}") from error
