"""Waiting for results: here, on another replica, without Redis."""

from __future__ import annotations

import asyncio
import time

import pytest

from fake_worker import FakeWorker


async def result(api, run, **query):
    return await api.get(f"/api/v1/runs/{run}/result", **query)


async def test_a_result_that_is_there_is_answered_at_once(api, worker):
    run = await worker.start_and_claim()
    await worker.finish(run, [1])
    reply = await result(api, run)
    assert (reply.status, reply.json()) == (200, {"id": run, "status": "completed", "output": [1], "error": None})


async def test_the_deadline_is_answered_with_202(api, worker):
    run = await worker.start_and_claim()
    reply = await result(api, run, timeout=0.05)
    assert (reply.status, reply.json()["status"]) == (202, "running")
    assert (await result(api, run, timeout=0)).status == 202


async def test_whoever_waits_is_woken(api, worker):
    run = await worker.start_and_claim()
    waiting = [asyncio.create_task(result(api, run)) for _ in range(5)]
    await asyncio.sleep(0)
    await worker.finish(run, 1)
    assert {(await wait).json()["output"] for wait in waiting} == {1}


@pytest.mark.parametrize("redis_url", ["same", None])
async def test_a_result_of_another_replica_arrives(api, worker, start_server, settings, redis_url):
    replica = await start_server(**({} if redis_url else {"redis_url": None}))
    run = await worker.start_and_claim()
    waiting = asyncio.create_task(result(replica, run))
    await worker.finish(run, 1)
    began = time.monotonic()
    assert (await waiting).json()["output"] == 1
    assert time.monotonic() - began < 3


async def test_nobody_waits_for_what_is_not_there(api):
    assert (await result(api, "0" * 32)).status == 404


async def test_two_replicas_serve_one_worker(api, start_server):
    replica = await start_server()
    here = await FakeWorker(api, "w1").register()
    there = FakeWorker(replica, "w1")
    runs = [await here.start_and_claim() for _ in range(5)]
    there.epochs, there.numbers = here.epochs, here.numbers
    for run in runs:
        await there.finish(run, 1)
    assert [(await result(api, run)).json()["output"] for run in runs] == [1] * 5
