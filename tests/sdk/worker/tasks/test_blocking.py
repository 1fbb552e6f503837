"""Code that blocks the event loop of its worker is interrupted, tried again, and named."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from aiki import (
    Client,
    Run,
    task,
    workflow,
)
from support.doubles import add
from support.waiting import until
from support.workers import SECONDS, StartWorker, error_of_paused


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
    assert "test_blocking.py:" in error.message
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
    assert "test_blocking.py:" in places[0]
