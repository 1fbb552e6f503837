"""What one party does to another, where no fallback comes to the rescue: S9, S13, S24, S28, S29, S30, S38."""

from __future__ import annotations

import pytest

from aiki_server.settings import Settings
from support.fake_worker import FakeWorker
from support.runs import has_status, status
from support.waiting import until

CALL = {"k": "call", "c": 0, "a": "task:charge:1"}
FAR = 2**52  # the year 2112, in microseconds


@pytest.fixture
def settings(unaided: Settings) -> Settings:
    return unaided


def child_id(number: int) -> str:
    return f"{0xC0FFEE << 32 | number:032x}"


def child(number: int, **more):
    return {"id": child_id(number), "workflow": "flow", "input": str(number), **more}


async def order(api, run, verb):
    reply = await api.post(f"/api/v1/runs/{run}/{verb}")
    assert reply.status == 200, reply.body


@pytest.mark.parametrize("begun", [False, True])
async def test_a_parent_is_woken_by_a_child_that_is_cancelled(api, worker, begun):
    run = await worker.start_and_claim()
    await worker.commit(worker.op(run, CALL, children=[child(1)]))
    if begun:
        await worker.claim(child_id(1))
    assert await worker.outcome(worker.parking(run, children=True)) == "parked"
    await order(api, child_id(1), "cancel")
    if begun:
        await worker.finish(child_id(1), status="cancelled")
    assert await status(api, run) == "queued"
    (claimed,) = await worker.claim(run)
    assert [(item["kind"], item["child"], item["status"]) for item in claimed["inbox"]] == [("child", child_id(1), "cancelled")]


@pytest.mark.parametrize("waits_for", [{"due_at": FAR}, {"events": ["go"]}, {"children": True}, {"due_at": FAR, "events": ["go"]}], ids=str)
async def test_a_cancel_wakes_a_run_whatever_it_waits_for(api, worker, waits_for):
    run = await worker.start_and_claim()
    assert await worker.outcome(worker.parking(run, CALL, **waits_for)) == "parked"
    await order(api, run, "cancel")
    assert await status(api, run) == "queued"


async def test_a_cancel_wakes_a_run_that_is_paused(api, worker):
    run = await worker.start_and_claim()
    await worker.commit(worker.op(run, release=True))
    await order(api, run, "pause")
    await order(api, run, "cancel")
    assert await status(api, run) == "queued"


@pytest.mark.parametrize(
    "given_back", [{"release": True}, {"park": {"inbox_seen": 0, "due_at": FAR, "events": [], "children": False, "waits": []}}], ids=str
)
async def test_a_run_that_was_asked_to_pause_rests_however_it_is_given_back(api, worker, given_back):
    run = await worker.start_and_claim()
    await order(api, run, "pause")
    assert await worker.outcome(worker.op(run, CALL, **given_back)) == "parked"
    assert await status(api, run) == "paused"


async def test_a_pause_that_was_taken_back_before_the_worker_heard_of_it_leaves_nothing(api, worker):
    run = await worker.start_and_claim()
    await order(api, run, "pause")
    await order(api, run, "resume")
    assert await worker.outcome(worker.parking(run, CALL, due_at=FAR)) == "parked"
    assert await status(api, run) == "waiting"


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
async def test_children_are_told_however_their_parent_ends(api, worker, db, end):
    run = await worker.start_and_claim()
    await worker.commit(worker.op(run, CALL, children=[child(1), child(2, on_parent_close="abandon")]))
    await worker.commit(worker.finishing(run, status=end))
    await until(lambda: has_status(api, child_id(1), "cancelled"))
    await until(lambda: nothing(lambda: db.fetchval("select count(*) from runs where closes_children")))
    assert await status(api, child_id(2)) == "queued"


async def test_all_children_of_a_large_family_are_told(worker, db):
    run = await worker.start_and_claim()
    for first in (0, 600):
        await worker.commit(worker.op(run, children=[child(number) for number in range(first, first + 600)]))
    await worker.finish(run)

    async def left():
        return await db.fetchval("select count(*) from runs where parent is not null and status <> 'cancelled'")

    await until(lambda: nothing(left), seconds=20)
    await until(lambda: nothing(lambda: db.fetchval("select count(*) from runs where closes_children")))


async def nothing(count):
    return await count() == 0


@pytest.mark.parametrize("how", ["given up", "ended"])
async def test_children_are_told_though_the_server_dies_between_looking_and_telling(api, worker, engine, monkeypatch, how):
    run = await worker.start_and_claim()
    await worker.commit(worker.op(run, CALL, children=[child(1)]))
    asked = []

    async def dies(ops):
        asked.append(ops)
        raise OSError("the server dies here")

    with monkeypatch.context() as dying:
        dying.setattr(engine.sweeper, "_submit", dies)
        await worker.commit(worker.op(run, cancel_children=[child_id(1)]) if how == "given up" else worker.finishing(run))
        await until(lambda: asked)
    engine.sweeper.hurry()
    await until(lambda: has_status(api, child_id(1), "cancelled"))


async def test_retention_leaves_a_parent_until_its_children_have_been_told(worker, engine, db):
    run = await worker.start_and_claim()
    await worker.finish(run)
    await db.execute("update runs set finished_at = now() - interval '40 days', closes_children = true")
    assert await engine.retention.retire(30) == 0
    await db.execute("update runs set closes_children = false")
    assert await engine.retention.retire(30) == 1


async def test_retention_goes_by_the_end_of_a_run(worker, engine, db):
    run = await worker.start_and_claim()
    await worker.finish(run)
    await db.execute("update runs set created_at = now() - interval '40 days'")
    assert await engine.retention.retire(30) == 0


async def test_a_release_without_progress_forgives_its_own_delivery_and_no_other(api, worker):
    run = await worker.start_and_claim()
    await api.post("/api/v1/workers/w1/lost")
    second = await FakeWorker(api, "w2").register()
    assert [claimed["deliveries"] for claimed in await second.claim(run)] == [2]
    await second.commit(second.op(run, release=True))
    assert [claimed["deliveries"] for claimed in await second.claim(run)] == [2]


async def test_the_end_of_a_child_changes_nothing_of_a_parent_that_has_ended(api, worker, db):
    run = await worker.start_and_claim()
    await worker.commit(worker.op(run, CALL, children=[child(1, on_parent_close="abandon")]))
    await worker.claim(child_id(1))
    await worker.finish(run)
    parent = "select status, inbox_seq, history_len, commit_no, finished_at from runs where parent is null"
    before = await db.fetchrow(parent)
    await worker.finish(child_id(1))
    assert await db.fetchrow(parent) == before
    assert await db.fetchval("select count(*) from inbox") == 0


@pytest.mark.parametrize("lag", [-1, 1], ids=["earlier", "later"])
async def test_a_worker_of_another_epoch_is_not_believed(api, worker, lag):
    """S7; and S37: a later one is that of a worker which a restored database does not know of."""
    run = await worker.start_and_claim()
    worker.epochs[run] += lag
    assert await worker.outcome(worker.op(run, CALL)) == "stale"
    assert await worker.outcome(worker.finishing(run)) == "stale"
    assert (await api.get(f"/api/v1/runs/{run}/history")).json()["entries"] == []


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
async def test_an_ended_run_takes_no_event(api, worker, db, end):
    """S26."""
    run = await worker.start_and_claim()
    await worker.commit(worker.finishing(run, status=end))
    assert (await api.post(f"/api/v1/runs/{run}/events", {"name": "go"})).status == 409
    assert await db.fetchval("select count(*) from inbox") == 0


@pytest.mark.parametrize("waits_for", [{"children": True}, {"events": ["go"], "children": True}, {"due_at": FAR}], ids=str)
async def test_the_end_of_a_child_before_the_park_is_handed_over_instead(worker, waits_for):
    """S24: the worker has not seen it."""
    run = await worker.start_and_claim()
    await worker.commit(worker.op(run, CALL, children=[child(1)]))
    await worker.claim(child_id(1))
    await worker.finish(child_id(1), 1)
    (answer,) = await worker.commit(worker.parking(run, **waits_for))
    assert (answer["outcome"], [item["kind"] for item in answer["inbox"]]) == ("inbox_pending", ["child"])
