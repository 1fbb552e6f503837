"""A worker in this process and the real server over HTTP: runs come, are carried out, and end."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiki import (
    Client,
    Event,
    Run,
    task,
    task_context,
    workflow,
)
from aiki.client import Start
from aiki.protocol import MAX_PAYLOAD_BYTES, Status
from support.doubles import add
from support.link import Link
from support.waiting import until
from support.workers import SECONDS, StartWorker


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
        return [wait.name for wait in (await handle.refresh()).waits if wait.kind == "event"]

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
    assert (await handle.refresh()).state == {"all": quotes[:-10]}


async def test_step_that_follows_an_event_travels_in_one_commit_with_it(
    client: Client, link: Link, start_worker: StartWorker, unique: str
) -> None:
    flow = workflow(unique)
    go = Event("go", int)

    @flow.v("1.0")
    async def version(run: Run) -> int:
        return await add.start(run, await run.wait(go) or 0, 1)

    await start_worker(flow)
    handle = await version.start(client)

    async def waits() -> bool:
        return (await handle.refresh()).status is Status.WAITING

    await until(waits)
    link.exchanges.clear()
    await handle.send(go, 4)
    assert await handle.result(SECONDS) == 5

    def written() -> list[dict[str, Any]]:
        return [op for one in link.exchanges if one.what == "commit" for op in json.loads(one.asked)["ops"]]

    await until(lambda: any("finish" in op for op in written()))  # the worker may hear of it later than the client
    assert [(op["consumed"], op["finish"]["status"]) for op in written()] == [([1], "completed")]


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
