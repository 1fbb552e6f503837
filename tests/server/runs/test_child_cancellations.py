"""Children that the code of their parents gave up are cancelled, once, whatever comes between (S27 to S29)."""

from __future__ import annotations

import asyncio

import pytest

from support.fake_worker import FakeWorker
from support.runs import child_of, fast_commits, has_status, run_of, rung, status
from support.waiting import until

CALL = {"k": "call", "c": 0, "a": "child"}
CANCEL_REQUESTED = {"k": "child_cancel_requested", "c": 0}
STREAM = "aiki:{default:main}:flow:1.0"


def start(child: str, policy: str = "cancel") -> dict[str, str]:
    return {"id": child, "workflow": "flow", "input": "7", "on_parent_close": policy}


async def parent_and_child(worker, policy="cancel", *, begun=False):
    """Both in the worker's hands, or the child still in the queue."""
    parent = await worker.start_and_claim()
    child = child_of(parent)
    assert await worker.outcome(worker.op(parent, CALL, children=[start(child, policy)])) == "ok"
    if begun:
        assert len(await worker.claim(child)) == 1
        assert await worker.outcome(worker.op(child, {"k": "began", "at": 1})) == "ok"
    return parent, child


def giving_up(worker, parent, *children, **members):
    return worker.op(parent, CANCEL_REQUESTED, cancel_children=list(children), **members)


async def all_told(db):
    """Nothing is left to do; only then is what did not happen known not to happen any more."""
    await until(lambda: none_noted(db))


async def none_noted(db):
    return await db.fetchval("select count(*) from child_cancellations") == 0


async def cancels(db, run):
    return await db.fetch("select payload from inbox where run_id = $1 and kind = 'cancel'", run)


async def test_a_child_that_never_began_ends_at_once(start_server, db):
    api = await start_server(lease_seconds=300.0)  # so the sweeper comes because it was asked to
    worker = await FakeWorker(api, "w1").register()
    parent, child = await parent_and_child(worker)
    assert await worker.outcome(giving_up(worker, parent, child)) == "ok"
    await until(lambda: has_status(api, child, "cancelled"))
    assert await worker.claim(child) == []
    await all_told(db)
    assert await status(api, parent) == "running"


@pytest.mark.parametrize("where", ["running", "waiting", "paused"])
async def test_a_child_that_began_gets_to_clean_up(api, worker, db, where):
    parent, child = await parent_and_child(worker, begun=True)
    if where != "running":
        await worker.commit(worker.parking(child, events=["go"]))
    if where == "paused":
        await api.post(f"/api/v1/runs/{child}/pause")
    await worker.commit(giving_up(worker, parent, child))
    await all_told(db)
    if where != "running":
        assert len(await worker.claim(child)) == 1
    (answer,) = await worker.commit(worker.parking(child, events=["go"]))
    assert (answer["outcome"], [(item["kind"], item["payload"]) for item in answer["inbox"]]) == (
        "inbox_pending",
        [("cancel", '"the parent stopped waiting"')],
    )
    assert await worker.outcome(worker.finishing(child, status="cancelled", consumed=[1])) == "ok"


async def test_a_child_that_is_to_be_abandoned_is_left_alone(api, worker, db):
    parent, child = await parent_and_child(worker, "abandon", begun=True)
    await worker.commit(giving_up(worker, parent, child))
    await all_told(db)
    assert not (await run_of(api, child))["cancel_requested"]
    await worker.finish(child, 1)


async def test_only_a_parent_gives_its_child_up(api, worker, other, db):
    _, child = await parent_and_child(worker)
    sibling = await worker.start_and_claim()
    stranger = await FakeWorker(other, "w1").register()
    theirs = await stranger.start_and_claim()
    assert await worker.outcome(giving_up(worker, sibling, child, sibling, child_of(child))) == "ok"
    assert await stranger.outcome(giving_up(stranger, theirs, child)) == "ok"
    await all_told(db)
    assert await status(api, child) == "queued"


async def test_a_child_is_asked_once_however_often_it_is_given_up(api, worker, db):
    parent, child = await parent_and_child(worker, begun=True)
    op = giving_up(worker, parent, child)
    assert [answer["outcome"] for answer in await worker.commit(op, op, giving_up(worker, parent, child, child))] == ["ok"] * 3
    await all_told(db)
    await api.post(f"/api/v1/runs/{child}/cancel")
    await worker.commit(giving_up(worker, parent, child))
    await worker.finish(parent)
    await until(lambda: db.fetchval("select not closes_children from runs where id = $1", parent))
    assert [record["payload"] for record in await cancels(db, child)] == ['"the parent stopped waiting"']


async def test_a_child_that_has_ended_is_not_asked(api, worker, db):
    parent, child = await parent_and_child(worker, begun=True)
    await worker.finish(child, 1)
    assert await worker.outcome(giving_up(worker, parent, child)) == "ok"
    await all_told(db)
    assert (await status(api, child), await cancels(db, child)) == ("completed", [])


async def test_a_child_that_ends_as_it_is_given_up_ends_once(api, worker, db):
    families = [await parent_and_child(worker, begun=True) for _ in range(10)]
    cancelled = worker.commit(*[giving_up(worker, parent, child) for parent, child in families])
    ended = [worker.commit(worker.finishing(child, 1)) for _, child in families]
    await asyncio.gather(cancelled, *ended)
    await all_told(db)
    for parent, child in families:
        assert await status(api, child) == "completed"
        assert len(await cancels(db, child)) <= 1
        assert len(await db.fetch("select from inbox where run_id = $1 and child = $2", parent, child)) == 1


async def test_a_child_given_up_in_the_commit_that_starts_it_ends_and_no_worker_is_told_to_begin_it(api, worker, db, redis):
    parent = await worker.start_and_claim()
    child, abandoned = child_of(parent), child_of(parent)
    starts = [start(child), start(abandoned, "abandon")]
    assert await worker.outcome(worker.op(parent, CALL, CANCEL_REQUESTED, children=starts, cancel_children=[child, abandoned])) == "ok"
    await until(lambda: has_status(api, child, "cancelled"))
    assert await status(api, abandoned) == "queued"
    assert [entry["kind"] for entry in (await api.get(f"/api/v1/runs/{child}/history")).json()["entries"]] == ["cancelled"]
    await until(lambda: rung(redis, STREAM, abandoned))
    assert not await rung(redis, STREAM, child)


async def test_the_end_of_an_abandoned_child_wakes_its_parent_only_if_that_waits_for_children(api, worker, db):
    parent, child = await parent_and_child(worker)
    op = worker.parking(parent, CANCEL_REQUESTED, events=["go"])
    assert await worker.outcome(op | {"cancel_children": [child]}) == "parked"
    await until(lambda: has_status(api, child, "cancelled"))
    assert await status(api, parent) == "waiting"
    await api.post(f"/api/v1/runs/{parent}/events", {"name": "go"})
    (claimed,) = await worker.claim(parent)
    assert [(item["kind"], item["status"]) for item in claimed["inbox"]] == [("child", "cancelled"), ("event", None)]


async def test_what_is_not_written_gives_nothing_up(api, worker, db):
    parent, child = await parent_and_child(worker)
    stale, refused = giving_up(worker, parent, child) | {"epoch": 7}, giving_up(worker, parent, child) | {"number": 9}
    malformed = giving_up(worker, parent, child) | {"entries": "[1]"}
    answers = await worker.commit(stale, refused, malformed)
    assert [answer["outcome"] for answer in answers] == ["stale", "refused", "refused"]
    assert await none_noted(db)
    assert (await worker.send(worker.op(parent, cancel_children=["x"]))).status == 422
    assert await status(api, child) == "queued"


@pytest.mark.parametrize("begun", [False, True])
async def test_a_parent_that_ends_as_it_gives_its_child_up_has_asked_once(api, worker, db, begun):
    parent, child = await parent_and_child(worker, begun=begun)
    ending = worker.finishing(parent, status="cancelled") | {"cancel_children": [child]}
    assert await worker.outcome(ending) == "ok"
    assert await worker.outcome(ending) == "ok"
    await until(lambda: db.fetchval("select cancel_requested from runs where id = $1", child))
    assert await none_noted(db)
    assert len(await cancels(db, child)) == begun


async def test_a_child_that_is_given_up_takes_its_own_children_with_it(api, worker, db):
    parent, child = await parent_and_child(worker, begun=True)
    grandchild = child_of(parent)
    await worker.commit(worker.op(child, CALL, children=[start(grandchild)]))
    await worker.commit(giving_up(worker, parent, child))
    await all_told(db)
    assert await worker.outcome(worker.finishing(child, status="cancelled")) == "ok"
    await until(lambda: has_status(api, grandchild, "cancelled"))


async def test_a_server_that_comes_later_tells_whom_the_one_before_did_not(db, start_server):
    api = await start_server()
    worker = await FakeWorker(api, "w1").register()
    _, child = await parent_and_child(worker, begun=True)
    gone = child_of(child)
    await db.execute(
        "insert into child_cancellations select unnest($1::uuid[])", [child, gone]
    )  # what is left when a server dies behind its commit
    await all_told(db)
    assert (await run_of(api, child))["cancel_requested"]


async def test_many_children_are_given_up_at_once(api, worker, db, monkeypatch):
    monkeypatch.setattr("aiki_server.engine.recovery.sweeper.TOLD_AT_ONCE", 10)
    parent = await worker.start_and_claim()
    children = [child_of(parent) for _ in range(35)]
    await worker.commit(worker.op(parent, CALL, children=[start(child) for child in children]))
    await worker.commit(giving_up(worker, parent, *children))
    await all_told(db)
    assert await db.fetchval("select count(*) from runs where parent = $1 and status = 'cancelled'", parent) == 35


async def test_only_a_commit_that_gives_a_child_up_reads_its_run_again(api, worker, db):
    parent, child = await parent_and_child(worker)
    before = await fast_commits(api)
    await worker.commit(giving_up(worker, parent, child))
    await all_told(db)
    assert await fast_commits(api) == before
    await worker.commit(worker.op(parent, release=True))
    await worker.claim(parent)
    await worker.commit(worker.op(parent, CALL))
    assert await fast_commits(api) > before
