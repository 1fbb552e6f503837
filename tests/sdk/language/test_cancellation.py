"""A cancellation reaches the code, which may clean up."""

from __future__ import annotations

import asyncio

from aiki import Run
from aiki.execution.outcome import Cancelled
from support.doubles import double, drive, failure, other


def test_cancellation_ends_what_runs_and_the_run() -> None:
    async def code(run: Run) -> None:
        await asyncio.gather(double.start(run, 1), other.start(run, 2))

    driver = drive(code)
    driver.turn()
    driver.cancel()
    driver.tell()
    driver.execution.advance(driver.now)
    assert driver.execution.cancelled_tasks() == [0, 1]
    assert driver.execution.cancelled_tasks() == []
    driver.turn()
    assert isinstance(driver.outcome, Cancelled)


def test_code_may_swallow_a_cancellation_and_complete() -> None:
    async def code(run: Run) -> str:
        try:
            await run.sleep(days=1)
        except asyncio.CancelledError:
            return "tidied up"
        return "slept"

    driver = drive(code)
    driver.turn()
    driver.cancel()
    driver.tell()
    driver.turn()
    assert driver.output == "tidied up"


def test_except_exception_does_not_swallow_a_cancellation() -> None:
    async def code(run: Run) -> str:
        try:
            await run.sleep(days=1)
        except Exception:  # noqa: BLE001  that is the test
            return "swallowed"
        return "slept"

    driver = drive(code)
    driver.turn()
    driver.cancel()
    driver.tell()
    driver.turn()
    assert isinstance(driver.outcome, Cancelled)


def test_result_of_a_cancelled_task_is_not_recorded() -> None:
    async def code(run: Run) -> None:
        task = asyncio.ensure_future(double.start(run, 1))
        await other.start(run, 1)
        task.cancel()
        await run.sleep(5)

    driver = drive(code)
    driver.turn()
    driver.finish(1, 2)
    late = driver.running.pop(0)
    driver.turn()
    driver.execution.task_done(late.call, 5, driver.now)
    driver.turn()
    assert [entry["c"] for entry in driver.history if entry["k"] == "done"] == [1]


def test_run_that_cancels_itself_has_failed() -> None:
    async def code(run: Run) -> None:
        raise asyncio.CancelledError

    driver = drive(code)
    driver.turn()
    assert failure(driver).type == "CancelledError"
