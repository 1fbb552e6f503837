"""Starting runs: S1, S2, S3, and where they go."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from aiki_server.engine.start.starts import Started
from aiki_server.model.rows import NewRun
from support.fake_worker import FakeWorker
from support.waiting import until

START = {"workflow": "flow", "input": {"a": 1}}


async def test_a_started_run_is_there(api):
    started = await api.post("/api/v1/runs", START)
    assert started.status == 201
    run = (await api.get(f"/api/v1/runs/{started.json()['id']}")).json()
    assert (run["workflow"], run["input"], run["status"], run["state"], run["waits"]) == ("flow", {"a": 1}, "queued", {}, [])


async def test_a_ref_is_given_once(api):
    first = await api.post("/api/v1/runs", START | {"ref": "r"})
    second = await api.post("/api/v1/runs", START | {"ref": "r"})
    assert (first.status, second.status) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    assert (first.json()["created"], second.json()["created"]) == (True, False)


async def test_equal_bodies_may_be_spelled_differently(api):
    first = await api.post("/api/v1/runs", b'{"workflow":"flow","ref":"r","input":{"a":1,"b":2}}')
    second = await api.post("/api/v1/runs", b'{"input": {"b": 2, "a": 1}, "ref":"r", "workflow":"flow"}')
    assert (second.status, second.json()["id"]) == (200, first.json()["id"])


async def test_a_ref_with_another_body_is_a_conflict(api):
    await api.post("/api/v1/runs", START | {"ref": "r"})
    reply = await api.post("/api/v1/runs", START | {"ref": "r", "input": 2})
    assert reply.status == 409
    assert reply.headers["content-type"] == "application/problem+json"


async def test_a_ref_can_be_refused(api):
    await api.post("/api/v1/runs", START | {"ref": "r"})
    assert (await api.post("/api/v1/runs", START | {"ref": "r", "on_conflict": "reject"})).status == 409


async def test_many_starts_at_once_with_one_ref_make_one_run(api, db):
    replies = await asyncio.gather(*[api.post("/api/v1/runs", START | {"ref": "r"}) for _ in range(50)])
    assert len({reply.json()["id"] for reply in replies}) == 1
    assert sorted({reply.status for reply in replies}) == [200, 201]
    assert await db.fetchval("select count(*) from runs") == 1


async def test_a_ref_belongs_to_its_namespace(api, other):
    first = await api.post("/api/v1/runs", START | {"ref": "r"})
    second = await other.post("/api/v1/runs", START | {"ref": "r"})
    assert second.status == 201
    assert first.json()["id"] != second.json()["id"]
    assert (await other.get("/api/v1/runs/by-ref/r")).json()["id"] == second.json()["id"]


async def test_a_batch_is_answered_in_order(api):
    reply = await api.post("/api/v1/runs:batch", {"runs": [START | {"ref": f"r{number % 3}"} for number in range(6)]})
    assert reply.status == 201
    runs = reply.json()["runs"]
    assert [run["created"] for run in runs] == [True, True, True, False, False, False]
    assert [run["id"] for run in runs[:3]] == [run["id"] for run in runs[3:]]


@pytest.mark.parametrize("second", [{"ref": "c", "input": 5}, {"ref": "there", "input": 5}, {"ref": "there", "on_conflict": "reject"}])
async def test_a_start_that_is_refused_in_a_batch_starts_nothing(api, db, redis, second):
    await api.post("/api/v1/runs", START | {"ref": "there"})
    reply = await api.post("/api/v1/runs:batch", {"runs": [START | {"ref": "c"}, START | second, START]})
    assert (reply.status, reply.json()["type"]) == (409, "urn:aiki:ref-taken")
    assert await db.fetchval("select count(*) from runs") == 1
    again = await api.post("/api/v1/runs:batch", {"runs": [START | {"ref": "c"}, START | {"ref": "there"}]})
    assert [run["created"] for run in again.json()["runs"]] == [True, False]


async def test_batches_that_share_refs_in_other_orders_agree(api, db):
    refs = [f"r{number}" for number in range(30)]
    bodies = [{"runs": [START | {"ref": ref} for ref in (refs if number % 2 else reversed(refs))]} for number in range(8)]
    replies = await asyncio.gather(*[api.post("/api/v1/runs:batch", body) for body in bodies])
    assert {reply.status for reply in replies} == {201}
    assert await db.fetchval("select count(*) from runs") == 30
    assert sum(run["created"] for reply in replies for run in reply.json()["runs"]) == 30


async def test_a_malformed_start_in_a_batch_starts_nothing(api, db):
    reply = await api.post("/api/v1/runs:batch", {"runs": [START, START | {"workflow": "no spaces"}]})
    assert reply.status == 422
    assert await db.fetchval("select count(*) from runs") == 0


async def test_the_highest_version_is_taken_number_by_number(api):
    await FakeWorker(api, "w1").register(("flow", "1.9"), ("flow", "1.10"), ("flow", "1.2"))
    assert (await api.post("/api/v1/runs", START)).json()["version"] == "1.10"
    assert (await api.post("/api/v1/runs", START | {"version": "1.2"})).json()["version"] == "1.2"


async def test_a_workflow_that_nobody_registered_waits_and_says_so(api, redis):
    started = (await api.post("/api/v1/runs", START)).json()
    assert started["version"] is None
    assert "No worker has registered flow yet" in started["notice"]
    assert "No worker has registered" in (await api.get(f"/api/v1/runs/{started['id']}")).json()["notice"]
    worker = await FakeWorker(api, "w1").register()
    run = (await api.get(f"/api/v1/runs/{started['id']}")).json()
    assert (run["version"], run["pool"], run["notice"]) == ("1.0", "main", None)
    assert [claimed["id"] for claimed in await worker.claim(started["id"])] == [started["id"]]


@pytest.mark.parametrize("named", [{"version": "1.0"}, {"pool": "main"}, {"version": "1.0", "pool": "main"}, {}])
async def test_runs_started_before_their_worker_are_claimed_by_it(api, named):
    run = (await api.post("/api/v1/runs", START | named)).json()["id"]
    worker = await FakeWorker(api, "w1").register()
    assert [claimed["id"] for claimed in await worker.claim()] == [run]


async def test_a_run_for_another_pool_stays(api, worker):
    run = (await api.post("/api/v1/runs", START | {"pool": "elsewhere"})).json()
    assert run["notice"] is not None
    assert await worker.claim(run["id"]) == []
    assert await worker.claim() == []


async def test_a_start_is_rung(api, worker, redis):
    run = (await api.post("/api/v1/runs", START)).json()["id"]
    entries = await until(lambda: redis.xrange("aiki:{default:main}:flow:1.0"))
    assert [fields for _, fields in entries] == [{b"r": run.encode()}]


async def test_a_start_for_later_is_scheduled(api, worker):
    at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    started = (await api.post("/api/v1/runs", START | {"start_at": at})).json()
    assert started["status"] == "scheduled"
    assert await worker.claim() == []


async def test_a_start_for_a_time_that_has_passed_is_queued(api):
    assert (await api.post("/api/v1/runs", START | {"start_at": "2001-01-01T00:00:00Z"})).json()["status"] == "queued"


async def test_listings_filter_and_page(api, worker):
    runs = [(await api.post("/api/v1/runs", START | {"ref": f"r{number}"})).json()["id"] for number in range(5)]
    await worker.claim(runs[0])
    page = (await api.get("/api/v1/runs", limit=2)).json()
    assert [run["id"] for run in page["runs"]] == [runs[4], runs[3]]
    rest = (await api.get("/api/v1/runs", limit=3, cursor=page["next"])).json()
    assert [run["id"] for run in rest["runs"]] == [runs[2], runs[1], runs[0]]
    assert [run["id"] for run in (await api.get("/api/v1/runs", status="running")).json()["runs"]] == [runs[0]]
    assert len((await api.get("/api/v1/runs", status=["running", "queued"])).json()["runs"]) == 5
    assert [run["id"] for run in (await api.get("/api/v1/runs", ref="r3")).json()["runs"]] == [runs[3]]
    assert (await api.get("/api/v1/runs", workflow="other")).json() == {"runs": [], "next": None}


async def test_a_start_that_is_repeated_after_an_unknown_outcome_finds_what_it_made(api, engine, db):
    """S3: the connection was lost in the commit, which took place; the batch is written again."""
    for ref in (None, "order-1"):
        run = NewRun(engine.run_ids.new(), "default", "flow", None, None, None, "queued", ref, ref and "hash", "null", None)
        answers = [await engine.starts._apply([run]) for _ in range(2)]
        assert answers == [[Started(run.id, created=True, status="queued", version=None, pool=None)]] * 2
    assert await db.fetchval("select count(*) from runs") == 2
