"""Stand-ins that many tests of executions use: a task that has an obvious result, and workflows in the hands of a driver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiki import Event, Retry, Run, task, workflow
from aiki.execution.outcome import Failed
from aiki.protocol import ErrorInfo
from support.sdk.driver import Driver

SECOND = 1_000_000
verified = Event("verified", dict)
child_flow = workflow("child")
RESULTS = {"double": lambda value: 2 * value, "other": lambda value: value + 1}
"""For `Driver.run_tasks`: what these tasks return."""


@task
async def double(value: int) -> int:
    """Its result is easy to tell from its argument."""
    return 2 * value


@task
async def add(a: int, b: int) -> int:
    """A step of a sum."""
    return a + b


@task
async def other(value: int) -> int:
    """A second one."""
    return value


@task(retry=Retry.exponential(max_attempts=3, base_delay=4, max_delay=60))
async def flaky(value: int) -> int:
    """It has three attempts, and waits four seconds before the second."""
    return value


@task(retry=Retry.never())
def undo(what: str) -> None: ...


@task(retry=Retry.fixed(max_attempts=3, delay=1))
async def consume(items: list[int], more: Any, count: int) -> None: ...


@child_flow.v("2.0")
async def child_v2(run: Run, value: int) -> int:
    return value


@child_flow.v("3.0")
async def child_v3(run: Run) -> int:
    return 1


def drive(code: Callable[..., Any], input: Any = None, *, removed: Any = (), **options: Any) -> Driver:
    """A run of this code, as far as it comes by itself: nothing is stored yet, and no task has started."""
    return Driver(workflow("flow").v("1.0", removed=removed)(code), input, **options)


def driven(code: Callable[..., Any], input: Any = None, *, removed: Any = (), **options: Any) -> Driver:
    """The same after its first commit: the tasks that it asked for have started."""
    driver = drive(code, input, removed=removed, **options)
    driver.turn()
    return driver


def failure(driver: Driver) -> ErrorInfo:
    """With what the run has failed."""
    assert isinstance(driver.outcome, Failed), (driver.outcome, driver.execution.stop)
    return driver.outcome.error
