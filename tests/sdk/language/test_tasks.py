"""Tasks in workflow code: results, attempts, and what a task is given."""

from __future__ import annotations

import asyncio

import pytest

from aiki import NonRetryable, Retry, Run, TaskFailed, task
from support.doubles import RESULTS, SECOND, consume, double, drive, failure, flaky, other, undo
from support.sdk.driver import START


def test_results_flow_through_tasks() -> None:
    async def code(run: Run, value: int) -> int:
        return await double.start(run, await double.start(run, value))

    driver = drive(code, 3)
    driver.run_tasks(RESULTS)
    assert driver.output == 12
    assert driver.kinds() == ["began", "call", "done", "call", "done", "completed"]


def test_parallel_tasks_start_together_and_a_replay_starts_none_again() -> None:
    async def code(run: Run, value: int) -> list[int]:
        return list(await asyncio.gather(double.start(run, value), other.start(run, value)))

    driver = drive(code, 3)
    driver.turn()
    assert sorted(driver.running) == [0, 1]
    driver.finish(1, 4)
    driver.turn()
    driver.crash()
    driver.turn()
    assert sorted(driver.running) == [0]
    driver.finish(0, 6)
    driver.turn()
    assert driver.output == [6, 4]


def test_failure_is_handed_to_the_code_after_the_last_attempt() -> None:
    async def code(run: Run) -> str:
        try:
            await flaky.start(run, 1)
        except TaskFailed as failed:
            return f"{failed.type}: {failed.error.message}"
        return "?"

    driver = drive(code)
    driver.pass_time({"flaky": ValueError("no")})
    assert driver.output == "ValueError: no"
    assert driver.kinds() == ["began", "call", "attempt", "attempt", "failed", "completed"]


def test_retry_goes_on_with_the_next_attempt_after_a_crash() -> None:
    async def code(run: Run) -> int:
        return await flaky.start(run, 1)

    driver = drive(code)
    driver.turn()
    key = driver.running[0].key
    driver.fail(0, OSError("down"), random=0.5)
    driver.turn()
    driver.crash()
    driver.turn()
    attempt = driver.running[0]
    assert (attempt.attempt, attempt.not_before, attempt.key) == (2, START + 2 * SECOND, key)
    waits = driver.execution.waits()
    assert waits is not None
    assert waits.due_at == START + 2 * SECOND
    assert waits.on == [{"kind": "retry", "name": "flaky", "attempt": 2, "due_at": START + 2 * SECOND}]


def test_each_attempt_gets_its_arguments_as_they_were_passed() -> None:
    async def code(run: Run) -> None:
        items = [1, 2]
        started = consume.start(run, items, more={"a": [3]}, count=4)
        items.clear()
        await started

    driver = drive(code)
    for attempt in (1, 2, 3):
        driver.turn()
        (given,) = driver.running.values()
        assert (given.attempt, given.args, given.kwargs) == (attempt, (), {"items": [1, 2], "more": {"a": [3]}, "count": 4})
        given.kwargs["items"].clear()
        given.kwargs["more"]["a"].append(5)
        if attempt == 2:
            driver.execution.task_abandoned(0)
            assert driver.execution.take_tasks()[0].kwargs["items"] == [1, 2]
        driver.fail(0, OSError("half way"))
        driver.now += SECOND


def test_undo_is_given_what_it_was_told_then() -> None:
    @task
    async def restore(items: list[int]) -> None: ...

    async def code(run: Run) -> None:
        items = [1, 2]
        async with run.saga() as saga:
            saga.undo(restore, items)
            items.clear()
            raise ValueError

    driver = drive(code)
    driver.turn()
    assert driver.running[0].kwargs == {"items": [1, 2]}


def test_equal_calls_of_which_the_second_has_ended_start_the_first_again_after_a_crash() -> None:
    async def code(run: Run) -> list[int]:
        return list(await asyncio.gather(double.start(run, 1), double.start(run, 1)))

    driver = drive(code)
    driver.turn()
    driver.finish(1, 11)
    driver.turn()
    driver.crash()
    driver.turn()
    assert sorted(driver.running) == [0]
    driver.finish(0, 10)
    driver.turn()
    assert driver.output == [10, 11]


def test_attempt_lost_with_a_worker_costs_nothing() -> None:
    async def code(run: Run) -> int:
        return await flaky.start(run, 1)

    driver = drive(code)
    for _ in range(5):
        driver.turn()
        assert driver.running[0].attempt == 1
        driver.crash()


def test_abandoned_task_is_given_out_again_and_leaves_no_entry() -> None:
    async def code(run: Run) -> int:
        return await double.start(run, 1)

    driver = drive(code)
    driver.turn()
    driver.execution.task_abandoned(0)
    assert driver.execution.take_commit() is None
    assert [attempt.attempt for attempt in driver.execution.take_tasks()] == [1]


@pytest.mark.parametrize("error", [NonRetryable("stop"), KeyError("x")])
def test_errors_that_are_not_retried(error: Exception) -> None:
    @task(retry=Retry.exponential(non_retryable=(KeyError,)))
    async def charge() -> None: ...

    async def code(run: Run) -> None:
        await charge.start(run)

    driver = drive(code)
    driver.run_tasks({"charge": error})
    assert failure(driver).type == "TaskFailed"
    assert driver.kinds() == ["began", "call", "failed", "failed_run"]


def test_task_result_that_json_cannot_hold_names_task_and_place() -> None:
    async def code(run: Run) -> None:
        await double.start(run, 1)

    driver = drive(code)
    driver.run_tasks({"double": float("nan")})
    message = failure(driver).message
    assert "task double" in message
    assert "doubles.py:" in message
    assert driver.kinds().count("attempt") == 0


def test_map_keeps_order_and_limit() -> None:
    async def code(run: Run) -> list[int]:
        return await double.map(run, range(7), limit=3)

    driver = drive(code)
    driver.turn()
    assert len(driver.running) == 3
    driver.finish(2, 4)
    driver.turn()
    assert len(driver.running) == 3
    driver.run_tasks(RESULTS)
    assert driver.output == [0, 2, 4, 6, 8, 10, 12]


def test_map_cancels_the_rest_after_a_failure() -> None:
    async def code(run: Run) -> list[None]:
        return await undo.map(run, ["a", "b", "c"], limit=2)

    driver = drive(code)
    driver.turn()
    driver.fail(0, RuntimeError("a"))
    driver.turn()
    assert failure(driver).type == "TaskFailed"
    assert driver.running == {}


def test_fifty_thousand_calls_are_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiki.execution.calls.calls.MAX_STEPS", 5)

    async def code(run: Run) -> None:
        for number in range(10):
            await double.start(run, number)

    driver = drive(code)
    driver.run_tasks(RESULTS)
    assert failure(driver).type == "StepLimit"


@pytest.mark.parametrize("ended", [[1], [0], [2, 1], [0, 2]], ids=str)
def test_of_equal_calls_those_that_had_not_ended_start_again_after_a_crash(ended: list[int]) -> None:
    async def code(run: Run) -> list[int]:
        return await asyncio.gather(*[double.start(run, 7) for _ in range(3)])

    driver = drive(code)
    driver.turn()
    for call in ended:
        driver.finish(call, call)
        driver.turn()
    driver.crash()
    driver.turn()
    assert sorted(driver.running) == [call for call in range(3) if call not in ended]
    for call in sorted(driver.running):
        driver.finish(call, call)
        driver.turn()
    assert driver.output == [0, 1, 2]
