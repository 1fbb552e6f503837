"""Waiting for results: here, on another replica, without Redis."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import pytest

from support.fake_worker import FakeWorker
from support.waiting import until


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


@pytest.mark.parametrize("listens", [True, False])
async def test_a_result_of_another_replica_arrives(api, worker, start_server, settings, listens):
    replica = await start_server(**({} if listens else {"redis_url": None}))
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


async def test_nobody_is_told_of_an_end_before_it_is_committed(api, worker, engine, db):
    """S15: the commit of the end fails here, at the last moment; whoever waits must not have heard of it."""
    run = await worker.start_and_claim()
    engine.lanes._held.replace({UUID(run): None}, {}, era=0)  # so that its row is locked and read, in a transaction of several statements
    await db.execute(REFUSE_ENDS)
    try:
        looked = engine.results.reader.items
        waiting = asyncio.create_task(result(api, run, timeout=1))
        await until(lambda: engine.results.reader.items == looked + 1)
        assert (await worker.send(worker.finishing(run, 1))).status >= 500
        assert (await waiting).status == 202
    finally:
        await db.execute("drop trigger refusing on runs; drop function refuse()")


REFUSE_ENDS = """
create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no room for ends'; end $$;
create constraint trigger refusing after update on runs deferrable initially deferred
    for each row when (new.finished_at is not null) execute function refuse();
"""


async def test_runs_that_end_in_one_commit_have_each_their_own_output(api, worker, engine):
    runs = [await worker.start_and_claim() for _ in range(3)]
    looked = engine.results.reader.items
    waiting = [asyncio.create_task(result(api, run)) for run in runs]
    await until(lambda: engine.results.reader.items == looked + 3)  # from now on they hear of it only by being told
    await worker.commit(*[worker.finishing(run, number) for number, run in enumerate(runs)])
    assert [(await wait).json()["output"] for wait in waiting] == [0, 1, 2]


async def test_who_has_waited_is_forgotten(api, worker, engine):
    run = await worker.start_and_claim()
    await asyncio.gather(*[result(api, run, timeout=0.02) for _ in range(3)])
    assert engine.results._waiting == {}
