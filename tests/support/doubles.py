"""Stand-ins that many tests of executions use: a task that has an obvious result, and workflows in the hands of a driver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiki import task, workflow
from support.sdk.driver import Driver


@task
async def double(value: int) -> int:
    """Its result is easy to tell from its argument."""
    return 2 * value


def drive(code: Callable[..., Any], input: Any = None, *, removed: Any = (), **options: Any) -> Driver:
    """A run of this code, as far as it comes by itself: nothing is stored yet, and no task has started."""
    return Driver(workflow("flow").v("1.0", removed=removed)(code), input, **options)


def driven(code: Callable[..., Any], input: Any = None, *, removed: Any = (), **options: Any) -> Driver:
    """The same after its first commit: the tasks that it asked for have started."""
    driver = drive(code, input, removed=removed, **options)
    driver.turn()
    return driver
