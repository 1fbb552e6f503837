"""Waiting for a condition instead of sleeping: each wait looks often, and ends with words after a deadline."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any


async def until(condition: Callable[[], Any], what: str = "", *, seconds: float = 10.0, every: float = 0.01) -> Any:
    """Ask until the answer is true, and return it. `condition` may be a coroutine function.

    After `seconds` the wait fails with `what`, or with the name of the condition; a condition that hangs fails as well.
    """
    found = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = condition()
                found = await found if inspect.isawaitable(found) else found
                if found:
                    return found
                await asyncio.sleep(every)
    except TimeoutError as error:
        raise AssertionError(f"waited {seconds} s in vain for {what or named(condition)}; the last answer: {found!r}") from error


def wait_until(condition: Callable[[], Any], what: str, *, seconds: float = 10.0, every: float = 0.02) -> Any:
    """The same for tests without an event loop."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain for {what}; the last answer: {found!r}")
        time.sleep(every)
    return found


async def turns(count: int = 1) -> None:
    """Let everything that is ready run, `count` times: as many turns of the event loop."""
    for _ in range(count):
        await asyncio.sleep(0)


def named(condition: Callable[[], Any]) -> str:
    """Where a condition is written."""
    code = getattr(condition, "__code__", None)
    return f"{condition!r}" if code is None else f"{code.co_qualname} in {code.co_filename}:{code.co_firstlineno}"
