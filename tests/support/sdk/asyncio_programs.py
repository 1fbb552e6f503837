"""Random workflows over all of asyncio that may be used in workflow code, played by a random outside world, or replayed.

A program is made of a number; so is what happens to it. After each thing that runs several at once the code goes through what asyncio
handed back, in its order, and makes a call for each: where the order is another in another process, the replay goes another way.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from random import Random
from typing import Any

from aiki import Event, NonRetryable, Run, TaskFailed, task, workflow
from support.doubles import double
from support.other_processes import answer_all
from support.sdk.driver import Driver


@task
async def step(name: str, value: int) -> int:
    return value


news = Event("news", int)
flow = workflow("programs")
Branch = Callable[[], Coroutine[Any, Any, int]]
Several = Callable[[Run, list[Branch], "Program"], Awaitable[list[int]]]


class Program:
    """A tree, grown as the code asks for it: every choice is by the number of the place in it, never by what was chosen before."""

    def __init__(self, seed: int, run: Run, kinds: list[str]) -> None:
        self.seed = seed
        self.kinds = kinds
        self.run = run
        self.trace: list[str] = []

    async def node(self, path: str, depth: int) -> int:
        random = Random(f"{self.seed}:{path}")
        if depth == 0 or random.random() < 0.3:
            return await self.leaf(path, random)
        kind = random.choice(self.kinds)
        width = random.randint(2, 5)
        branches: list[Branch] = [lambda number=number: self.node(f"{path}.{number}", depth - 1) for number in range(width)]  # type: ignore[misc]
        self.trace.append(f"{path} {kind}")
        try:
            results = await SEVERAL[kind](self.run, branches, self)
        except (TaskFailed, TimeoutError, ExceptionGroup) as error:
            self.trace.append(f"{path} {type(error).__name__}")
            results = [-1]
        total = 0
        for number, result in enumerate(results):  # in the order in which they were handed back
            self.trace.append(f"{path} got {result}")
            total += await step.start(self.run, f"{path}/{number}/{result}", result)
        return total

    async def leaf(self, path: str, random: Random) -> int:
        number = random.randrange(1, 1000)
        try:
            kind = random.randrange(5)
            if kind == 0:
                await asyncio.sleep(number % 7)
            elif kind == 1:
                await self.run.sleep(number % 5)
            elif kind == 2:
                answer = await self.run.wait(news, timeout=number % 9 + 1)
                return answer.payload if answer else 0
            return await step.start(self.run, path if kind == 3 else "same", number)
        except asyncio.CancelledError:
            with suppress(TaskFailed):
                await step.start(self.run, f"undo {path}", number)
            raise
        finally:
            self.trace.append(f"{path} left")


def _tasks(branches: list[Branch]) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(branch()) for branch in branches]


def _results(futures: Any) -> list[int]:
    return [-2 if future.cancelled() else -3 if future.exception() else future.result() for future in futures]


async def _gather(run: Run, branches: list[Branch], program: Program) -> list[int]:
    return await asyncio.gather(*(branch() for branch in branches))


async def _wait(run: Run, branches: list[Branch], program: Program) -> list[int]:
    return _results((await asyncio.wait(_tasks(branches)))[0])


async def _wait_some(run: Run, branches: list[Branch], program: Program) -> list[int]:
    first, left = await asyncio.wait(_tasks(branches), return_when=asyncio.FIRST_COMPLETED)
    late = (await asyncio.wait(left, timeout=3))[0] if left else set()
    for open_one in left - late:
        open_one.cancel()
    with suppress(BaseExceptionGroup):
        await asyncio.gather(*(left - late), return_exceptions=True)
    return _results(first) + _results(late)


async def _wait_gathered(run: Run, branches: list[Branch], program: Program) -> list[int]:
    groups = [asyncio.gather(branch(), return_exceptions=True) for branch in branches]
    return [len(group.result()) for group in (await asyncio.wait(groups))[0]]


async def _wait_futures(run: Run, branches: list[Branch], program: Program) -> list[int]:
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in branches]
    for number, (branch, future) in enumerate(zip(branches, futures, strict=True)):
        asyncio.create_task(branch()).add_done_callback(lambda _, future=future, number=number: future.set_result(number))  # type: ignore[misc]
    return [future.result() for future in (await asyncio.wait(futures))[0]]


async def _wait_handles(run: Run, branches: list[Branch], program: Program) -> list[int]:
    handles = {step.start(run, f"handle {number}", number) for number in range(len(branches) + 6)}
    total = _results(handles if all(handle.done() for handle in handles) else (await asyncio.wait(handles))[0])
    return [*total, *_results(handles), await branches[0]()]


async def _as_completed(run: Run, branches: list[Branch], program: Program) -> list[int]:
    return [await one for one in asyncio.as_completed([branch() for branch in branches])]


async def _as_completed_tasks(run: Run, branches: list[Branch], program: Program) -> list[int]:
    return [await one for one in asyncio.as_completed(_tasks(branches), timeout=100_000)]


async def _group(run: Run, branches: list[Branch], program: Program) -> list[int]:
    async with asyncio.TaskGroup() as group:
        made = [group.create_task(branch()) for branch in branches]
    return _results(set(made))


async def _failing_group(run: Run, branches: list[Branch], program: Program) -> list[int]:
    async def fail() -> None:
        await step.start(run, "then fail", 1)
        raise TimeoutError

    async with asyncio.TaskGroup() as group:
        for branch in branches:
            group.create_task(branch())
        group.create_task(fail())
    return []


async def _first(run: Run, branches: list[Branch], program: Program) -> list[int]:
    first = await run.first(**{f"c{number}": branch() for number, branch in enumerate(branches)})
    return [first.result, len(first.name)]


async def _map(run: Run, branches: list[Branch], program: Program) -> list[int]:
    async def one(item: int) -> int:
        return await branches[item]()

    return [await one(0), *await double.map(run, range(7), limit=3)]


async def _semaphore(run: Run, branches: list[Branch], program: Program) -> list[int]:
    order: list[int] = []
    semaphore, lock = asyncio.Semaphore(2), asyncio.Lock()

    async def enter(branch: Branch) -> None:
        async with semaphore:
            result = await branch()
        async with lock:
            order.append(await step.start(run, "locked", result))

    await asyncio.gather(*(enter(branch) for branch in branches), return_exceptions=True)
    return order


async def _condition(run: Run, branches: list[Branch], program: Program) -> list[int]:
    condition, order = asyncio.Condition(), list[int]()

    async def wait(number: int) -> None:
        async with condition:
            await condition.wait()
            order.append(number)

    async def tell() -> None:
        await branches[0]()
        async with condition:
            condition.notify(2)
        await step.start(run, "between", 1)
        async with condition:
            condition.notify_all()

    await asyncio.gather(*(wait(number) for number in range(6)), tell(), return_exceptions=True)
    return order


async def _event(run: Run, branches: list[Branch], program: Program) -> list[int]:
    event, order = asyncio.Event(), list[int]()

    async def wait(number: int) -> None:
        await event.wait()
        order.append(await step.start(run, "woken", number))

    waiting = {asyncio.create_task(wait(number)) for number in range(6)}
    await asyncio.gather(branches[0](), return_exceptions=True)
    event.set()
    await asyncio.wait(waiting)
    return order


async def _queue(run: Run, branches: list[Branch], program: Program) -> list[int]:
    queue: asyncio.Queue[int] = asyncio.PriorityQueue(2)

    async def put(branch: Branch) -> None:
        await queue.put(await branch())

    producers = _tasks([lambda branch=branch: put(branch) for branch in branches])  # type: ignore[misc]
    got = [await asyncio.wait_for(queue.get(), 5) for _ in branches]
    await asyncio.gather(*producers)
    return got


async def _timeout(run: Run, branches: list[Branch], program: Program) -> list[int]:
    try:
        async with asyncio.timeout(4):
            return await asyncio.gather(*(asyncio.shield(branch()) for branch in branches))
    except TimeoutError:
        return [await asyncio.wait_for(branches[0](), 50)]


async def _wait_for(run: Run, branches: list[Branch], program: Program) -> list[int]:
    made = [asyncio.create_task(asyncio.wait_for(branch(), 3 + number)) for number, branch in enumerate(branches)]
    return _results((await asyncio.wait(made))[0])


async def _barrier(run: Run, branches: list[Branch], program: Program) -> list[int]:
    barrier = asyncio.Barrier(len(branches))

    async def meet(branch: Branch) -> int:
        with suppress(Exception):
            await branch()
        return await barrier.wait()

    return _results(set((await asyncio.wait([asyncio.create_task(meet(branch)) for branch in branches]))[0]))


SEVERAL: dict[str, Several] = {
    name.removeprefix("_"): several
    for name, several in list(globals().items())
    if name.startswith("_") and asyncio.iscoroutinefunction(several)
}


ALIKE = [kind for kind in sorted(SEVERAL) if kind not in ("failing_group", "queue", "timeout", "wait_for")]
"""What asyncio does at the same moments from Python 3.11 to 3.13: not `wait_for`, nor who hears of a cancellation first."""


def play(program: int, chunks: list[str] | None, kinds: list[str]) -> dict[str, Any]:
    """The history and what the code saw: of a run played by a random outside world, or of the replay of a history."""
    rubbish = [bytearray(size % 97 + 1) for size in os.urandom(200)]  # so that addresses are others each time
    seen: list[Program] = []

    async def code(run: Run, given: int) -> int:
        seen.append(Program(program, run, kinds))
        return await seen[-1].node("0", 2)

    driver = Driver(workflow("programs").v("1")(code), 0)
    if chunks is None:
        _go_on(driver, Random(program))
    else:
        driver.chunks = chunks
        driver.crash()
    execution = driver.execution
    stop = execution.stop.message if execution.stop is not None else None
    batch = execution.take_commit()
    left = [entry["k"] for entry in json.loads(batch.entries)] if batch is not None else []
    answer = {"history": driver.chunks, "trace": list(seen[-1].trace), "outcome": repr(execution.outcome), "stop": stop, "left": left}
    execution.close()
    del rubbish
    return answer


def _go_on(driver: Driver, random: Random) -> None:
    for _ in range(2_000):
        driver.turn()
        if driver.outcome is not None or driver.execution.stop is not None:
            return
        choice = random.random()
        if choice < 0.05:
            driver.crash()
        elif choice < 0.2:
            driver.send("news", random.randrange(1, 99))
            driver.tell()
        elif driver.running and choice < 0.9:
            call = random.choice(sorted(driver.running))
            if choice < 0.3 and not driver.running[call].label.startswith('step(name="0/'):
                driver.fail(call, NonRetryable("no"))
            else:
                kwargs = driver.running[call].kwargs
                driver.finish(call, kwargs["value"])
        elif (due := driver.execution.next_due()) is not None:
            driver.now = max(driver.now + 1, due)
        else:
            driver.now += 1_000
    raise AssertionError("the program does not end")


if __name__ == "__main__":
    answer_all(lambda question: play(*question))
