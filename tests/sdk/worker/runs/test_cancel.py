"""Cancels and misfits, with a worker in this process and the real server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiki import Client, Event, Run, RunCancelled, RunHandle, task, workflow
from aiki.protocol import Status
from support.waiting import until
from support.workers import SECONDS, StartWorker, has_status


async def test_the_reason_of_a_cancel_is_told_to_the_code_and_kept(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow, told = workflow(unique), list[str]()

    @flow.v("1.0")
    async def version(run: Run) -> None:
        try:
            await run.sleep(3600)
        except asyncio.CancelledError as cancelled:
            told.append(str(cancelled))
            raise

    await start_worker(flow)
    handle = await version.start(client)
    await until(lambda: has_status(handle, Status.WAITING))
    await handle.cancel("the customer left")
    with pytest.raises(RunCancelled, match="the customer left"):
        await handle.result(SECONDS)
    assert set(told) == {"the customer left"}
    entries = (await handle.history()).entries
    assert [entry.data["reason"] for entry in entries if entry.kind == "cancel"] == ["the customer left"]


async def test_an_event_that_does_not_fit_rests_its_run_until_the_code_takes_it(
    client: Client, start_worker: StartWorker, unique: str
) -> None:
    flow = workflow(unique)

    @flow.v("1.0")
    async def version(run: Run) -> int:
        return await run.wait(Event("number", int))

    first = await start_worker(flow)
    handle = await version.start(client)
    await handle.send("number", "many")
    await until(lambda: has_status(handle, Status.PAUSED))
    info = await handle.refresh()
    assert info.error is not None
    assert "wait(number)" in info.error.message
    await first.stop()
    mended = workflow(unique)

    @mended.v("1.0")
    async def looser(run: Run) -> Any:
        return await run.wait(Event("number", str))

    await start_worker(mended)
    await handle.retry()
    assert await client.handle(handle.id).result(SECONDS) == "many"


async def test_a_run_that_rests_with_a_misfit_compensates_when_it_is_cancelled(
    client: Client, start_worker: StartWorker, unique: str
) -> None:
    flow, undone = workflow(unique), list[int]()

    @task
    async def undo(number: int) -> None:
        undone.append(number)

    @flow.v("1.0")
    async def version(run: Run) -> int:
        async with run.saga() as saga:
            saga.undo(undo, 7)
            return await run.wait(Event("number", int))

    await start_worker(flow)
    handle = await version.start(client)
    await handle.send("number", "many")
    await until(lambda: has_status(handle, Status.PAUSED))
    await handle.cancel("give up")
    with pytest.raises(RunCancelled):
        await handle.result(SECONDS)
    assert undone == [7]


async def test_force_ends_a_run_that_does_not_heed_its_cancel(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @flow.v("1.0")
    async def version(run: Run) -> None:
        while True:
            try:
                await run.sleep(3600)
            except asyncio.CancelledError:
                continue

    await start_worker(flow)
    handle = await version.start(client)
    await until(lambda: has_status(handle, Status.WAITING))
    await handle.cancel()
    await until(lambda: _heard(handle))
    await handle.cancel("enough", force=True)
    with pytest.raises(RunCancelled, match="by force: enough"):
        await handle.result(SECONDS)


async def _heard(handle: RunHandle[Any]) -> bool:
    kinds = [entry.kind for entry in (await handle.history()).entries]
    return "cancel" in kinds and kinds[-1] == "parked"
