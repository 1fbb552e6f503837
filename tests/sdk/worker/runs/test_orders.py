"""A run is cancelled, paused and resumed while a worker has it."""

from __future__ import annotations

import asyncio

import pytest

from aiki import (
    Client,
    Event,
    Run,
    RunCancelled,
    task,
    workflow,
)
from aiki.protocol import Status
from support.doubles import add
from support.link import Link
from support.waiting import until
from support.workers import SECONDS, StartWorker


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


async def test_paused_run_starts_no_task_until_resumed(client: Client, link: Link, start_worker: StartWorker, unique: str) -> None:
    two = TwoHolds(unique)
    await start_worker(two.flow)
    handle = await two.version.start(client)
    await two.running.wait()
    await handle.pause()
    await until(lambda: link.heard("inbox", handle.id, '"pause":true'))
    two.let_go.set()

    async def paused() -> bool:
        return (await handle.refresh()).status is Status.PAUSED

    await until(paused)
    assert two.started == [1]
    await handle.resume()
    assert await handle.result(SECONDS) == 3


async def test_run_that_is_being_paused_can_be_cancelled(client: Client, link: Link, start_worker: StartWorker, unique: str) -> None:
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

    await start_worker(flow)
    handle = await version.start(client)
    await running.wait()
    await handle.pause()
    await until(lambda: link.heard("inbox", handle.id, '"pause":true'))
    await handle.cancel()
    with pytest.raises(RunCancelled):
        await handle.result(SECONDS)
    await asyncio.wait_for(cancelled.wait(), SECONDS)


@pytest.mark.parametrize("verb", ["cancel", "pause"])
async def test_nothing_starts_after_an_order_was_acknowledged_though_no_news_has_come(
    client: Client, link: Link, start_worker: StartWorker, unique: str, verb: str
) -> None:
    two = TwoHolds(unique)

    link.silence("inbox")
    await start_worker(two.flow)
    handle = await two.version.start(client)
    await two.running.wait()
    await (handle.cancel() if verb == "cancel" else handle.pause())
    two.let_go.set()

    async def rests() -> bool:
        return (await handle.refresh()).status is (Status.CANCELLED if verb == "cancel" else Status.PAUSED)

    await until(rests)
    assert two.started == [1]


async def test_event_that_came_while_a_run_was_held_is_not_slept_through(
    client: Client, link: Link, start_worker: StartWorker, unique: str
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

    await start_worker(flow)
    handle = await version.start(client)
    await running.wait()
    await handle.pause()
    await handle.send(go, 2)
    await until(lambda: link.heard("inbox", handle.id, '"pause":true', '"name":"go"'))
    link.silence("inbox")
    await handle.resume()
    let_go.set()
    assert await handle.result(SECONDS) == [1, 2]
