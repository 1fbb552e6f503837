"""Many questions to Redis, some at a time: making and reading thousands at once would hold the event loop for all requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

AT_ONCE = 200
"""Commands in one round trip: some four milliseconds of the loop. Others have their turn between."""

Command = tuple[str, tuple[Any, ...]]
"""A method of the client, and its arguments."""


async def ask_all(redis: Redis, commands: Sequence[Command]) -> list[Any]:
    """What Redis says to each, in order: an error is an answer. Raises RedisError if Redis is not reached."""
    found: list[Any] = []
    for first in range(0, len(commands), AT_ONCE):
        pipeline = redis.pipeline(transaction=False)
        for name, arguments in commands[first : first + AT_ONCE]:
            getattr(pipeline, name)(*arguments)
        found += await pipeline.execute(raise_on_error=False)
    for answer in found:
        if isinstance(answer, BaseException):
            # It leads to a frame that holds all answers: a cycle for each, and thousands would keep the collector busy.
            answer.with_traceback(None)
    return found
