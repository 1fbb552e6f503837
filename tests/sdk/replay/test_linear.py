"""All bookkeeping of a run is linear in its calls: four times the calls, about four times the instructions of Aiki's own code.

Counted, not timed: instructions of the interpreter in `aiki.execution`, `aiki.testing`, and what a worker keeps beside them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from aiki import Event, Retry, Run, task, task_context, workflow
from aiki.execution.execution import Execution
from aiki.execution.outcome import TaskAttempt
from aiki.protocol import InboxItem, Status
from aiki.testing import Simulation
from aiki.worker.runs.attempts import TaskAttempts
from aiki.worker.runs.rewind import rewound
from support.doubles import drive
from support.instructions import counted

COUNTED = ("aiki.execution", "aiki.worker.runs.attempts", "aiki.worker.runs.rewind", "aiki.testing")


@task(retry=Retry.fixed(max_attempts=3, delay=10))
async def step(number: int) -> int:
    return number


child = workflow("child")


@child.v("1")
async def child_v1(run: Run, number: int) -> int:
    return number


def ask(execution: Execution) -> None:
    """What a worker asks after each thing that happens."""
    execution.take_commit()
    execution.take_tasks()
    execution.cancelled_tasks()
    execution.waits()
    execution.next_due()


async def all_at_once(run: Run, size: int) -> None:
    await asyncio.gather(*(step.start(run, number) for number in range(size)), return_exceptions=True)


def tasks(size: int) -> Callable[[], None]:
    driver = drive(_sized(all_at_once, size))
    driver.turn()

    def act() -> None:
        for call in range(size):
            driver.execution.task_done(call, call, driver.now)
            ask(driver.execution)

    return act


def retries(size: int) -> Callable[[], None]:
    driver = drive(_sized(all_at_once, size))
    driver.turn()

    def act() -> None:
        for call in range(size):
            driver.execution.task_failed(call, OSError(), driver.now + call, 0.5)
            ask(driver.execution)

    return act


def children(size: int) -> Callable[[], None]:
    async def code(run: Run) -> None:
        await asyncio.gather(*(child_v1.start(run, number) for number in range(size)))

    driver = drive(code)
    driver.turn()
    ids = list(driver.children)

    def act() -> None:
        for number, child in enumerate(ids, 1):
            item = InboxItem(seq=number, kind="child", child=child, payload="1", status=Status.COMPLETED, at=driver.now + number)
            driver.execution.receive([item], number)
            driver.execution.advance(driver.now + number)
            ask(driver.execution)

    return act


def events(size: int) -> Callable[[], None]:
    async def code(run: Run) -> None:
        await asyncio.gather(*(run.wait(Event(f"e{number}")) for number in range(size)))

    driver = drive(code)
    driver.turn()

    def act() -> None:
        for number in range(1, size + 1):
            item = InboxItem(seq=number, kind="event", name=f"e{size - number}", payload="1", at=driver.now + number)
            driver.execution.receive([item], number)
            driver.execution.advance(driver.now + number)
            driver.execution.take_commit()

    return act


def backlog(size: int) -> Callable[[], None]:
    async def code(run: Run) -> None:
        news: Event[Any] = Event("news")
        for _ in range(size):
            await run.wait(news)

    driver = drive(code)
    driver.turn()
    items = [InboxItem(seq=number, kind="event", name="news", payload="1", at=driver.now) for number in range(1, size + 1)]

    def act() -> None:
        driver.execution.receive(items, size)
        driver.execution.advance(driver.now + 1)

    return act


def timers(size: int) -> Callable[[], None]:
    async def code(run: Run) -> None:
        await asyncio.gather(*(run.sleep(number) for number in range(1, size + 1)), *(asyncio.sleep(number) for number in range(1, size)))

    driver = drive(code)
    driver.turn()

    def act() -> None:
        for number in range(1, size + 1):
            driver.execution.advance(driver.now + number * 1_000_000)
            ask(driver.execution)

    return act


def given_up(size: int) -> Callable[[], None]:
    async def code(run: Run) -> None:
        async def fail() -> None:
            await step.start(run, -1)
            raise ValueError

        async with asyncio.TaskGroup() as group:
            for number in range(size):
                group.create_task(step.start(run, number))
            group.create_task(fail())

    driver = drive(code)
    driver.turn()
    last = max(driver.running)

    def act() -> None:
        driver.execution.task_done(last, 1, driver.now)
        ask(driver.execution)

    return act


def replay_backwards(size: int) -> Callable[[], None]:
    """The code asks for what was recorded in the opposite order."""

    async def code(run: Run) -> None:
        for number in reversed(range(size)):
            await step.start(run, number)

    driver = drive(_sized(all_at_once, size))
    driver.turn()
    for call in range(size):
        driver.finish(call, call)
    driver.turn()
    history = [json.dumps([entry for entry in driver.history if entry["k"] != "completed"])]
    driver.definition = workflow("flow").v("1")(code)
    driver.chunks = history
    return driver.activate


def beside_what_was_removed(size: int) -> Callable[[], None]:
    async def before(run: Run) -> None:
        await asyncio.gather(*(child_v1.start(run, number) for number in range(size)))
        await run.wait(Event("never"))

    async def after(run: Run) -> None:
        for number in range(size):
            await step.start(run, number)

    driver = drive(before)
    driver.turn()
    for child in list(driver.children):
        driver.end_child(child)
    driver.tell()
    driver.turn()
    driver.definition = workflow("flow").v("1", removed=[child_v1])(after)
    driver.crash()
    driver.turn()

    def act() -> None:
        for number in range(size):
            driver.execution.task_done(size + 1 + number, number, driver.now)
            ask(driver.execution)

    return act


class NoneCancelled:
    def cancelled_tasks(self) -> list[int]:
        return []


def attempts_due(size: int) -> Callable[[], None]:
    execution: Any = NoneCancelled()
    nobody: Any = None
    attempts = TaskAttempts("run", execution, workflow="flow", tasks=nobody, now=lambda: 0, random=lambda: 0.5, ended=lambda: None)

    def act() -> None:
        for number in range(size):
            attempts.add([TaskAttempt(number, nobody, (), {}, 2, 1_000 + number, f"run-{number}", "flaky()")])
            attempts.next_due()
        for number in range(size):
            attempts.soon(number)
            attempts.advance(1_000 + number)
        assert len(attempts.ready) == size

    return act


def waits_that_time_out(size: int) -> Callable[[], None]:
    """All in one activation, each for another event; then the end meets news of one of them, and looks for what to take back."""

    async def code(run: Run) -> None:
        await asyncio.gather(*(run.wait(Event(f"e{number}"), timeout=number + 1) for number in range(size)))

    driver = drive(code)
    driver.turn()

    def act() -> None:
        execution = driver.execution
        execution.advance(driver.now + (size + 2) * 1_000_000)
        batch = execution.take_commit()
        assert batch is not None
        looks = execution.looks.fired
        assert len(looks) == size
        last = rewound(batch, looks=looks, came={f"e{size - 1}"}, acted=0)
        assert last is not None
        assert last.count == 0  # it was awaited when the first fired
        assert rewound(batch, looks=looks, came={"none"}, acted=0) is None

    return act


def simulated(code: Any) -> Callable[[], None]:
    """A whole run in a simulation."""
    flow = workflow("flow")
    version = flow.v("1")(code)

    def act() -> None:
        simulation = Simulation(flow, child)
        asyncio.run(simulation.start(version).result())

    return act


def simulated_tasks(size: int) -> Callable[[], None]:
    return simulated(_sized(all_at_once, size))


def simulated_retries(size: int) -> Callable[[], None]:
    @task(retry=Retry.fixed(max_attempts=2, delay=10))
    async def flaky(number: int) -> int:
        if task_context().attempt == 1:
            raise OSError
        return number

    async def code(run: Run) -> None:
        await asyncio.gather(*(flaky.start(run, number) for number in range(size)))

    return simulated(code)


def simulated_children(size: int) -> Callable[[], None]:
    async def code(run: Run) -> None:
        await asyncio.gather(*(child_v1.start(run, number) for number in range(size)))

    return simulated(code)


def simulated_children_in_turn(size: int) -> Callable[[], None]:
    async def code(run: Run) -> None:
        for number in range(size):
            await child_v1.start(run, number)

    return simulated(code)


def simulated_events(size: int) -> Callable[[], None]:
    news: Event[int] = Event("news", int)

    async def code(run: Run) -> None:
        for number in range(size):
            await step.start(run, number)
        for _ in range(size):
            await run.wait(news)

    flow = workflow("flow")
    version = flow.v("1")(code)

    def act() -> None:
        run = Simulation(flow).start(version)
        for number in range(size):
            run.send(news, number)
        asyncio.run(run.result())

    return act


def _sized(code: Callable[[Run, int], Any], size: int) -> Any:
    async def sized(run: Run) -> None:
        await code(run, size)

    return sized


@pytest.mark.parametrize(
    "scenario",
    [
        tasks,
        retries,
        children,
        events,
        backlog,
        timers,
        given_up,
        replay_backwards,
        beside_what_was_removed,
        attempts_due,
        waits_that_time_out,
        simulated_tasks,
        simulated_retries,
        simulated_children,
        simulated_children_in_turn,
        simulated_events,
    ],
)
def test_four_times_the_calls_cost_about_four_times(scenario: Callable[[int], Callable[[], None]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiki.execution.calls.waits.MAX_LISTED", 5)  # else it is most of what is counted, until there are that many
    small, large = counted(scenario(100), of=COUNTED), counted(scenario(400), of=COUNTED)
    assert small > 1_000
    assert large / small < 4.6, f"{small} instructions for 100, {large} for 400"
