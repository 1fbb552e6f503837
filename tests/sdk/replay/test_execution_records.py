"""What an execution writes and says, to the letter: histories outlive releases, and servers wake a run by what it says that it waits for (S10, S11, S24)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from aiki import ChildFailed, Event, Retry, Run, TaskFailed, TimedOut, task, workflow
from aiki.protocol import ErrorInfo, Status
from support.doubles import driven
from support.sdk.driver import START, Driver

SECOND = 1_000_000
event = Event("news", int)
child_flow = workflow("child")


@child_flow.v("1")
async def child_v1(run: Run, value: int) -> int:
    return value


@task(retry=Retry.fixed(max_attempts=2, delay=60))
async def step(value: int) -> int:
    return value


async def sleeps(run: Run) -> None:
    await run.sleep(90)


async def asyncio_sleeps(run: Run) -> None:
    await asyncio.sleep(90)


async def waits(run: Run) -> int:
    return await run.wait(event)


async def waits_a_while(run: Run) -> int | None:
    answer = await run.wait(event, timeout=90)
    return answer.payload if answer else None


async def starts_a_child(run: Run) -> int:
    return await child_v1.start(run, 7)


async def steps(run: Run) -> int:
    return await step.start(run, 7)


@pytest.mark.parametrize(
    ("code", "address"),
    [
        (sleeps, "sleep::90000000"),
        (asyncio_sleeps, "timer::90000000"),
        (waits, "event:news:null"),
        (waits_a_while, "event:news:90000000"),
        (starts_a_child, "child:child@1:7"),
        (steps, 'task:step:{"value":7}'),
    ],
)
def test_addresses_are_those_of_histories_that_were_written_before(code: Any, address: str) -> None:
    from aiki.values.address import address as made

    kind, name, text = address.split(":", 2)
    (call,) = [entry for entry in driven(code).history if entry["k"] == "call"]
    assert call["a"] == made(kind, name, text)


@pytest.mark.parametrize(
    ("code", "due", "events", "children", "on"),
    [
        (sleeps, 90, [], False, {"kind": "sleep", "due_at": START + 90 * SECOND}),
        (asyncio_sleeps, 90, [], False, {"kind": "sleep", "due_at": START + 90 * SECOND}),
        (waits, None, ["news"], False, {"kind": "event", "name": "news", "due_at": None}),
        (waits_a_while, 90, ["news"], False, {"kind": "event", "name": "news", "due_at": START + 90 * SECOND}),
    ],
)
def test_an_idle_run_says_what_wakes_it(code: Any, due: int | None, events: list[str], children: bool, on: dict[str, Any]) -> None:
    found = driven(code).execution.waits()
    assert found is not None
    assert (found.due_at, found.events, found.children, found.on) == (due and START + due * SECOND, events, children, [on])


def test_a_run_that_waits_for_a_child_says_so() -> None:
    driver = driven(starts_a_child)
    found = driver.execution.waits()
    assert found is not None
    assert (found.due_at, found.events, found.children) == (None, [], True)
    assert found.on == [{"kind": "child", "name": "child", "child": next(iter(driver.children))}]


def test_a_run_that_waits_for_an_attempt_says_when() -> None:
    driver = driven(steps)
    assert driver.execution.waits() is None
    driver.fail(0, ValueError("no"))
    driver.pump()
    found = driver.execution.waits()
    assert found is not None
    assert (found.due_at, found.on) == (
        START + 60 * SECOND,
        [{"kind": "retry", "name": "step", "attempt": 2, "due_at": START + 60 * SECOND}],
    )
    driver.now = START + 60 * SECOND
    driver.execution.advance(driver.now)
    assert driver.execution.waits() is None


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (Status.FAILED, ErrorInfo(type="E", message="no"), "E: no"),
        (Status.FAILED, None, "the child failed and said no more"),
        (Status.CANCELLED, ErrorInfo(type="Cancelled", message="asked to"), "asked to"),
        (Status.CANCELLED, None, "the child was cancelled"),
    ],
)
def test_the_end_of_a_child_is_consumed_with_the_failure_that_it_brings(status: Status, error: ErrorInfo | None, message: str) -> None:
    told: list[str] = []

    async def code(run: Run) -> None:
        try:
            await child_v1.start(run, 7)
        except ChildFailed as failed:
            told.append(str(failed))
        await run.sleep(1)

    driver = driven(code)
    driver.end_child(next(iter(driver.children)), status=status, error=error)
    driver.tell()
    driver.turn()
    (entry,) = [entry for entry in driver.history if entry["k"] == "failed"]
    assert entry["i"] == 1
    assert driver.inbox == {}
    driver.crash()
    assert len(told) == 2
    assert told[0] == told[1]
    assert message in told[0]


def test_a_replay_hands_back_failures_and_timeouts_as_they_were() -> None:
    seen: list[Any] = []

    async def code(run: Run) -> None:
        try:
            await once.start(run, 7)
        except TaskFailed as failed:
            seen.append((failed.error.type, failed.error.message, str(failed)))
        seen.append(await run.wait(event, timeout=5))
        await run.sleep(1)

    driver = driven(code)
    driver.fail(0, ValueError("declined"))
    driver.turn()
    driver.now += 5 * SECOND
    driver.turn()
    assert [value if isinstance(value, TimedOut) else value[:2] for value in seen] == [("ValueError", "declined"), TimedOut()]
    first = list(seen)
    driver.crash()
    assert seen == first * 2


@task(retry=Retry.never())
async def once(value: int) -> int:
    return value


def test_a_task_that_was_handed_back_is_given_out_again_once() -> None:
    driver = driven(steps)
    (attempt,) = driver.running.values()
    driver.execution.task_abandoned(attempt.call)
    driver.execution.task_abandoned(attempt.call)
    assert [again.call for again in driver.execution.take_tasks()] == [attempt.call]
    assert driver.execution.take_tasks() == []


def test_a_part_of_a_draft_counts_the_inputs_of_its_children() -> None:
    async def code(run: Run) -> None:
        for _ in range(4):
            large_v1.start(run, "x" * 1_000)
        await run.sleep(1)

    driver = Driver(workflow("flow").v("1.0")(code))
    driver.execution.advance(driver.now)
    parts = []
    while (batch := driver.execution.take_commit(2_500)) is not None:
        parts.append(batch)
        assert len(batch.entries) + sum(len(child.input) for child in batch.children) <= 2_500
    assert sum(len(batch.children) for batch in parts) == 4
    assert len(parts) > 2
    assert [entry["k"] for batch in parts for entry in json.loads(batch.entries)] == ["began", *["call"] * 5]


large_flow = workflow("large")


@large_flow.v("1")
async def large_v1(run: Run, text: str) -> None: ...


def test_a_callback_comes_with_its_arguments_in_its_own_context() -> None:
    from contextvars import ContextVar, copy_context

    place: ContextVar[str] = ContextVar("place", default="outside")
    called: list[Any] = []

    async def code(run: Run) -> None:
        loop = asyncio.get_running_loop()
        context = copy_context()
        context.run(place.set, "inside")
        loop.call_later(1, lambda *given: called.append((place.get(), *given)), 1, 2, context=context)
        loop.call_at(loop.time() + 2, lambda *given: called.append((place.get(), *given)), 3, context=context)
        loop.call_later(0, lambda *given: called.append((place.get(), *given)), 4)
        await asyncio.sleep(5)

    driver = driven(code)
    driver.pass_time({})
    assert called == [("outside", 4), ("inside", 1, 2), ("inside", 3)]


def test_giving_a_call_up_says_whether_it_was_open() -> None:
    answers: list[bool] = []

    async def code(run: Run) -> None:
        nap = run.sleep(5)
        answers.extend([nap.cancel("not needed"), nap.cancel()])
        await run.sleep(1)

    driven(code)
    assert answers == [True, False]
