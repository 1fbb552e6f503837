"""Fallbacks are counted, and have nothing to do where all are well: what is told in time needs no rescue."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiki import Client, Event, Retry, Run, task, workflow
from aiki.worker import Worker
from fake_worker import FakeWorker
from plugin_stack import ServerProcess
from waiting import until

CALL = {"k": "call", "c": 0, "a": "task:charge:1"}
go = Event("go", int)
family, member = workflow("family"), workflow("member")


@task(retry=Retry.fixed(max_attempts=2, delay=0.1))
async def step(number: int) -> int:
    return number


@member.v("1")
async def member_v1(run: Run, number: int) -> int:
    return await step.start(run, number)


@member.v("2")
async def member_v2(run: Run) -> int:
    return await run.wait(go)


@family.v("1")
async def family_v1(run: Run, number: int) -> list[Any]:
    member_v2.start(run)  # left behind, and told when this one ends
    together = await asyncio.gather(step.start(run, number), member_v1.start(run, number))
    await run.sleep(0.1)
    return [*together, await run.wait(go)]


async def rescues(api):
    lines = (await api.get("/metrics")).body.decode().splitlines()
    return {line.split('"')[1]: float(line.split()[-1]) for line in lines if line.startswith("aiki_rescues_total")}


@pytest.fixture
def own_server(own_database, valkey, tmp_path):
    process = ServerProcess(own_database, valkey.url, log=tmp_path / "server.log", settings={"AIKI_LEASE_SECONDS": "6"})
    process.start()
    yield process
    process.stop()


async def test_where_all_are_well_nobody_is_rescued(own_server: ServerProcess, unique: str) -> None:
    async with Client(own_server.url) as client:
        workers = [Worker(client, workflows=[family, member], pool=unique) for _ in range(2)]
        for worker in workers:
            await worker.start()
        runs = [await family_v1.start(client, number, pool=unique) for number in range(20)]
        for number, run in enumerate(runs):
            await run.send(go, number)
        assert [await run.result(20) for run in runs] == [[number] * 3 for number in range(20)]

        async def nobody_is_left():
            return not [found async for found in client.all_runs(pool=unique) if found.finished_at is None]

        await until(nobody_is_left)
        text = (await client.transport.send("GET", "/metrics")).body.decode()
        for worker in workers:
            await worker.stop(grace=1)
    counts = {line for line in text.splitlines() if line.startswith("aiki_rescues_total")}
    assert counts == {f'aiki_rescues_total{{by="{by}"}} 0.0' for by in ("refill", "result", "children", "lease", "poll", "claim", "assign")}


async def test_who_hears_of_an_end_from_the_poll_is_rescued(start_server, monkeypatch):
    api = await start_server(redis_url=None)
    results = api.app._drain.__self__.engine.results
    worker = await FakeWorker(api, "w1").register()
    run = await worker.start_and_claim()
    looked = results.reader.items
    waiting = asyncio.create_task(api.get(f"/api/v1/runs/{run}/result", timeout=20))
    await until(lambda: results.reader.items > looked)
    with monkeypatch.context() as deaf:
        deaf.setattr(results, "ended", lambda ends: None)
        await worker.finish(run, 1)
    assert (await waiting).json()["output"] == 1
    assert (await rescues(api))["result"] == 1


async def test_who_is_told_of_an_end_needs_no_rescue(start_server):
    api = await start_server(redis_url=None)
    results = api.app._drain.__self__.engine.results
    worker = await FakeWorker(api, "w1").register()
    run = await worker.start_and_claim()
    looked = results.reader.items
    waiting = [asyncio.create_task(api.get(f"/api/v1/runs/{run}/result", timeout=20)) for _ in range(3)]
    await until(lambda: results.reader.items >= looked + 3)
    await worker.finish(run, 1)
    await asyncio.gather(*waiting)
    assert (await rescues(api))["result"] == 0


async def test_children_that_only_a_sweep_finds_are_rescued(api, worker, db):
    run = await worker.start_and_claim()
    child = {"id": f"{7:032x}", "workflow": "flow", "input": "1"}
    await worker.commit(worker.op(run, CALL, children=[child]))
    await db.execute(
        "update runs set status = 'failed', finished_at = now() - interval '1 minute', closes_children = true, history_len = 2 where parent is null"
    )
    await db.execute(
        'insert into history (run_id, seq, count, entries, epoch) select id, 2, 1, \'[{"k":"failed_run"}]\', 1 from runs where parent is null'
    )

    async def told():
        return (await api.get(f"/api/v1/runs/{child['id']}")).json()["status"] == "cancelled"

    await until(told)
    assert (await rescues(api))["children"] == 1


async def test_runs_of_a_worker_that_dies_unreported_are_rescued(api, db):
    worker = await FakeWorker(api, "w1").register()
    run = await worker.start_and_claim()
    await db.execute("delete from workers")

    async def queued():
        return (await api.get(f"/api/v1/runs/{run}")).json()["status"] == "queued"

    await until(queued)
    assert (await rescues(api))["lease"] == 1


async def test_runs_that_are_polled_for_while_redis_rings_are_rescued(api, worker):
    await api.post("/api/v1/runs", {"workflow": "flow"})
    assert len(await worker.claim()) == 1
    assert (await rescues(api))["poll"] == 1


async def test_runs_that_a_lost_answer_granted_are_rescued(api, worker):
    run = await worker.start_and_claim()
    assert [again["id"] for again in await worker.claim(held=[])] == [run]
    assert (await rescues(api))["claim"] == 1


async def test_runs_that_only_a_sweep_assigns_are_rescued(api, worker, db):
    """A start that looked before the registration and was written after it."""
    run = (await api.post("/api/v1/runs", {"workflow": "later", "version": "1"})).json()["id"]
    await db.execute("insert into registrations (namespace, pool, workflow, version) values ('default', 'main', 'later', '1')")

    async def assigned():
        return (await api.get(f"/api/v1/runs/{run}")).json()["pool"] == "main"

    await until(assigned)
    assert (await rescues(api))["assign"] == 1
