"""A worker in this process and the real server over HTTP: what runs, what is retried, what is cancelled, what is told."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiki import (
    Client,
    Event,
    NonRetryable,
    Retry,
    Run,
    RunCancelled,
    RunFailed,
    RunHandle,
    ServerUnreachable,
    task,
    task_context,
    workflow,
)
from aiki.client import Start
from aiki.protocol import MAX_PAYLOAD_BYTES, CommitOp, Committed, Status
from aiki.worker.api import WorkerApi
from aiki.workflow import Close
from support.waiting import until
from support.workers import SECONDS, StartWorker, error_of_paused


@task
async def add(a: int, b: int) -> int:
    return a + b


async def test_steps_run_in_order_and_the_result_comes_back(client: Client, start_worker: StartWorker, unique: str) -> None:
    sums = workflow(unique)

    @sums.v("1.0")
    async def version(run: Run, start: int) -> int:
        for _ in range(3):
            start = await add.start(run, start, 1)
        return start

    await start_worker(sums)
    handle = await version.start(client, 4)
    assert await handle.result(SECONDS) == 7
    kinds = [entry.kind for entry in (await handle.history()).entries]
    assert kinds == ["began", "call", "done", "call", "done", "call", "done", "completed"]


async def test_run_started_before_there_was_a_worker_is_picked_up(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @flow.v("1.0")
    async def version(run: Run) -> str:
        return "done"

    handle = await client.start(unique)
    assert handle.notice is not None
    await start_worker(flow)
    assert await handle.result(SECONDS) == "done"


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
        info = await handle.info()
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


async def test_sleep_and_event_hold_no_slot(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)
    go = Event("go", str)

    @flow.v("1.0")
    async def version(run: Run) -> str:
        await run.sleep(0.2)
        return await run.wait(go)

    @flow.v("2.0")
    async def quick(run: Run) -> int:
        return await add.start(run, 1, 1)

    await start_worker(flow, concurrency=1)
    handle = await version.start(client)
    assert await (await quick.start(client)).result(SECONDS) == 2

    async def waits_for_event() -> Any:
        return [wait.name for wait in (await handle.info()).waits if wait.kind == "event"]

    assert await until(waits_for_event) == ["go"]
    await handle.send(go, "now")
    assert await handle.result(SECONDS) == "now"


async def test_run_that_is_woken_as_it_parks_goes_on_at_once(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @flow.v("1.0")
    async def version(run: Run) -> int:
        for _ in range(5):
            await run.sleep(0.055)
        return 5

    await start_worker(flow)
    handles = await client.start_many([Start(version) for _ in range(60)])
    # A lost wake-up would wait for the sweeper, which takes longer than this.
    assert [await handle.result(SECONDS / 2) for handle in handles] == [5] * 60


async def test_timer_fires_while_a_task_still_runs(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)
    let_go = asyncio.Event()

    @task
    async def hold() -> str:
        await let_go.wait()
        return "held"

    @flow.v("1.0")
    async def version(run: Run) -> list[str]:
        holding = hold.start(run)
        try:
            async with asyncio.timeout(0.2):
                await asyncio.Event().wait()
        except TimeoutError:
            let_go.set()
        return ["timed out", await holding]

    await start_worker(flow)
    handle = await version.start(client)
    assert await handle.result(SECONDS) == ["timed out", "held"]
    assert "parked" not in [entry.kind for entry in (await handle.history()).entries]


async def test_event_reaches_a_run_whose_task_is_running(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)
    go = Event("go", int)
    running, let_go = asyncio.Event(), asyncio.Event()

    @task
    async def hold() -> None:
        running.set()
        await let_go.wait()

    @flow.v("1.0")
    async def version(run: Run) -> int:
        holding = hold.start(run)
        got = await run.wait(go)
        let_go.set()
        await holding
        return got

    await start_worker(flow)
    handle = await version.start(client)
    await running.wait()
    await handle.send(go, 7)
    assert await handle.result(SECONDS) == 7


async def test_cancel_ends_the_running_task_and_runs_clean_up(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)
    running, cancelled = asyncio.Event(), asyncio.Event()

    @task
    async def hold() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    @flow.v("1.0")
    async def version(run: Run) -> None:
        try:
            await hold.start(run)
        finally:
            await add.start(run, 1, 1)

    await start_worker(flow)
    handle = await version.start(client)
    await running.wait()
    await handle.cancel("enough")
    with pytest.raises(RunCancelled):
        await handle.result(SECONDS)
    await asyncio.wait_for(cancelled.wait(), SECONDS)
    labels = [entry.data.get("l") for entry in (await handle.history()).entries if entry.kind == "call"]
    assert labels == ["hold()", "add(a=1, b=1)"]


class TwoHolds:
    """A workflow of two tasks, one after the other, which hold until they are let go."""

    def __init__(self, name: str) -> None:
        self.flow = workflow(name)
        self.running, self.let_go = asyncio.Event(), asyncio.Event()
        self.started: list[int] = []

        @task
        async def hold(n: int) -> int:
            self.started.append(n)
            self.running.set()
            await self.let_go.wait()
            return n

        @self.flow.v("1.0")
        async def version(run: Run) -> int:
            return await hold.start(run, 1) + await hold.start(run, 2)

        self.version = version


async def test_paused_run_starts_no_task_until_resumed(client: Client, start_worker: StartWorker, unique: str) -> None:
    two = TwoHolds(unique)
    worker = await start_worker(two.flow)
    handle = await two.version.start(client)
    await two.running.wait()
    await handle.pause()

    async def told() -> bool:
        assert worker._shift is not None
        return worker._shift.runs._active[handle.id]._paused

    await until(told)
    two.let_go.set()

    async def paused() -> bool:
        return (await handle.info()).status is Status.PAUSED

    await until(paused)
    assert two.started == [1]
    await handle.resume()
    assert await handle.result(SECONDS) == 3


async def test_run_that_is_being_paused_can_be_cancelled(client: Client, start_worker: StartWorker, unique: str) -> None:
    """S27 S28: the pause waits for its task; the cancel does not wait for a resume."""
    flow = workflow(unique)
    running, cancelled = asyncio.Event(), asyncio.Event()

    @task
    async def hold() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    @flow.v("1.0")
    async def version(run: Run) -> None:
        await hold.start(run)

    worker = await start_worker(flow)
    handle = await version.start(client)
    await running.wait()
    await handle.pause()

    async def told() -> bool:
        assert worker._shift is not None
        return worker._shift.runs._active[handle.id]._paused

    await until(told)
    await handle.cancel()
    with pytest.raises(RunCancelled):
        await handle.result(SECONDS)
    await asyncio.wait_for(cancelled.wait(), SECONDS)


async def test_loser_of_a_race_is_cancelled(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)
    cancelled = asyncio.Event()

    @task
    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    @flow.v("1.0")
    async def version(run: Run) -> str:
        return (await run.first(quick=add.start(run, 1, 1), never=never.start(run))).name

    await start_worker(flow)
    assert await (await version.start(client)).result(SECONDS) == "quick"
    await asyncio.wait_for(cancelled.wait(), SECONDS)


async def test_children_are_started_and_awaited(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @flow.v("1.0")
    async def child(run: Run, n: int) -> int:
        return await add.start(run, n, n)

    @flow.v("2.0")
    async def parent(run: Run, n: int) -> int:
        children = [child.start(run, i) for i in range(n)]
        return sum(await asyncio.gather(*children))

    await start_worker(flow)
    assert await (await parent.start(client, 20)).result(SECONDS) == 380


class Race:
    """A parent that gives its child up for a quick task once the child has begun, and goes on until it is let go."""

    def __init__(self, name: str, policy: Close) -> None:
        self.flow = workflow(name)
        self.go = Event("go", str)
        self.tidied_up: list[str] = []
        began = asyncio.Event()

        @task
        async def begin() -> None:
            began.set()

        @task
        async def quick() -> None:
            await began.wait()

        @task
        async def tidy_up() -> None:
            self.tidied_up.append(task_context().run_id)

        @self.flow.v("1.0")
        async def child(run: Run) -> str:
            await begin.start(run)
            try:
                return await run.wait(self.go)
            finally:
                await tidy_up.start(run)

        @self.flow.v("2.0")
        async def parent(run: Run) -> str:
            started = child.start(run, on_parent_close=policy)
            run.state["child"] = started.id
            won = await run.first(child=started, quick=quick.start(run))
            run.state["won"] = won.name
            return await run.wait(self.go)

        self.parent = parent

    async def given_up(self, client: Client) -> tuple[RunHandle[Any], RunHandle[Any]]:
        """Parent and child, once the race is over."""
        handle = await self.parent.start(client)

        async def won() -> Any:
            state = (await handle.info()).state
            return state if "won" in state else None

        state = await until(won)
        assert state["won"] == "quick"
        return handle, client.handle(state["child"])


async def test_child_that_is_given_up_is_cancelled_while_its_parent_goes_on(client: Client, start_worker: StartWorker, unique: str) -> None:
    race = Race(unique, "cancel")
    await start_worker(race.flow)
    parent, child = await race.given_up(client)
    with pytest.raises(RunCancelled):
        await child.result(SECONDS)
    assert race.tidied_up == [child.id]
    assert [entry.kind for entry in (await child.history()).entries].count("cancel") == 1
    assert not (await parent.info()).status.terminal
    await parent.send(race.go, "on")
    assert await parent.result(SECONDS) == "on"
    assert [entry.kind for entry in (await parent.history()).entries].count("child_cancel_requested") == 1


async def test_child_that_was_started_to_be_abandoned_outlives_the_race(client: Client, start_worker: StartWorker, unique: str) -> None:
    race = Race(unique, "abandon")
    await start_worker(race.flow)
    parent, child = await race.given_up(client)
    await parent.send(race.go, "on")
    assert await parent.result(SECONDS) == "on"
    assert not (await child.info()).cancel_requested
    await child.send(race.go, "done")
    assert await child.result(SECONDS) == "done"
    assert race.tidied_up == [child.id]


async def test_child_that_is_given_up_is_cancelled_whatever_worker_its_parent_comes_to(
    client: Client, start_worker: StartWorker, unique: str
) -> None:
    race = Race(unique, "cancel")
    worker = await start_worker(race.flow)
    parent, child = await race.given_up(client)
    with pytest.raises(RunCancelled):
        await child.result(SECONDS)
    await worker.stop(grace_seconds=0)
    await start_worker(race.flow)
    await parent.send(race.go, "on")
    assert await parent.result(SECONDS) == "on"
    assert [entry.kind for entry in (await parent.history()).entries].count("child_cancel_requested") == 1


async def test_two_hundred_parallel_tasks(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @flow.v("1.0")
    async def version(run: Run) -> int:
        return sum(await asyncio.gather(*[add.start(run, n, 1) for n in range(200)]))

    await start_worker(flow)
    assert await (await version.start(client)).result(SECONDS) == sum(range(201))


async def test_many_runs_on_two_workers_each_end_once(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)
    bodies: dict[str, int] = {}

    @task
    async def count(n: int) -> int:
        bodies[task_context().key] = bodies.get(task_context().key, 0) + 1
        return n

    @flow.v("1.0")
    async def version(run: Run, n: int) -> int:
        return await count.start(run, n)

    await start_worker(flow, concurrency=20)
    await start_worker(flow, concurrency=20)
    handles = await client.start_many([Start(version, n) for n in range(200)])
    assert [await handle.result(SECONDS) for handle in handles] == list(range(200))
    assert len(bodies) == 200
    assert set(bodies.values()) == {1}


async def test_run_scheduled_for_later_starts_then(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @flow.v("1.0")
    async def version(run: Run) -> str:
        return run.now().isoformat()

    await start_worker(flow)
    start_at = datetime.now(UTC) + timedelta(seconds=0.4)
    handle = await version.start(client, start_at=start_at)
    assert datetime.fromisoformat(await handle.result(SECONDS)) >= start_at


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


async def test_workflow_that_blocks_the_loop_is_stopped_with_its_line(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @flow.v("1.0")
    async def version(run: Run) -> None:
        while True:
            time.monotonic()

    @flow.v("2.0")
    async def good(run: Run) -> int:
        return await add.start(run, 1, 1)

    await start_worker(flow, max_blocking_seconds=0.2)
    handle = await version.start(client)

    error = await until(lambda: error_of_paused(handle), seconds=3 * SECONDS)
    assert error.type == "BlockedLoop"
    assert "test_worker.py:" in error.message
    assert await (await good.start(client)).result(SECONDS) == 2
    await handle.cancel()


async def test_run_that_blocks_the_loop_is_tried_again_before_it_is_paused(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)
    tries: list[int] = []

    @flow.v("1.0")
    async def version(run: Run) -> int:
        await add.start(run, 1, 1)
        tries.append(len(tries))
        if len(tries) < 3:
            while True:
                time.monotonic()
        return len(tries)

    await start_worker(flow, max_blocking_seconds=0.2)
    handle = await version.start(client)
    assert await handle.result(3 * SECONDS) == 3
    assert [entry.data["by"] for entry in (await handle.history()).entries if entry.kind == "queued"] == ["released", "released"]


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

    worker = await start_worker(flow, concurrency=2)
    handles = [await version.start(client) for _ in range(4)]

    async def all_failed() -> bool:
        return len(set(failed)) == 4

    await until(all_failed)
    assert await (await good.start(client)).result(SECONDS) == 2
    assert failed.count(handles[0].id) == 1, "it had to wait for the end of a delay"
    for handle in handles:
        await handle.result(2 * SECONDS)
    assert worker._shift is not None


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
    assert error.message.count("test_worker.py:") == 2


async def test_task_that_blocks_the_loop_is_named_in_the_log(
    client: Client, start_worker: StartWorker, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    flow = workflow(unique)

    told = threading.Event()

    def hear(record: logging.LogRecord) -> bool:
        if "loop is blocked" in record.getMessage():
            told.set()
        return True

    caplog.handler.addFilter(hear)

    @task
    async def blocks() -> None:
        assert told.wait(SECONDS), "nobody has told of the loop"

    @flow.v("1.0")
    async def version(run: Run) -> None:
        await blocks.start(run)

    await start_worker(flow, max_blocking_seconds=0.2)
    await (await version.start(client)).result(SECONDS)
    places = [vars(record)["location"] for record in caplog.records if "loop is blocked" in record.message]
    assert len(places) == 1
    assert "test_worker.py:" in places[0]


async def test_results_larger_than_a_request_are_written_in_parts(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @task
    async def big(letter: str) -> str:
        return letter * 1_900_000

    @flow.v("1.0")
    async def version(run: Run) -> str:
        await asyncio.gather(*[big.start(run, letter) for letter in "abcd"])
        return "e" * 1_900_000

    await start_worker(flow)
    handle = await version.start(client)
    assert len(await handle.result(30)) == 1_900_000


async def test_payloads_at_the_limit_that_consist_of_quotes(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)
    quotes = '"' * (MAX_PAYLOAD_BYTES // 2 - 1)  # each is two bytes in JSON, and four in a commit

    @task
    async def big(start: str) -> str:
        return start

    @flow.v("1.0")
    async def version(run: Run, start: str) -> str:
        run.state["all"] = start[:-10]
        return await big.start(run, start)

    await start_worker(flow)
    handle = await version.start(client, quotes)
    assert await handle.result(30) == quotes
    assert (await handle.info()).state == {"all": quotes[:-10]}


async def test_step_that_follows_an_event_travels_in_one_commit_with_it(
    client: Client, start_worker: StartWorker, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = workflow(unique)
    go = Event("go", int)

    @flow.v("1.0")
    async def version(run: Run) -> int:
        return await add.start(run, await run.wait(go) or 0, 1)

    written: list[CommitOp] = []
    commit = WorkerApi.commit

    async def spied(api: WorkerApi, ops: Sequence[bytes]) -> Committed:
        written.extend(CommitOp.model_validate_json(op) for op in ops)
        return await commit(api, ops)

    monkeypatch.setattr(WorkerApi, "commit", spied)
    await start_worker(flow)
    handle = await version.start(client)

    async def waits() -> bool:
        return (await handle.info()).status is Status.WAITING

    await until(waits)
    written.clear()
    await handle.send(go, 4)
    assert await handle.result(SECONDS) == 5
    assert [(op.consumed, op.finish is not None) for op in written] == [([1], True)]


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


@pytest.mark.parametrize("verb", ["cancel", "pause"])
async def test_nothing_starts_after_an_order_was_acknowledged_though_no_news_has_come(
    client: Client, start_worker: StartWorker, unique: str, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    two = TwoHolds(unique)

    async def silence(_: WorkerApi, __: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(WorkerApi, "inbox", silence)
    await start_worker(two.flow)
    handle = await two.version.start(client)
    await two.running.wait()
    await (handle.cancel() if verb == "cancel" else handle.pause())
    two.let_go.set()

    async def rests() -> bool:
        return (await handle.info()).status is (Status.CANCELLED if verb == "cancel" else Status.PAUSED)

    await until(rests)
    assert two.started == [1]


async def test_event_that_came_while_a_run_was_held_is_not_slept_through(
    client: Client, start_worker: StartWorker, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S24: the pause is taken back before the run rests, and the worker does not hear of it in time."""
    flow, go = workflow(unique), Event("go", int)
    running, let_go = asyncio.Event(), asyncio.Event()

    @task
    async def hold() -> int:
        running.set()
        await let_go.wait()
        return 1

    @flow.v("1.0")
    async def version(run: Run) -> list[int]:
        return list(await asyncio.gather(hold.start(run), run.wait(go)))

    worker = await start_worker(flow)
    handle = await version.start(client)
    await running.wait()
    await handle.pause()
    await handle.send(go, 2)

    async def told() -> bool:
        assert worker._shift is not None
        activation = worker._shift.runs._active[handle.id]
        return activation._paused and activation._execution.inbox_seen == 1

    await until(told)
    assert worker._shift is not None
    monkeypatch.setattr(worker._shift._inbox_feed, "tell", lambda _: None)
    await handle.resume()
    let_go.set()
    assert await handle.result(SECONDS) == [1, 2]


async def test_run_that_was_claimed_again_before_its_park_was_answered_is_not_lost_with_the_answer_to_the_claim(
    client: Client, start_worker: StartWorker, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, go = workflow(unique), Event("go", int)
    commit, claim = WorkerApi.commit, WorkerApi.claim
    parked, lost, asked_again = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @flow.v("1.0")
    async def version(run: Run) -> int:
        return await run.wait(go)

    async def late(api: WorkerApi, ops: Any) -> Any:
        answer = await commit(api, ops)
        parked.set()
        await asked_again.wait()
        return answer

    async def losing_one(api: WorkerApi, runs: Any, **options: Any) -> Any:
        claimed = await claim(api, runs, **options)
        if lost.is_set():
            asked_again.set()
        elif parked.is_set() and claimed.runs:
            lost.set()
            raise ServerUnreachable("the answer was lost")
        return claimed

    monkeypatch.setattr(WorkerApi, "commit", late)
    monkeypatch.setattr(WorkerApi, "claim", losing_one)
    await start_worker(flow)
    handle = await version.start(client)
    await parked.wait()
    await handle.send(go, 3)
    assert await handle.result(SECONDS) == 3


async def test_answer_to_a_claim_from_before_the_worker_registered_again_starts_nothing(
    client: Client, start_worker: StartWorker, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S5 S6: what it grants was given to others when the lease lapsed."""
    flow = workflow(unique)
    granted, arrives, registered = asyncio.Event(), asyncio.Event(), asyncio.Event()
    claim, register = WorkerApi.claim, WorkerApi.register
    started: list[int] = []

    @task
    async def step() -> None:
        started.append(1)

    @flow.v("1.0")
    async def version(run: Run) -> None:
        await step.start(run)

    async def late(api: WorkerApi, runs: Any, **options: Any) -> Any:
        claimed = await claim(api, runs, **options)
        if claimed.runs and not granted.is_set():
            granted.set()
            await arrives.wait()
        return claimed

    async def noted(api: WorkerApi, request: Any) -> Any:
        answer = await register(api, request)
        registered.set()
        return answer

    monkeypatch.setattr(WorkerApi, "claim", late)
    slow = await start_worker(flow)
    handle = await version.start(client)
    await granted.wait()
    monkeypatch.setattr(WorkerApi, "register", noted)
    await client.transport.send("POST", f"/api/v1/workers/{slow.id}/lost")
    assert slow._shift is not None
    slow._shift._on_unknown()
    await registered.wait()
    other = await start_worker(flow)
    await handle.result(SECONDS)
    await other.stop()
    arrives.set()
    await (await version.start(client)).result(SECONDS)
    assert len(started) == 2


async def test_run_that_a_lost_claim_is_granted_late_is_found(
    client: Client, start_worker: StartWorker, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L22: the request lay in a frozen server, say, and is carried out after the claim that asked what the lost one had granted."""
    flow = workflow(unique)
    claim = WorkerApi.claim
    lost, late = asyncio.Event(), asyncio.Event()

    @flow.v("1.0")
    async def version(run: Run) -> int:
        return 1

    async def claimed(api: WorkerApi, runs: Any, **options: Any) -> Any:
        if runs and not lost.is_set():
            lost.set()
            raise ServerUnreachable("the request lies somewhere")
        if runs and late.is_set():
            late.clear()
            await claim(api, runs, **options)
        return await claim(api, runs, **options)

    monkeypatch.setattr(WorkerApi, "claim", claimed)
    await start_worker(flow)
    first = await version.start(client)
    assert await first.result(SECONDS) == 1
    late.set()
    second = await version.start(client)
    assert await second.result(SECONDS) == 1


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
    shift = worker._shift
    assert shift is not None
    shift._lease._until = 0.0
    let_go.set()

    async def handed_back() -> bool:
        return any(activation.held_back for activation in shift.runs._active.values())

    await until(handed_back)
    assert started == [1]
    shift._lease.renewed(time.monotonic())
    shift.runs.touch_held_back()
    assert await handle.result(SECONDS) == 3
    assert started == [1, 2]


async def test_log_lines_come_from_the_line_of_the_workflow_that_said_them(
    client: Client, start_worker: StartWorker, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    flow = workflow(unique)

    @flow.v("1.0")
    async def version(run: Run) -> str:
        run.log.info("%d items", "three", cart=7)
        try:
            raise KeyError("x")
        except KeyError:
            run.log.exception("went wrong")
        await run.sleep(0.01)
        return "done"

    await start_worker(flow)
    with caplog.at_level("INFO", "aiki.run"):
        assert await (await version.start(client)).result(SECONDS) == "done"
    first, second = [record for record in caplog.records if record.name == "aiki.run"]
    line = version.fn.__code__.co_firstlineno
    assert [(record.pathname, record.lineno - line, record.levelname) for record in (first, second)] == [
        (__file__, 2, "INFO"),
        (__file__, 6, "ERROR"),
    ]
    assert first.__dict__["fields"] == {"cart": 7}
    assert "KeyError: 'x'" in second.__dict__["traceback"]
