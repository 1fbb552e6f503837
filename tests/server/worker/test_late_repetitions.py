"""Requests that are carried out twice, the second time late: they undo nothing that was done since (S7, S30)."""

from __future__ import annotations

import pytest

from aiki_server.store.queries import sweeps
from support.fake_worker import FakeWorker


async def order(api, run, verb, **body):
    reply = await api.post(f"/api/v1/runs/{run}/{verb}", body or None)
    return reply.status, reply.json().get("status")


async def queued(api):
    return (await api.post("/api/v1/runs", {"workflow": "flow", "input": 1})).json()["id"]


async def test_a_pause_that_arrives_again_after_the_resume_has_no_effect(api, worker):
    run = await queued(api)
    assert await order(api, run, "pause", id="a") == (200, "paused")
    assert await order(api, run, "resume", id="b") == (200, "queued")
    assert await order(api, run, "pause", id="a") == (200, "queued")
    assert await order(api, run, "pause", id="c") == (200, "paused")
    assert await order(api, run, "resume", id="b") == (200, "paused")


async def test_a_pause_that_changed_nothing_has_no_effect_later_either(api, worker):
    run = await queued(api)
    assert await order(api, run, "resume", id="early") == (200, "queued")
    assert await order(api, run, "pause") == (200, "paused")
    assert await order(api, run, "resume", id="early") == (200, "paused")


async def test_a_retry_that_arrives_again_has_no_effect(api, worker):
    run = await worker.start_and_claim()
    stop = {"type": "Divergence", "message": "m"}
    await worker.commit(worker.op(run, {"k": "began", "at": 1}, stop=stop))
    assert await order(api, run, "retry", id="a") == (200, "queued")
    await worker.claim(run)
    await worker.commit(worker.op(run, stop=stop))
    assert await order(api, run, "retry", id="a") == (200, "paused")


async def test_orders_without_an_id_count_each(api, worker):
    run = await queued(api)
    for verb, status in (("pause", "paused"), ("resume", "queued")) * 2:
        assert await order(api, run, verb) == (200, status)


async def test_an_order_that_was_refused_may_be_given_again(api, worker):
    run = await worker.start_and_claim()
    await worker.commit(worker.parking(run, {"k": "began", "at": 1}, events=["go"]))
    assert (await order(api, run, "retry", id="a"))[0] == 409
    await api.post(f"/api/v1/runs/{run}/events", {"name": "go"})
    assert await order(api, run, "retry", id="a") == (200, "queued")


async def test_ids_of_orders_belong_to_a_run_and_to_its_namespace(api, worker, other):
    one, two = await queued(api), await queued(api)
    assert (await order(other, one, "pause", id="a"))[0] == 404
    assert await order(api, one, "pause", id="a") == (200, "paused")
    assert await order(api, two, "pause", id="a") == (200, "paused")


async def test_orders_go_with_their_run(start_server, db):
    api = await start_server(retention_days=1)
    worker = await FakeWorker(api, "w1").register()
    run = await queued(api)
    await order(api, run, "pause", id="a")
    await order(api, run, "resume", id="b")
    assert await db.fetchval("select count(*) from orders") == 2
    await worker.claim(run)
    await worker.finish(run)
    await db.execute("update runs set finished_at = now() - interval '2 days'")
    assert await sweeps.retire(db, namespace="default", status="completed", days=1, limit=10) == 1
    assert await db.fetchval("select count(*) from orders") == 0


def registration(worker, number):
    versions = [{"workflow": "flow", "version": "1.0"}]
    return {"worker": worker.name, "pool": "main", "concurrency": 10, "workflows": versions, "number": number}


@pytest.mark.parametrize("number", [1, 2])
async def test_a_registration_that_arrives_late_takes_no_runs_from_a_live_worker(api, number):
    worker = FakeWorker(api, "w1")
    for counted in (1, 2):
        assert (await api.post("/api/v1/worker/register", registration(worker, counted))).status == 200
    run = await worker.start_and_claim()
    reply = await api.post("/api/v1/worker/register", registration(worker, number))
    assert reply.status == 200
    assert reply.json()["assignment"]["streams"]
    assert (await worker.inbox(run, inbox_seen=0))["stale"] is False
    await worker.finish(run)


async def test_a_registration_that_counts_on_takes_what_the_worker_held(api):
    worker = FakeWorker(api, "w1")
    await api.post("/api/v1/worker/register", registration(worker, 1))
    run = await worker.start_and_claim()
    await api.post("/api/v1/worker/register", registration(worker, 2))
    assert (await worker.inbox(run, inbox_seen=0))["stale"] is True


@pytest.mark.parametrize(("number", "ends"), [(1, False), (2, True), (3, True), (0, True)])
async def test_a_farewell_that_arrives_late_ends_no_worker_that_has_come_back(api, number, ends):
    """A worker that is stopped and started again keeps its name."""
    worker = FakeWorker(api, "w1")
    for counted in (1, 2):
        await api.post("/api/v1/worker/register", registration(worker, counted))
    run = await worker.start_and_claim()
    assert (await api.post("/api/v1/worker/deregister", {"worker": "w1"} | ({"number": number} if number else {}))).status == 204
    assert (await worker.inbox(run, inbox_seen=0))["stale"] is ends
    assert (await worker.heartbeat())["known"] is not ends


async def test_a_farewell_of_a_worker_that_was_reported_lost_still_gives_back_what_it_holds(api, db):
    worker = FakeWorker(api, "w1")
    await api.post("/api/v1/worker/register", registration(worker, 1))
    run = await worker.start_and_claim()
    await db.execute("delete from workers")
    assert (await api.post("/api/v1/worker/deregister", {"worker": "w1", "number": 1})).status == 204
    assert (await worker.inbox(run, inbox_seen=0))["stale"] is True
