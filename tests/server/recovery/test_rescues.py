"""Fallbacks are counted, and have nothing to do where all are well: what is told in time needs no rescue."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from aiki import Client, Event, Retry, Run, task, workflow
from aiki.worker import Worker
from aiki_server.model.sweeps import Held
from support.fake_worker import FakeWorker
from support.server import ServerProcess
from support.waiting import until

CALL = {"k": "call", "c": 0, "a": "task:charge:1"}
ENDED = """
update runs set status = 'failed', finished_at = now() - interval '1 minute', closes_children = true, history_len = 2 where parent is null;
insert into history (run_id, seq, count, entries, epoch) select id, 2, 1, '[{"k":"failed_run"}]', 1 from runs where parent is null;
"""
"""The parent has, a minute ago, and nobody has told its children."""
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


async def rescued(api, by):
    """Once: it is counted when all of it is done, which is after its effect can be seen."""

    async def counted():
        return (await rescues(api))[by] == 1

    await until(counted)


@pytest.fixture
def own_server_settings():
    return {"AIKI_LEASE_SECONDS": "6"}


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
            await worker.stop(grace_seconds=1)
    counts = {line for line in text.splitlines() if line.startswith("aiki_rescues_total")}
    assert counts == {
        f'aiki_rescues_total{{cause="{by}"}} 0.0' for by in ("refill", "result", "children", "lease", "poll", "claim", "assign")
    }


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
    await db.execute(ENDED)

    async def told():
        return (await api.get(f"/api/v1/runs/{child['id']}")).json()["status"] == "cancelled"

    await until(told)
    await rescued(api, "children")


@pytest.fixture
async def replica(api, start_server):
    return await start_server()


@pytest.fixture
async def unswept(start_server):
    """A server that sweeps when the test says so."""
    return await start_server(lease_seconds=10_800.0, heartbeat_seconds=3600.0)


def engine_of(api):
    return api.app._drain.__self__.engine


async def queued_again(api, *runs):
    async def queued():
        return [(await api.get(f"/api/v1/runs/{run}")).json()["status"] for run in runs] == ["queued"] * len(runs)

    await until(queued)


async def test_runs_of_a_worker_that_dies_unreported_are_rescued_by_one_of_two_servers(api, replica, db):
    worker = await FakeWorker(api, "w1").register()
    runs = [await worker.start_and_claim() for _ in range(5)]
    both = [engine_of(api), engine_of(replica)]
    for engine in both:
        engine.sweeper._healthy_since -= 2 * engine.settings.lease_seconds
    await db.execute("update workers set heartbeat_at = now() - interval '1 minute'")
    for engine in both:
        engine.sweeper.hurry()
    await queued_again(api, *runs)
    assert (await rescues(api))["lease"] + (await rescues(replica))["lease"] == 5
    taken = await asyncio.gather(
        *[engine.sweeper.move([Held(UUID(run), "default", 1, "w1") for run in runs], by="lost") for engine in both]
    )
    assert taken == [0, 0]


async def test_of_two_servers_that_take_the_same_runs_each_counts_its_own(api, replica):
    worker = await FakeWorker(api, "w1").register()
    runs = [await worker.start_and_claim() for _ in range(5)]
    held = [Held(UUID(run), "default", worker.epochs[run], "w1") for run in runs]
    taken = await asyncio.gather(*[engine_of(server).sweeper.move(held, by="lost") for server in (api, replica)])
    assert sum(taken) == 5


async def test_what_was_reported_to_another_server_is_no_rescue(unswept, db):
    """The report has reached the table and not yet the runs when this server sweeps."""
    worker = await FakeWorker(unswept, "w1").register()
    run = await worker.start_and_claim()
    await db.execute("delete from workers")
    await engine_of(unswept).sweeper._recover()
    assert (await unswept.get(f"/api/v1/runs/{run}")).json()["status"] == "queued"
    assert (await rescues(unswept))["lease"] == 0


async def test_a_parent_that_two_sweeps_find_is_rescued_once(start_server, unswept, db):
    other = await start_server(lease_seconds=10_800.0, heartbeat_seconds=3600.0)
    worker = await FakeWorker(unswept, "w1").register()
    run = await worker.start_and_claim()
    children = [{"id": f"{number:032x}", "workflow": "flow", "input": "1"} for number in (7, 8)]
    await worker.commit(worker.op(run, CALL, children=children))
    await db.execute(ENDED)
    await asyncio.gather(*[engine_of(server).sweeper.close_children() for server in (unswept, other)])
    assert (await rescues(unswept))["children"] + (await rescues(other))["children"] == 1


async def test_a_sweep_that_comes_before_another_server_s_registration_has_assigned_is_no_rescue(unswept, db):
    """The registration has reached the table and not yet the run."""
    run = (await unswept.post("/api/v1/runs", {"workflow": "later", "version": "1"})).json()["id"]
    await db.execute("insert into registrations (namespace, pool, workflow, version) values ('default', 'main', 'later', '1')")
    registry = engine_of(unswept).registry
    await registry.renew()
    await registry.assign()
    assert (await unswept.get(f"/api/v1/runs/{run}")).json()["pool"] == "main"
    assert (await rescues(unswept))["assign"] == 0


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
    await db.execute(
        "insert into registrations (namespace, pool, workflow, version, registered_at) values ('default', 'main', 'later', '1', now() - interval '1 minute')"
    )

    async def assigned():
        return (await api.get(f"/api/v1/runs/{run}")).json()["pool"] == "main"

    await until(assigned)
    await rescued(api, "assign")
