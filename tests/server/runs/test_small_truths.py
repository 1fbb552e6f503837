"""What two parties see of each other: results while somebody waits, children and their parent's pool, deliveries, the order of locks."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from uuid import UUID

import asyncpg
import pytest

from aiki.protocol import MAX_ANSWER_BYTES
from aiki_server.model.keys import WorkerKey
from aiki_server.store.queries import claims
from support.fake_worker import FakeWorker
from support.waiting import until


@pytest.fixture
def settings(settings):
    """One lane, so that ops that are sent together are written together."""
    return replace(settings, lanes=1)


async def result(api, run, timeout):
    return await api.get(f"/api/v1/runs/{run}/result", timeout=timeout)


async def waiting_poll(api, engine, run, timeout):
    """A poll that has looked once and waits now."""
    looked = engine.results.reader.items
    poll = asyncio.create_task(result(api, run, timeout))
    await until(lambda: engine.results.reader.items > looked)
    return poll


async def test_the_202_of_a_result_says_how_the_run_is_now(api, worker, engine):
    run = (await api.post("/api/v1/runs", {"workflow": "flow", "input": 1})).json()["id"]
    poll = await waiting_poll(api, engine, run, 0.5)
    await worker.claim(run)
    reply = await poll
    assert (reply.status, reply.json()["status"]) == (202, "running")


async def test_a_server_that_is_about_to_end_says_how_the_run_is_now(api, worker, engine):
    run = (await api.post("/api/v1/runs", {"workflow": "flow", "input": 1})).json()["id"]
    poll = await waiting_poll(api, engine, run, 60)
    await worker.claim(run)
    engine.results.drain()
    reply = await poll
    assert (reply.status, reply.json()["status"]) == (202, "running")


@pytest.mark.parametrize("latest", ["main", "second"])
async def test_a_child_goes_to_the_pool_of_its_parent(api, latest):
    first, second = FakeWorker(api, "w1", pool="main"), FakeWorker(api, "w2", pool="second")
    for worker in (second, first) if latest == "main" else (first, second):
        await worker.register()
    for worker, pool in ((first, "main"), (second, "second")):
        run = await worker.start_and_claim(pool=pool)
        child = {"id": run[:14] + "a" * 18, "workflow": "flow", "version": "1.0", "input": "1"}
        assert await worker.outcome(worker.op(run, {"k": "call", "c": 0, "a": "child"}, children=[child])) == "ok"
        assert (await api.get(f"/api/v1/runs/{child['id']}")).json()["pool"] == pool


@pytest.mark.parametrize("latest", ["main", "second"])
async def test_a_child_goes_to_the_pool_of_its_parent_though_the_server_has_not_heard_of_its_worker(start_server, latest):
    """It registered and claimed at another server, a moment ago."""
    here, there = await start_server(redis_url=None), await start_server(redis_url=None)
    first, second = FakeWorker(here, "w1", pool="main"), FakeWorker(here, "w2", pool="second")
    for worker in (second, first) if latest == "main" else (first, second):
        await worker.register()
    for worker, pool in ((first, "main"), (second, "second")):
        run = await worker.start_and_claim(pool=pool)
        there.app._drain.__self__.engine.registry.workers.pop(WorkerKey("default", worker.name), None)
        child = {"id": run[:14] + "a" * 18, "workflow": "flow", "version": "1.0", "input": "1"}
        worker.api = there
        assert await worker.outcome(worker.op(run, {"k": "call", "c": 0, "a": "child"}, children=[child])) == "ok"
        worker.api = here
        assert (await here.get(f"/api/v1/runs/{child['id']}")).json()["pool"] == pool


async def test_a_child_that_its_parents_pool_does_not_carry_goes_where_it_is_carried(api, worker):
    await FakeWorker(api, "w2", pool="second").register(("another", "1.0"))
    run = await worker.start_and_claim()
    child = {"id": run[:14] + "a" * 18, "workflow": "another", "version": "1.0", "input": "1"}
    named = {"id": run[:14] + "b" * 18, "workflow": "flow", "version": "1.0", "pool": "elsewhere", "input": "1"}
    assert await worker.outcome(worker.op(run, {"k": "call", "c": 0, "a": "child"}, children=[child, named])) == "ok"
    assert [(await api.get(f"/api/v1/runs/{one['id']}")).json()["pool"] for one in (child, named)] == ["second", "elsewhere"]


async def test_a_child_does_not_go_to_a_pool_of_another_namespace(api, worker, other):
    await FakeWorker(other, "w1", pool="theirs").register()
    run = await worker.start_and_claim()
    child = {"id": run[:14] + "a" * 18, "workflow": "flow", "version": "1.0", "input": "1"}
    await worker.commit(worker.op(run, {"k": "call", "c": 0, "a": "child"}, children=[child]))
    assert (await api.get(f"/api/v1/runs/{child['id']}")).json()["pool"] == "main"


@pytest.mark.parametrize("read_again", [False, True], ids=["quick", "locked"])
async def test_a_commit_without_entries_forgives_no_delivery(api, worker, db, read_again):
    run = await worker.start_and_claim()
    await worker.commit(worker.op(run, release=True))
    await db.execute("update runs set deliveries = 5 where id = $1", UUID(run))
    await worker.claim(run)
    if read_again:
        await db.execute("update runs set updated_at = now() where id = $1", UUID(run))
    assert await worker.outcome(worker.op(run, state=json.dumps({"a": 1}))) == "ok"
    assert await db.fetchval("select deliveries from runs where id = $1", UUID(run)) == 6
    assert await worker.outcome(worker.op(run, {"k": "began", "at": 1})) == "ok"
    assert await db.fetchval("select deliveries from runs where id = $1", UUID(run)) == 0


@pytest.fixture
async def connect(database_url):
    """Further connections to the test's database."""
    made = []

    async def connect():
        made.append(await asyncpg.connect(database_url))
        return made[-1]

    yield connect
    for connection in made:
        await connection.close()


@pytest.fixture
async def three(worker, db):
    """Three runs in a worker's hands, the first of which lies last; somebody writes the second."""
    runs = sorted([await worker.start_and_claim() for _ in range(3)])
    await db.execute("cluster runs using runs_pkey")
    await db.execute("update runs set updated_at = now() where id = $1", UUID(runs[0]))
    return runs


async def waits(db):
    return await db.fetchval("select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()")


async def locked_meanwhile(db, holder, run, do):
    """Which runs `do` has locked while it waits for this one."""
    everything = {row["id"] for row in await db.fetch("select id from runs")}
    holding = holder.transaction()
    await holding.start()
    await holder.execute("select from runs where id = $1 for update", UUID(run))
    doing = asyncio.create_task(do())
    await until(lambda: waits(db))
    free = {row["id"] for row in await db.fetch("select id from runs for update skip locked")}
    await holding.rollback()
    await doing
    return {one.hex for one in everything - free - {UUID(run)}}


async def test_grants_lock_in_the_order_of_ids(worker, db, connect, three):
    granter = await connect()
    locked = await locked_meanwhile(
        db,
        await connect(),
        three[1],
        lambda: claims.grant_again(granter, WorkerKey("default", worker.name), held=[], room=MAX_ANSWER_BYTES),
    )
    assert locked == {three[0]}


async def test_quick_writes_lock_in_the_order_of_ids(worker, db, connect, three, engine):
    began = {"k": "began", "at": 1}
    for run in three:
        await worker.commit(worker.op(run, began))
    before = engine.lanes.quick
    ops = [worker.op(run, began) for run in (three[2], three[1], three[0])]
    locked = await locked_meanwhile(db, await connect(), three[1], lambda: worker.commit(*ops))
    assert locked == {three[0]}
    assert engine.lanes.quick == before + 3
