"""Tasks on a worker: attempts, timeouts, retries, threads, and what they raise."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from aiki import (
    Client,
    Event,
    NonRetryable,
    Retry,
    Run,
    RunFailed,
    task,
    task_context,
    workflow,
)
from aiki.protocol import Status
from support.doubles import add
from support.waiting import until
from support.workers import SECONDS, StartWorker, error_of_paused


async def test_def_task_runs_in_a_thread_with_its_context(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @task
    def where() -> list[str]:
        return [threading.current_thread().name, task_context().key]

    @flow.v("1.0")
    async def version(run: Run) -> list[str]:
        return await where.start(run)

    await start_worker(flow)
    handle = await version.start(client)
    name, key = await handle.result(SECONDS)
    assert name.startswith("aiki-task")
    assert key == f"{handle.id}-0"


async def test_failed_attempts_are_repeated_with_the_same_key(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)
    seen: list[tuple[int, str]] = []

    @task(retry=Retry.fixed(max_attempts=3, delay=0.01))
    async def flaky() -> str:
        seen.append((task_context().attempt, task_context().key))
        if len(seen) < 3:
            raise ConnectionError("not yet")
        return "ok"

    @flow.v("1.0")
    async def version(run: Run) -> str:
        return await flaky.start(run)

    await start_worker(flow)
    handle = await version.start(client)
    assert await handle.result(SECONDS) == "ok"
    assert seen == [(n, f"{handle.id}-0") for n in (1, 2, 3)]


async def test_long_retry_delay_parks_the_run_and_retry_ends_it_now(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)
    attempts: list[int] = []

    @task(retry=Retry.fixed(max_attempts=2, delay=3_600))
    async def flaky() -> int:
        attempts.append(task_context().attempt)
        if len(attempts) == 1:
            raise ConnectionError("not yet")
        return len(attempts)

    @flow.v("1.0")
    async def version(run: Run) -> int:
        return await flaky.start(run)

    await start_worker(flow)
    handle = await version.start(client)

    async def waits() -> Any:
        info = await handle.refresh()
        return info.waits if info.status is Status.WAITING else None

    (wait,) = await until(waits)
    assert (wait.kind, wait.name, wait.attempt) == ("retry", "flaky", 2)
    await handle.retry()
    assert await handle.result(SECONDS) == 2
    assert attempts == [1, 2]


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_attempt_beyond_its_timeout_fails_with_task_timeout(
    client: Client, start_worker: StartWorker, unique: str, kind: str
) -> None:
    flow = workflow(unique)
    go_on = threading.Event()

    @task(timeout=0.05, retry=Retry.never())
    async def slow() -> None:
        await asyncio.Event().wait()

    @task(timeout=0.05, retry=Retry.never())
    def slow_thread() -> None:
        go_on.wait(SECONDS)

    @flow.v("1.0")
    async def version(run: Run) -> None:
        await (slow if kind == "async" else slow_thread).start(run)

    await start_worker(flow)
    with pytest.raises(RunFailed, match="TaskTimeout"):
        await (await version.start(client)).result(SECONDS)
    go_on.set()


@pytest.mark.parametrize(
    "raised", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), NonRetryable("no"), GeneratorExit(), StopIteration(1)]
)
@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_whatever_a_task_raises_fails_the_task_only(
    client: Client, start_worker: StartWorker, unique: str, raised: BaseException, kind: str
) -> None:
    flow = workflow(unique)

    @task(retry=Retry.never())
    async def bad() -> None:
        raise raised

    @task(retry=Retry.never())
    def bad_thread() -> None:
        raise raised

    @flow.v("1.0")
    async def version(run: Run) -> None:
        await (bad if kind == "async" else bad_thread).start(run)

    @flow.v("2.0")
    async def good(run: Run) -> int:
        return await add.start(run, 1, 1)

    await start_worker(flow)
    with pytest.raises(RunFailed):
        await (await version.start(client)).result(SECONDS)
    assert await (await good.start(client)).result(SECONDS) == 2


async def test_end_of_a_task_that_cannot_be_told_stops_its_run(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    class Odd(type):
        def __instancecheck__(cls, instance: object) -> bool:
            raise ZeroDivisionError

    class Never(Exception, metaclass=Odd): ...

    @task(retry=Retry.exponential(non_retryable=(Never,)))
    async def bad() -> None:
        raise ValueError("no")

    @flow.v("1.0")
    async def version(run: Run) -> None:
        await bad.start(run)

    await start_worker(flow)
    handle = await version.start(client)
    assert (await until(lambda: error_of_paused(handle))).type == "ZeroDivisionError"


async def test_stack_of_a_failed_task_begins_in_user_code(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @task(retry=Retry.never())
    async def bad() -> None:
        raise ValueError("no")

    @flow.v("1.0")
    async def version(run: Run) -> None:
        await bad.start(run)

    await start_worker(flow)
    with pytest.raises(RunFailed) as failed:
        await (await version.start(client)).result(SECONDS)
    assert failed.value.error.stack is not None
    assert "aiki/worker" not in failed.value.error.stack


async def test_result_that_json_cannot_hold_names_the_task(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @task
    async def bad() -> Any:
        return object()

    @flow.v("1.0")
    async def version(run: Run) -> None:
        await bad.start(run)

    await start_worker(flow)
    with pytest.raises(RunFailed, match="task bad"):
        await (await version.start(client)).result(SECONDS)


async def test_runs_that_wait_for_a_retry_leave_their_slots_to_others(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)
    failed: list[str] = []

    @task(retry=Retry.fixed(max_attempts=2, delay=4))
    async def down() -> None:
        failed.append(task_context().run_id)
        if task_context().attempt == 1:
            raise ConnectionError

    @flow.v("1.0")
    async def version(run: Run) -> None:
        await down.start(run)

    @flow.v("2.0")
    async def good(run: Run) -> int:
        return await add.start(run, 1, 1)

    await start_worker(flow, concurrency=2)
    handles = [await version.start(client) for _ in range(4)]

    async def all_failed() -> bool:
        return len(set(failed)) == 4

    await until(all_failed)
    assert await (await good.start(client)).result(SECONDS) == 2
    assert failed.count(handles[0].id) == 1, "it had to wait for the end of a delay"
    for handle in handles:
        await handle.result(2 * SECONDS)


async def test_run_alone_waits_for_its_retry_in_the_worker(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @task(retry=Retry.fixed(max_attempts=2, delay=0.3))
    async def flaky() -> int:
        if task_context().attempt == 1:
            raise ConnectionError
        return task_context().attempt

    @flow.v("1.0")
    async def version(run: Run) -> int:
        return await flaky.start(run)

    await start_worker(flow, concurrency=2)
    handle = await version.start(client)
    assert await handle.result(SECONDS) == 2
    assert "parked" not in [entry.kind for entry in (await handle.history()).entries]


@pytest.mark.parametrize("kind", ["tasks", "closures", "events"])
async def test_two_of_one_name_in_a_run_pause_it_and_both_are_named(
    client: Client, start_worker: StartWorker, unique: str, kind: str
) -> None:
    flow = workflow(unique)

    def two() -> Any:  # made while the run goes on: those that its code names are refused when it is registered
        @task(name="scale")
        async def one(x: int) -> int:
            return x

        @task(name="scale")
        async def other(x: int) -> int:
            return 2 * x

        return one, other

    def scaler(factor: int) -> Any:
        @task
        async def scale(x: int) -> int:
            return factor * x

        return scale

    @flow.v("1.0")
    async def version(run: Run) -> None:
        if kind == "events":
            await run.wait(Event("go", int), timeout=0.01)
            await run.wait(Event("go", str), timeout=0.01)
        for same in two() if kind == "tasks" else (scaler(2), scaler(2), scaler(3)):
            await same.start(run, 1)

    await start_worker(flow)
    handle = await version.start(client)
    error = await until(lambda: error_of_paused(handle))
    assert error.type == "TwoOfOneName"
    assert error.message.count("test_tasks.py:") == 2


async def test_step_that_starts_with_a_claim_does_not_keep_a_retry_beside_it_waiting(
    client: Client, start_worker: StartWorker, unique: str
) -> None:
    flow = workflow(unique)
    let_go = asyncio.Event()

    @task
    async def long() -> str:
        await let_go.wait()
        return "long"

    @task(retry=Retry.fixed(delay=0.5, max_attempts=2))
    async def flaky() -> str:
        if task_context().attempt == 1:
            raise RuntimeError("once")
        let_go.set()
        return "flaky"

    @flow.v("1.0")
    async def version(run: Run) -> list[str]:
        return list(await asyncio.gather(long.start(run), flaky.start(run)))

    first = await start_worker(flow)
    handle = await version.start(client)

    async def failed() -> bool:
        return "attempt" in [entry.kind for entry in (await handle.history()).entries]

    await until(failed)
    await first.stop(grace_seconds=0)
    await start_worker(flow)
    assert await handle.result(SECONDS) == ["long", "flaky"]


async def test_task_that_waited_for_a_thread_does_not_begin_while_the_lease_is_in_doubt(
    client: Client, start_worker: StartWorker, unique: str
) -> None:
    """S5 S6: the lease is looked at where the function is called, not only where the task is started."""
    flow = workflow(unique)
    let_go, began = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    started: list[int] = []

    @task
    def step(number: int) -> int:
        started.append(number)
        loop.call_soon_threadsafe(began.set)
        assert let_go.wait(SECONDS)
        return number

    @flow.v("1.0")
    async def version(run: Run) -> int:
        return sum(await asyncio.gather(step.start(run, 1), step.start(run, 2)))

    worker = await start_worker(flow, concurrency=1)
    handle = await version.start(client)
    await began.wait()
    session = worker._session
    assert session is not None
    session._lease._until = 0.0
    let_go.set()

    async def handed_back() -> bool:
        return any(activation.held_back for activation in session.runs._active.values())

    await until(handed_back)
    assert started == [1]
    session._lease.renewed(time.monotonic())
    session.runs.touch_held_back()
    assert await handle.result(SECONDS) == 3
    assert started == [1, 2]
