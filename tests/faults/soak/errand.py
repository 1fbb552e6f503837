"""What the soak's workers do: one workflow that carries out a plan, and what has to come of a plan.

A plan is a list of deeds, each `[kind, argument, ...]`, so that it is the input of a run. `right` is the independent calculation: it looks at
the plan and the output alone. Every task leaves a line where it begins and where it ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiki import ChildCancelled, ChildFailed, Event, NonRetryable, Retry, Run, TaskFailed, task, task_context, workflow

COLOURS = ("red", "green", "blue")
EVENTS = {colour: Event(colour, int) for colour in COLOURS}
FLAKY_ATTEMPTS = 3

CANCELLED = "cancelled from outside"
"""What a parent returns for a child that somebody else cancelled. Whether somebody did is judged by the child's own row."""

Plan = list[list[Any]]


class BoomError(Exception):
    """Ends a run as failed."""


class Place:
    """Where this process stands; its worker says in which epoch it holds a run."""

    def __init__(self) -> None:
        self.tenant = os.environ.get("FAULTS_TENANT")
        self.build = os.environ.get("AIKI_BUILD")
        self.epoch_of: Callable[[str], int | None] = lambda _: None


HERE = Place()


class CalledOffError(Exception):
    """Makes a saga undo what it did."""


def trace(step: str, what: str) -> None:
    """One line, by one write at the end of the file."""
    about = task_context()
    line = {
        "run": about.run_id,
        "key": about.key,
        "step": step,
        "attempt": about.attempt,
        "pid": os.getpid(),
        "tenant": HERE.tenant,
        "build": HERE.build,
        "epoch": HERE.epoch_of(about.run_id),
        "what": what,
        "at": time.time(),
    }
    descriptor = os.open(os.environ["FAULTS_DIRECTORY"] + "/trace.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, json.dumps(line).encode() + b"\n")
    os.close(descriptor)


async def _work(step: str, seconds: float) -> None:
    trace(step, "begin")
    await asyncio.sleep(seconds)
    trace(step, "end")


@task
async def square(number: int, seconds: float) -> int:
    await _work("square", seconds)
    return number * number


@task
def square_in_thread(number: int, seconds: float) -> int:
    trace("square", "begin")
    time.sleep(seconds)
    trace("square", "end")
    return number * number


@task(retry=Retry.fixed(max_attempts=FLAKY_ATTEMPTS, delay=0.3))
async def flaky(number: int, seconds: float) -> int:
    await _work("flaky", seconds)
    if task_context().attempt < FLAKY_ATTEMPTS:
        raise ConnectionError("the outside world is away")
    return number


@task
async def hopeless(number: int) -> int:
    await _work("hopeless", 0)
    raise NonRetryable(f"nobody can do {number}")


@task
async def undo(number: int) -> None:
    await _work("undo", 0.02)


@task
async def tidy(run: str) -> None:
    await _work("tidy", 0.02)


errand = workflow("errand")


@errand.v("1.0")
async def errand_v1(run: Run, plan: Plan) -> list[Any]:
    try:
        return await _carry_out(run, plan)
    finally:
        await tidy.start(run, run.id)


async def _carry_out(run: Run, plan: Plan) -> list[Any]:
    return [await DEEDS[kind](run, *arguments) for kind, *arguments in plan]


async def _together(run: Run, *plans: Plan) -> list[Any]:
    return await asyncio.gather(*(_carry_out(run, plan) for plan in plans))


async def _map(run: Run, numbers: list[int]) -> list[int]:
    return await negate.map(run, numbers, limit=3)


@task
async def negate(number: int) -> int:
    await _work("negate", 0.02)
    return -number


async def _hopeless(run: Run, number: int) -> str:
    try:
        return str(await hopeless.start(run, number))
    except TaskFailed as failed:
        return failed.type


async def _wait(run: Run, colour: str, timeout: float | None) -> int | None:
    if timeout is None:
        return await run.wait(EVENTS[colour])
    answer = await run.wait(EVENTS[colour], timeout=timeout)
    return answer.payload if answer else None


async def _saga(run: Run, numbers: list[int], ends_well: bool) -> str:
    try:
        async with run.saga() as saga:
            for number in numbers:
                await square.start(run, number, 0.02)
                saga.undo(undo, number)
            if not ends_well:
                raise CalledOffError
    except CalledOffError:
        return "called off"
    return "done"


async def _child(run: Run, plan: Plan) -> list[Any] | str:
    try:
        return await errand_v1.start(run, plan)
    except ChildCancelled:
        return CANCELLED


async def _failing_child(run: Run, plan: Plan) -> str:
    try:
        await errand_v1.start(run, plan)
    except ChildCancelled:
        return CANCELLED
    except ChildFailed as failed:
        return failed.type
    return "went well"


async def _boom(run: Run, number: int) -> None:
    raise BoomError(f"{run.id} was to fail at {number}")


async def _left(run: Run, plan: Plan, policy: Any) -> str:
    errand_v1.start(run, plan, on_parent_close=policy)
    return "left"


async def _race(run: Run, plan: Plan, seconds: float) -> list[Any]:
    try:
        return list(await run.first(child=errand_v1.start(run, plan), clock=run.sleep(seconds)))
    except ChildCancelled:
        return ["child", CANCELLED]


async def _race_of_tasks(run: Run, number: int, one: float, other: float) -> list[Any]:
    return list(await run.first(one=square.start(run, number, one), other=square.start(run, number + 1, other)))


async def _limited(run: Run, plan: Plan, seconds: float) -> list[Any] | str | None:
    try:
        async with asyncio.timeout(seconds):
            return await errand_v1.start(run, plan)
    except TimeoutError:
        return None
    except ChildCancelled:
        return CANCELLED


async def _given_up(run: Run, plan: Plan) -> str:
    errand_v1.start(run, plan).cancel()
    return "given up"


DEEDS: dict[str, Callable[..., Awaitable[Any]]] = {
    "square": square.start,
    "thread": square_in_thread.start,
    "flaky": flaky.start,
    "hopeless": _hopeless,
    "map": _map,
    "together": _together,
    "sleep": Run.sleep,
    "wait": _wait,
    "saga": _saga,
    "child": _child,
    "failing child": _failing_child,
    "boom": _boom,
    "left": _left,
    "race": _race,
    "tasks race": _race_of_tasks,
    "limited": _limited,
    "given up": _given_up,
}


def right(plan: Plan, output: Any) -> bool:
    """Whether a run of this plan may return this. What events bring is not judged here but for its order."""
    if not isinstance(output, list) or len(output) != len(plan):
        return False
    waits = [(deed[1], got) for deed, got in zip(plan, output, strict=True) if deed[0] == "wait" and got is not None]
    in_order = all(
        [got for name, got in waits if name == colour] == list(range(1, 1 + sum(name == colour for name, _ in waits))) for colour in COLOURS
    )
    return in_order and all(_right(deed, got) for deed, got in zip(plan, output, strict=True))


def _right(deed: list[Any], got: Any) -> bool:
    match deed:
        case ["together", *plans]:
            return len(got) == len(plans) and all(right(plan, part) for plan, part in zip(plans, got, strict=True))
        case ["wait", _, timeout]:
            return got is not None or timeout is not None
        case ["child", plan]:
            return got == CANCELLED or right(plan, got)
        case ["failing child", _]:
            return got in (CANCELLED, BoomError.__name__)
        case ["race", plan, _]:
            return got in (["clock", None], ["child", CANCELLED]) or (got[0] == "child" and right(plan, got[1]))
        case ["limited", plan, _]:
            return got in (None, CANCELLED) or right(plan, got)
        case [kind, *arguments]:
            return got in POSSIBLE[kind](*arguments)
    return False


POSSIBLE: dict[str, Callable[..., list[Any]]] = {
    "square": lambda number, _: [number * number],
    "thread": lambda number, _: [number * number],
    "flaky": lambda number, _: [number],
    "hopeless": lambda _: ["NonRetryable"],
    "map": lambda numbers: [[-number for number in numbers]],
    "sleep": lambda _: [None],
    "saga": lambda _, ends_well: ["done" if ends_well else "called off"],
    "tasks race": lambda number, *_: [["one", number**2], ["other", (number + 1) ** 2]],
    "left": lambda *_: ["left"],
    "given up": lambda _: ["given up"],
}
"""What deeds may bring whose outcome hangs on no other plan."""


def fails(plan: Plan) -> bool:
    """Whether a run of this plan ends as failed."""
    return any(deed[0] == "boom" for deed in plan)


def undone(plan: Plan) -> list[int]:
    """What a run of this plan that completes has undone, in this order."""
    return [number for deed in plan if deed[0] == "saga" and not deed[2] for number in reversed(deed[1])]
