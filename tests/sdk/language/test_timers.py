"""Timers, timeouts and the clock of a run: what fires, when, and what never does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiki import Run
from aiki.execution.outcome import Completed
from support.doubles import RESULTS, SECOND, double, drive, failure
from support.sdk.driver import START


def test_sleep_fires_when_due_and_not_before() -> None:
    async def code(run: Run) -> str:
        await run.sleep(days=1)
        return run.now().isoformat()

    driver = drive(code)
    driver.now += 5
    driver.turn()
    waits = driver.execution.waits()
    assert waits is not None
    assert waits.due_at == START + 86_400 * SECOND
    driver.now = waits.due_at - 1
    driver.turn()
    assert driver.kinds() == ["began", "call"]
    driver.now += 1
    driver.turn()
    assert datetime.fromisoformat(driver.output) == datetime.fromtimestamp(START / SECOND, UTC) + timedelta(days=1)


@pytest.mark.parametrize("duration", [90, timedelta(seconds=90), 90.0])
def test_sleep_takes_seconds_and_timedelta(duration: Any) -> None:
    async def code(run: Run) -> None:
        await run.sleep(duration)

    driver = drive(code)
    driver.turn()
    assert driver.execution.next_due() == START + 90 * SECOND


def test_sleep_until_wants_a_time_zone() -> None:
    async def code(run: Run) -> None:
        await run.sleep_until(datetime(2030, 1, 1))  # noqa: DTZ001  that is the test

    driver = drive(code)
    driver.turn()
    assert "time zone" in failure(driver).message


def test_asyncio_sleep_and_timeout_are_durable() -> None:
    async def code(run: Run) -> str:
        await asyncio.sleep(86_400)
        try:
            async with asyncio.timeout(60):
                await double.start(run, 1)
        except TimeoutError:
            return "late"
        return "in time"

    driver = drive(code)
    driver.turn()
    driver.crash()
    driver.now = START + 86_400 * SECOND
    driver.turn()
    driver.crash()
    driver.turn()
    assert sorted(driver.running) == [2]
    driver.now += 60 * SECOND
    driver.turn()
    assert driver.output == "late"
    assert driver.running == {}


def test_wait_for_cancels_its_task() -> None:
    async def code(run: Run) -> str:
        try:
            await asyncio.wait_for(double.start(run, 1), 5)
        except TimeoutError:
            return "late"
        return "in time"

    driver = drive(code)
    driver.turn()
    driver.now += 5 * SECOND
    driver.turn()
    assert driver.output == "late"


def test_timer_of_a_timeout_that_was_not_needed_never_fires() -> None:
    async def code(run: Run) -> str:
        async with asyncio.timeout(60):
            await double.start(run, 1)
        await run.sleep(hours=1)
        return "done"

    driver = drive(code)
    driver.run_tasks(RESULTS)
    assert driver.execution.next_due() == START + 3_600 * SECOND


def test_loop_time_moves_with_the_records() -> None:
    async def code(run: Run) -> list[float]:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await run.sleep(10)
        return [before, loop.time()]

    driver = drive(code)
    driver.turn()
    driver.now += 12 * SECOND
    driver.turn()
    assert driver.output == [0.0, 12.0]


@pytest.mark.parametrize("duration", [-1, float("nan"), float("inf"), 1e12])
@pytest.mark.parametrize("native", [False, True])
def test_impossible_durations_are_errors_at_the_line(duration: float, native: bool) -> None:
    async def code(run: Run) -> None:
        await (asyncio.sleep(duration) if native else run.sleep(duration))

    driver = drive(code)
    driver.turn()
    if native and duration < 0:
        assert isinstance(driver.outcome, Completed)
    else:
        assert failure(driver).type == "ValueError"


def test_clock_of_another_worker_never_takes_time_back() -> None:
    async def code(run: Run) -> list[str]:
        seen = [run.now().isoformat()]
        for number in range(2):
            await double.start(run, number)
            seen.append(run.now().isoformat())
        return seen

    driver = drive(code)
    driver.turn()
    driver.now -= 3600 * SECOND
    driver.crash()
    driver.run_tasks(RESULTS)
    assert driver.output == sorted(driver.output)
    instants = [entry["at"] for entry in driver.history if "at" in entry]
    assert instants == sorted(instants)
