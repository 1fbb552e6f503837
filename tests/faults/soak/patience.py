"""Requests that are repeated until they are answered, as whoever depends on the answer does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiki import ApiError, ServerUnreachable

T = TypeVar("T")


async def insist(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer, however long it takes."""
    while True:
        try:
            return await ask()
        except ServerUnreachable:
            await asyncio.sleep(0.1)


async def unless_refused(ask: Callable[[], Awaitable[T]]) -> T | None:
    """The answer; None where it is that the run has ended."""
    try:
        return await insist(ask)
    except ApiError as error:
        if error.status != 409:
            raise
        return None
