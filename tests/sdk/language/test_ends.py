"""How a run ends, pauses, or is closed, and what becomes of what it left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiki import Run
from aiki.execution.outcome import Completed
from aiki.protocol import MAX_ERROR_MESSAGE_BYTES
from support.doubles import RESULTS, SECOND, double, drive, failure, other, undo, verified


def test_input_that_does_not_fit_fails_the_run() -> None:
    async def code(run: Run, value: int) -> None: ...

    driver = drive(code, "many")
    driver.turn()
    error = failure(driver)
    assert error.type == "PayloadError"
    assert "value" in error.message


def test_output_that_json_cannot_hold_names_the_line() -> None:
    async def code(run: Run) -> Any:
        return {"when": object()}

    driver = drive(code)
    driver.turn()
    error = failure(driver)
    assert "flow 1.0" in error.message
    assert "test_ends.py:" in error.message


def test_huge_error_is_cut_with_a_mark() -> None:
    async def code(run: Run) -> None:
        raise RuntimeError("x" * 10_000_000)

    driver = drive(code)
    driver.turn()
    error = failure(driver)
    assert len(error.message.encode()) == MAX_ERROR_MESSAGE_BYTES
    assert "[cut: 10000000 bytes]" in error.message


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration("x"), GeneratorExit()])
def test_strange_ends_are_failures(error: BaseException) -> None:
    async def code(run: Run) -> None:
        raise error

    driver = drive(code)
    driver.turn()
    assert failure(driver).type in (type(error).__name__, "RuntimeError")


def test_run_that_waits_for_nothing_fails_and_says_so() -> None:
    async def code(run: Run) -> None:
        await asyncio.Event().wait()

    driver = drive(code)
    driver.turn()
    assert failure(driver).type == "NothingToWaitFor"


def test_paused_run_starts_nothing_and_goes_on_later() -> None:
    async def code(run: Run) -> int:
        first = await double.start(run, 1)
        return await double.start(run, first)

    driver = drive(code)
    driver.turn()
    driver.execution.set_paused(True)
    driver.finish(0, 2)
    driver.turn()
    assert driver.running == {}
    assert driver.kinds() == ["began", "call", "done", "call"]
    driver.execution.set_paused(False)
    driver.run_tasks(RESULTS)
    assert driver.output == 4


def test_closing_is_silent_and_reaches_code_that_clings() -> None:
    cleaned: list[str] = []

    async def code(run: Run) -> None:
        try:
            await run.sleep(5)
        finally:
            cleaned.append("in")
            try:
                await double.start(run, 1)
            finally:
                cleaned.append("out")
                await asyncio.sleep(0)

    driver = drive(code)
    driver.turn()
    driver.execution.close()
    driver.execution.close()
    assert cleaned == ["in", "out"]
    assert driver.execution.take_tasks() == []


def test_background_task_ends_with_the_run_and_a_started_one_is_told() -> None:
    async def code(run: Run) -> str:
        background = asyncio.ensure_future(double.start(run, 1))
        other.start(run, 2)
        await run.sleep(1)
        return f"{background.done()}"

    driver = drive(code)
    driver.turn()
    driver.now += SECOND
    driver.execution.advance(driver.now)
    assert driver.execution.cancelled_tasks() == [0, 1]
    driver.turn()
    assert driver.output == "False"
    assert sum("await it" in message for _, message, _ in driver.logged) == 2


def test_async_generator_left_early_is_closed_in_the_run() -> None:
    async def code(run: Run) -> list[int]:
        closed: list[int] = []

        async def numbers() -> AsyncIterator[int]:
            try:
                for number in range(5):
                    yield await double.start(run, number)
            finally:
                closed.append(await other.start(run, 7))

        async for number in numbers():
            if number:
                break
        await run.sleep(5)
        return closed

    driver = drive(code)
    driver.pass_time(RESULTS)
    assert driver.output == [8]


def test_closing_a_run_with_open_generators_groups_and_timeouts_is_silent() -> None:
    async def code(run: Run) -> None:
        async def numbers() -> AsyncIterator[int]:
            try:
                yield await double.start(run, 1)
            finally:
                await other.start(run, 7)

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(run.sleep(5))
            async with run.saga() as saga:
                saga.undo(undo, "x")
                async for _ in numbers():
                    await run.wait(verified)

    driver = drive(code)
    driver.run_tasks(RESULTS)
    driver.execution.close()
    assert driver.execution.take_commit() is None
    assert driver.logged == []


def test_as_completed_yields_in_the_order_of_record() -> None:
    async def code(run: Run) -> list[int]:
        return [await next_one for next_one in asyncio.as_completed([double.start(run, value) for value in range(3)])]

    driver = drive(code)
    driver.turn()
    for call in (2, 0, 1):
        driver.finish(call, call)
        driver.turn()
    assert driver.output == [2, 0, 1]


def test_locks_and_queues_work_as_they_are() -> None:
    async def code(run: Run) -> list[int]:
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        lock = asyncio.Lock()
        got: list[int] = []

        async def produce() -> None:
            for value in range(3):
                await queue.put(await double.start(run, value))

        async def consume() -> None:
            for _ in range(3):
                async with lock:
                    got.append(await queue.get())

        await asyncio.gather(produce(), consume())
        return got

    driver = drive(code)
    driver.run_tasks(RESULTS)
    assert driver.output == [0, 2, 4]
    assert isinstance(driver.outcome, Completed)
