"""I45: a token of one namespace reaches nothing of another, and learns nothing of it."""

from __future__ import annotations

import asyncio

import pytest

from aiki_server.engine.watch import results
from support.fake_worker import FakeWorker
from support.waiting import until

CALL = {"k": "call", "c": 0, "a": "task:charge:1"}


@pytest.mark.parametrize(("method", "path"), [
    ("GET", ""), ("GET", "/result"), ("GET", "/history"), ("POST", "/cancel"), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/retry"), ("POST", "/events"),
])  # fmt: skip
async def test_anothers_run_is_not_found_by_any_route(api, worker, other, method, path):
    run = await worker.start_and_claim()
    body = {"name": "go"} if path == "/events" else None
    theirs = await other.request(method, f"/api/v1/runs/{run}{path}", value=body)
    nobodys = await other.request(method, f"/api/v1/runs/{'0' * 32}{path}", value=body)
    assert (theirs.status, theirs.body) == (404, nobodys.body)
    assert (await api.get(f"/api/v1/runs/{run}")).json()["status"] == "running"


async def test_listings_show_ones_own(api, worker, other):
    run = await worker.start_and_claim()
    assert (await other.get("/api/v1/runs")).json()["runs"] == []
    assert (await other.get("/api/v1/runs", parent=run)).json()["runs"] == []
    assert (await other.get("/api/v1/workers")).json() == {"workers": []}
    assert (await other.get("/api/v1/workflows")).json() == {"workflows": []}
    assert (await other.get("/api/v1/pools/load")).json() == {"pools": []}


async def test_workers_of_one_name_do_not_share_runs(api, worker, other):
    namesake = await FakeWorker(other, "w1").register()
    run = await worker.start_and_claim()
    queued = (await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"]
    assert await namesake.claim(run, queued) == []
    assert (await api.get(f"/api/v1/runs/{queued}")).json()["status"] == "queued"
    assert await namesake.claim() == []
    assert await namesake.claim(held=[]) == []
    namesake.epochs[run] = 1
    assert await namesake.outcome(namesake.op(run, CALL)) == "stale"
    rest = await other.post("/api/v1/worker/replay", {"worker": "w1", "run": run, "epoch": 1, "inbox_seq": 0})
    assert rest.json()["stale"]
    told = await other.post("/api/v1/worker/inbox", {"worker": "w1", "runs": [{"run": run, "epoch": 1, "inbox_seen": 0}]})
    assert told.json()["runs"] == [{"run": run, "stale": True, "pause": False, "inbox": []}]
    assert (await other.post("/api/v1/worker/deregister", {"worker": "w1"})).status == 204
    assert await worker.outcome(worker.op(run, CALL)) == "ok"


async def test_a_child_cannot_take_anothers_id(api, worker, other, db):
    victim = await worker.start_and_claim()
    thief = await FakeWorker(other, "w1").register()
    run = await thief.start_and_claim()
    await thief.commit(thief.op(run, CALL, children=[{"id": victim, "workflow": "flow", "input": '"stolen"'}]))
    assert (await api.get(f"/api/v1/runs/{victim}")).json()["input"] is None
    assert (await other.get(f"/api/v1/runs/{victim}")).status == 404


async def test_versions_of_another_namespace_do_not_count(api, worker, other):
    assert (await other.post("/api/v1/runs", {"workflow": "flow"})).json()["version"] is None


async def test_workers_and_pods_of_another_namespace_are_not_found(api, worker, other):
    for path in ("workers/w1/lost", "pods/w1/lost", "pools/main/builds/b/promote"):
        assert (await other.post(f"/api/v1/{path}")).status == 404
    assert (await other.post("/api/v1/workers/w1/drain", {"drain": True})).status == 404
    assert (await other.get("/api/v1/pools/main/load")).status == 404


async def test_claims_of_namesakes_in_one_batch_are_shared_out_by_namespace(api, worker, other):
    """Both are called w1 and claim at once: one group commit carries out all of it, and each is given its own."""
    namesake = await FakeWorker(other, "w1").register()
    ours = {(await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"] for _ in range(20)}
    theirs = {(await other.post("/api/v1/runs", {"workflow": "flow"})).json()["id"] for _ in range(20)}
    claims = await asyncio.gather(*(one.claim(limit=5) for _ in range(4) for one in (worker, namesake)))
    assert {run["id"] for claimed in claims[0::2] for run in claimed} == ours
    assert {run["id"] for claimed in claims[1::2] for run in claimed} == theirs


async def test_whoever_waits_for_anothers_run_is_not_told_how_it_ended(api, worker, other, engine, monkeypatch):
    monkeypatch.setattr(results, "MOMENT_SECONDS", 20.0)
    run = (await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"]
    await worker.claim(run)
    waiting = asyncio.create_task(other.get(f"/api/v1/runs/{run}/result", timeout=30))
    await until(lambda: waiting.done() or engine.results.waiters)
    await worker.finish(run, "secret")
    assert (await waiting).status == 404


async def test_refs_of_two_namespaces_in_one_group_commit_stay_apart(api, other, engine):
    start = {"workflow": "flow", "ref": "order-1"}
    first = [(await asker.post("/api/v1/runs", start)).json()["id"] for asker in (api, other)]
    batches = engine.starts.batcher.batches
    for askers in ((api, other), (other, api)):
        replies = await asyncio.gather(*[asker.post("/api/v1/runs", start) for asker in askers])
        assert [reply.json()["id"] for reply in replies] == (first if askers[0] is api else first[::-1])
    assert engine.starts.batcher.batches == batches + 2


async def test_children_of_anothers_run_are_not_listed(api, worker, other):
    run = await worker.start_and_claim()
    await worker.commit(worker.op(run, CALL, children=[{"id": "0" * 31 + "1", "workflow": "flow", "input": "1"}]))
    assert len((await api.get("/api/v1/runs", parent=run)).json()["runs"]) == 1
    assert (await other.get("/api/v1/runs", parent=run)).json()["runs"] == []


async def test_a_heartbeat_renews_no_lease_but_the_worker_s_own(worker, other, db):
    namesake = await FakeWorker(other, "w1").register()
    heard = "select heartbeat_at from workers where namespace = 'default' and id = 'w1'"
    before = await db.fetchval(heard)
    assert (await namesake.heartbeat())["known"]
    assert await db.fetchval(heard) == before


async def test_a_wake_is_left_for_the_namespace_that_it_is_meant_for(api, worker, other, engine):
    await FakeWorker(other, "w1").register()
    engine.wakes.heard("default:main")
    assert (await other.get("/api/v1/pools/wake", timeout=0)).json() == {"pools": []}
    engine.wakes.heard("other:main")
    assert (await other.get("/api/v1/pools/wake", timeout=0)).json() == {"pools": ["main"]}
    assert (await api.get("/api/v1/pools/wake", timeout=0)).json() == {"pools": ["main"]}
