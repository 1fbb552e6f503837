"""What a call reserves, counts and refuses: the children, tasks and events of a run, to the letter (S10, S11, S24)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from aiki import Event, Retry, Run, TaskFailed, task, workflow
from aiki.errors import StepLimit
from aiki.execution.calls.waits import MAX_LISTED
from aiki.execution.loop.loop import WorkflowLoop
from aiki.execution.loop.pending import Pending
from aiki.execution.loop.places import Places
from aiki.protocol import ErrorInfo
from aiki.values.address import address
from aiki.values.twice import told
from support.doubles import driven
from support.sdk.driver import RUN_ID, START, Driver

SECOND = 1_000_000
ERROR = 40
news = Event("news", int)


@task(retry=Retry.fixed(max_attempts=2, delay=60))
async def flaky(value: int) -> int:
    return value


@dataclass
class Order:
    amount: int
    note: str = ""


child_flow = workflow("child")


@child_flow.v("1")
async def child_v1(run: Run, order: Order) -> int:
    return order.amount


def waits(driver: Driver) -> tuple[int | None, list[str], bool] | None:
    found = driver.execution.waits()
    return None if found is None else (found.due_at, found.events, found.children)


# ---- two of one name


def made(text: str, payload: Any) -> tuple[Any, Event[Any]]:
    """Defined anew by each call, as by a factory."""

    @task(name="pay")
    async def pay() -> str:
        return text

    return pay, Event("paid", payload)


async def pays(run: Run, one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    await asyncio.gather(one[0].start(run), one[0].start(run), other[0].start(run))


async def is_paid(run: Run, one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    await asyncio.gather(run.wait(one[1]), run.wait(one[1]), run.wait(other[1]))


@pytest.mark.parametrize(("uses", "which", "called"), [(pays, 0, "task pay"), (is_paid, 1, "event paid")])
def test_a_second_of_one_name_stops_the_run_and_one_that_was_defined_again_does_not(uses: Any, which: int, called: str) -> None:
    one, again, other = made("a", int), made("a", int), made("b", str)
    assert driven(using(uses, one, again)).execution.stop is None
    driver = driven(using(uses, one, other))
    message = told(called, one[which].origin, other[which].origin)
    assert driver.execution.stop == ErrorInfo(type="TwoOfOneName", message=message, retryable=False)
    assert driver.chunks == []


def using(uses: Any, one: Any, other: Any) -> Any:
    async def code(run: Run) -> None:
        await uses(run, one, other)

    return code


# ---- children


def test_a_child_is_started_as_it_was_asked_for_and_found_without_its_defaults() -> None:
    async def code(run: Run) -> int:
        return await child_v1.start(run, Order(7), pool="gpu")

    driver = driven(code)
    (child,) = driver.children.values()
    assert (child.workflow, child.version, child.pool, child.input) == ("child", "1", "gpu", '{"amount":7,"note":""}')
    (call,) = [entry for entry in driver.history if entry["k"] == "call"]
    assert call["a"] == address("child", "child@1", '{"amount":7}')
    assert (call["l"], call["run"]) == ('child({"amount":7})', child.id)
    driver.crash()
    assert driver.execution._calls.open[0].start.input == ""  # type: ignore[attr-defined]  # what is on record is not written again


def test_a_run_waits_for_children_until_the_last_of_them_has_ended() -> None:
    async def code(run: Run) -> None:
        started = [child_v1.start(run, Order(number)) for number in range(2)]
        nap = run.sleep(60)
        for child in started:
            await child
        await nap

    driver = driven(code)
    assert waits(driver) == (START + 60 * SECOND, [], True)
    for child, left in zip(list(driver.children), (True, False), strict=True):
        driver.end_child(child, 1)
        driver.tell()
        driver.turn()
        assert waits(driver) == (START + 60 * SECOND, [], left)


# ---- tasks


def test_a_run_with_a_task_that_runs_waits_for_nothing_else() -> None:
    async def code(run: Run) -> None:
        await asyncio.gather(flaky.start(run, 1), flaky.start(run, 2))

    driver = driven(code)
    driver.fail(0, ValueError("no"))
    driver.turn()
    assert waits(driver) is None
    driver.fail(1, ValueError("no"))
    driver.turn()
    assert waits(driver) == (START + 60 * SECOND, [], False)


def test_an_attempt_that_was_given_up_is_waited_for_no_more() -> None:
    async def code(run: Run) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(flaky.start(run, 1), 5)
        await flaky.start(run, 2)

    driver = driven(code)
    driver.fail(0, ValueError("no"))
    driver.turn()
    driver.now += 5 * SECOND
    driver.turn()
    assert list(driver.running) == [2]
    assert waits(driver) is None


def test_a_task_that_had_not_ended_may_start_at_once_after_a_crash() -> None:
    async def code(run: Run) -> None:
        await flaky.start(run, 1)

    driver = driven(code)
    driver.crash()
    assert (driver.execution.waits(), driver.execution.next_due()) == (None, None)
    assert [attempt.not_before for attempt in driver.execution.take_tasks()] == [None]


@pytest.mark.parametrize("error", [None, ValueError("no")])
def test_a_task_whose_end_is_recorded_is_not_made_ready_again(error: Exception | None) -> None:
    async def code(run: Run) -> None:
        with suppress(TaskFailed):
            await once.start(run, 1)
        await run.sleep(5)

    driver = driven(code)
    driver.fail(0, error) if error else driver.finish(0, 1)
    driver.turn()
    driver.crash()
    assert driver.execution._calls.ready == []


@task(retry=Retry.never())
async def once(value: int) -> int:
    return value


def test_a_run_makes_as_many_calls_as_it_may_and_hears_that_it_wanted_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiki.execution.calls.calls.MAX_STEPS", 5)

    async def code(run: Run) -> str:
        with pytest.raises(StepLimit) as refused:
            await asyncio.gather(*[flaky.start(run, number) for number in range(5)], flaky.start(run, 5))
        return str(refused.value)

    driver = driven(code)
    assert driver.kinds() == ["began", *["call"] * 5, "completed"]
    assert driver.output == "5 calls are what one run may make: let child workflows do the work in parts"


# ---- events, and what a run says of itself


def test_an_event_that_was_handed_over_is_awaited_no_more() -> None:
    async def code(run: Run) -> None:
        await run.wait(news)
        await run.sleep(60)

    driver = driven(code)
    assert waits(driver) == (None, ["news"], False)
    driver.send("news", 1)
    driver.tell()
    driver.turn()
    assert waits(driver) == (START + 60 * SECOND, [], False)


def test_a_run_lists_so_many_of_its_calls_and_no_more() -> None:
    async def code(run: Run) -> None:
        await asyncio.gather(*[run.sleep(number) for number in range(1, MAX_LISTED + 3)])

    found = driven(code).execution.waits()
    assert found is not None
    assert [one["due_at"] for one in found.on] == [START + number * SECOND for number in range(1, MAX_LISTED + 1)]


def test_a_call_that_is_given_up_when_its_run_is_closed_changes_nothing() -> None:
    kept: list[Any] = []

    async def code(run: Run) -> None:
        kept.append(child_v1.start(run, Order(1)))
        await run.sleep(60)

    driver = driven(code)
    driver.execution.close()
    assert kept[0].cancel() is True
    assert driver.execution.take_commit() is None


def test_what_asyncio_finds_is_said_in_the_log_of_the_run() -> None:
    async def code(run: Run) -> None:
        loop = asyncio.get_running_loop()
        loop.call_exception_handler({"message": "it was never retrieved", "exception": ValueError("no")})
        loop.call_exception_handler({"message": "it is odd"})

    assert driven(code).logged == [(ERROR, "it was never retrieved: ValueError: no", {}), (ERROR, "it is odd", {})]


# ---- places


def test_the_hashes_of_what_runs_await_differ_by_the_run() -> None:
    hashes: list[int] = []

    async def code(run: Run) -> None:
        nap = run.sleep(60)
        hashes.append(hash(nap))
        await nap

    ids = [RUN_ID, RUN_ID[:-1] + "b"]
    for run_id in ids:
        driven(code, run_id=run_id)
    assert hashes == [Places(run_id).of_call(0) for run_id in ids]
    assert len(set(hashes)) == 2


def test_what_is_awaited_is_of_the_loop_of_its_run_wherever_it_is_made() -> None:
    loop = WorkflowLoop(SimpleNamespace(), RUN_ID)  # type: ignore[abstract]  # nothing is asked of it
    pending: Pending[int] = Pending(SimpleNamespace(number=3), loop)  # type: ignore[arg-type]
    assert pending.get_loop() is loop
    assert hash(pending) == loop.places.of_call(3)
