"""Claims, commits, parks: S5 to S8, S13 to S15, S24, and that no wake-up is lost."""

from __future__ import annotations

import asyncio
import json
from unittest.mock import AsyncMock, Mock
from uuid import UUID, uuid4

import pytest
from asyncpg import DeadlockDetectedError

from aiki_server.engine.commit.row_cache import Held
from aiki_server.engine.dispatch.claims import Claim, Claims
from aiki_server.faults import Faults
from aiki_server.model.keys import WorkerKey
from aiki_server.model.workers import Carrier
from aiki_server.store import connections
from aiki_server.store.queries import claims
from support.fake_worker import FakeWorker
from support.runs import child_of, kinds, status
from support.waiting import until

EVENT = {"name": "go", "payload": 1}
CALL = {"k": "call", "c": 0, "a": "task:charge:1"}


async def test_a_claim_gives_everything_that_is_known(api, worker):
    run = await worker.start_and_claim({"x": 1})
    await worker.commit(worker.op(run, {"k": "began", "at": 5}, CALL, steps=1))
    await api.post(f"/api/v1/runs/{run}/events", EVENT)
    await worker.commit(worker.op(run, release=True))
    (claimed,) = await worker.claim(run)
    assert (claimed["epoch"], claimed["deliveries"], claimed["inbox_seq"]) == (2, 1, 1)
    assert (claimed["workflow"], claimed["version"], json.loads(claimed["input"])) == ("flow", "1.0", {"x": 1})
    entries = [entry["k"] for chunk in claimed["history"] for entry in json.loads(chunk)]
    assert entries == ["began", "call", "queued"]
    (item,) = claimed["inbox"]
    assert (item["seq"], item["kind"], item["name"], item["payload"]) == (1, "event", "go", "1")


async def test_what_comes_in_after_a_claim_is_dated_after_it(api, worker):
    run = (await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"]
    await api.post(f"/api/v1/runs/{run}/events", EVENT)
    (first,) = await worker.claim(run)
    await api.post(f"/api/v1/runs/{run}/events", EVENT)
    await worker.commit(worker.op(run, release=True))
    (second,) = await worker.claim(run)
    before, after = second["inbox"]
    assert before["at"] < first["claimed_at"] < after["at"] < second["claimed_at"]


async def test_only_one_of_two_workers_gets_a_run(api, worker):
    second = await FakeWorker(api, "w2").register()
    runs = [(await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"] for _ in range(20)]
    first_got, second_got = await asyncio.gather(worker.claim(*runs), second.claim(*runs))
    got = [run["id"] for run in first_got + second_got]
    assert sorted(got) == sorted(runs)


async def test_a_claim_of_what_is_not_queued_gets_nothing(api, worker):
    run = await worker.start_and_claim()
    second = await FakeWorker(api, "w2").register()
    assert await second.claim(run, uuid4().hex) == []


async def test_a_version_that_a_worker_does_not_carry_is_not_given_to_it(api, worker):
    await FakeWorker(api, "w2").register(("other", "1.0"))
    run = (await api.post("/api/v1/runs", {"workflow": "other"})).json()["id"]
    assert await worker.claim(run) == []


async def test_a_lost_answer_to_a_claim_is_given_again(api, worker):
    held, lost = await worker.start_and_claim(), await worker.start_and_claim()
    (again,) = await worker.claim(held=[held])
    assert (again["id"], again["epoch"]) == (lost, 2)
    assert await worker.outcome(worker.op(lost, CALL)) == "ok"
    assert await worker.outcome(worker.op(held, CALL)) == "ok"


async def test_an_unknown_worker_is_told_so(api):
    reply = await api.post("/api/v1/worker/claim", {"worker": "nobody", "runs": None})
    assert (reply.status, reply.json()["type"]) == (409, "urn:aiki:unknown-worker")
    assert (await FakeWorker(api, "nobody").heartbeat())["known"] is False


async def test_an_old_epoch_changes_nothing(api, worker):
    run = await worker.start_and_claim()
    old = worker.op(run, CALL)
    await worker.commit(worker.op(run, number=1, release=True))
    await worker.claim(run)
    before = await kinds(api, run)
    for op in (old, old | {"finish": {"status": "completed", "output": "1"}}, old | {"number": 7, "release": True}):
        assert await worker.outcome(op) in ("stale", "refused")
    assert (await kinds(api, run), await status(api, run)) == (before, "running")


async def test_the_current_epoch_in_another_workers_name_is_stale(api, worker):
    run = await worker.start_and_claim()
    second = await FakeWorker(api, "w2").register()
    second.epochs[run] = 1
    assert await second.outcome(second.op(run, CALL)) == "stale"


@pytest.mark.parametrize("ending", ["plain", "park", "release", "finish", "stop", "inbox_pending"])
async def test_a_repeated_commit_is_answered_as_the_first_and_changes_nothing(api, worker, ending):
    run = await worker.start_and_claim()
    if ending == "inbox_pending":
        await api.post(f"/api/v1/runs/{run}/events", EVENT)
    op = {
        "plain": lambda: worker.op(run, CALL),
        "park": lambda: worker.parking(run, CALL, events=["go"]),
        "inbox_pending": lambda: worker.parking(run, CALL, events=["go"]),
        "release": lambda: worker.op(run, CALL, release=True),
        "finish": lambda: worker.finishing(run, 1),
        "stop": lambda: worker.op(run, CALL, stop={"type": "Divergence", "message": "m"}),
    }[ending]()
    first = await worker.commit(op)
    before = (await kinds(api, run), await status(api, run))
    assert await worker.commit(op) == first
    assert (await kinds(api, run), await status(api, run)) == before


async def test_a_gap_in_the_numbers_is_refused(api, worker):
    run = await worker.start_and_claim()
    (answer,) = await worker.commit(worker.op(run, CALL) | {"number": 3})
    assert answer["outcome"] == "refused"
    assert "came after commit 0" in answer["detail"]


async def test_commits_of_one_request_are_decided_in_order(api, worker):
    run = await worker.start_and_claim()
    ops = [worker.op(run, CALL | {"c": number}, steps=1) for number in range(5)] + [worker.finishing(run, "done")]
    assert [answer["outcome"] for answer in await worker.commit(*ops)] == ["ok"] * 6
    assert await kinds(api, run) == ["call"] * 5 + ["completed"]
    assert (await api.get(f"/api/v1/runs/{run}")).json()["steps"] == 5


async def test_what_was_committed_is_read_back_to_the_byte(api, worker):
    text = '[{"k":"done","c":0,"at":1,"v":{"n":1.0,"big":123456789012345678901234567890,"nul":"\\u0000","half":"\\ud800","e":1E5}}]'
    run = await worker.start_and_claim()
    await worker.commit(worker.op(run) | {"entries": text, "count": 1})
    body = (await api.get(f"/api/v1/runs/{run}/history")).body.decode()
    assert '"v":{"n":1.0,"big":123456789012345678901234567890,"nul":"\\u0000","half":"\\ud800","e":1E5}' in body


async def test_a_parked_run_waits_until_its_event(api, worker):
    run = await worker.start_and_claim()
    assert (
        await worker.outcome(worker.parking(run, CALL, events=["go"], waits=[{"kind": "event", "name": "go", "due_at": None}])) == "parked"
    )
    waiting = (await api.get(f"/api/v1/runs/{run}")).json()
    assert (waiting["status"], waiting["waits"][0]["name"], waiting["worker"]) == ("waiting", "go", None)
    await api.post(f"/api/v1/runs/{run}/events", {"name": "else"})
    assert await status(api, run) == "waiting"
    await api.post(f"/api/v1/runs/{run}/events", EVENT)
    assert await status(api, run) == "queued"
    assert await kinds(api, run) == ["call", "parked", "queued"]


async def test_an_event_before_the_park_is_handed_over_instead(api, worker):
    run = await worker.start_and_claim()
    await api.post(f"/api/v1/runs/{run}/events", EVENT)
    (answer,) = await worker.commit(worker.parking(run, CALL, events=["go"]))
    assert answer["outcome"] == "inbox_pending"
    assert [(item["seq"], item["name"]) for item in answer["inbox"]] == [(1, "go")]
    assert await status(api, run) == "running"
    assert await worker.outcome(worker.parking(run, events=["go"], inbox_seen=1)) == "parked"


@pytest.mark.parametrize(("order", "names", "pause"), [("cancel", ["cancel"], False), ("pause", [], True)])
async def test_the_answer_to_a_commit_tells_what_was_asked_of_the_run(api, worker, order, names, pause):
    run = await worker.start_and_claim()
    await api.post(f"/api/v1/runs/{run}/{order}")
    op = worker.op(run, CALL)
    for _ in range(2):  # a repeated one is answered as the first
        (answer,) = await worker.commit(op)
        assert (answer["outcome"], [item["kind"] for item in answer["inbox"]], answer["pause"]) == ("inbox_pending", names, pause)


async def test_events_racing_with_parks_are_never_lost(api, worker):
    runs = [await worker.start_and_claim() for _ in range(10)]
    parks = [worker.commit(worker.parking(run, events=["go"])) for run in runs]
    events = [api.post(f"/api/v1/runs/{run}/events", EVENT) for run in runs]
    answers = (await asyncio.gather(*[job for pair in zip(parks, events, strict=True) for job in pair]))[::2]
    for run, (answer,) in zip(runs, answers, strict=True):
        assert (answer["outcome"], await status(api, run)) in {("inbox_pending", "running"), ("parked", "queued")}


async def test_a_finished_run_stays_finished(api, worker):
    run = await worker.start_and_claim()
    await worker.finish(run, {"a": 1})
    assert (await api.get(f"/api/v1/runs/{run}/result")).json()["output"] == {"a": 1}
    assert await worker.outcome(worker.op(run, CALL)) == "stale"
    assert (await api.post(f"/api/v1/runs/{run}/events", EVENT)).status == 409
    assert (await api.post(f"/api/v1/runs/{run}/cancel")).status == 409
    assert (await api.get(f"/api/v1/runs/{run}")).json()["status"] == "completed"


@pytest.mark.parametrize("end", ["failed", "cancelled"])
async def test_other_ends_carry_their_error(api, worker, end):
    run = await worker.start_and_claim()
    assert await worker.outcome(worker.finishing(run, status=end)) == "ok"
    result = (await api.get(f"/api/v1/runs/{run}/result")).json()
    assert (result["status"], result["error"]["message"], result["output"]) == (end, "m", None)


async def test_a_stopped_run_rests_with_its_error_until_retried(api, worker):
    run = await worker.start_and_claim()
    assert await worker.outcome(worker.op(run, CALL, stop={"type": "Divergence", "message": "publish 1.1"})) == "parked"
    stopped = (await api.get(f"/api/v1/runs/{run}")).json()
    assert (stopped["status"], stopped["error"]["message"]) == ("paused", "publish 1.1")
    await api.post(f"/api/v1/runs/{run}/events", EVENT)
    assert (await api.get(f"/api/v1/runs/{run}")).json()["error"]["message"] == "publish 1.1"
    assert (await api.post(f"/api/v1/runs/{run}/retry")).json()["status"] == "queued"
    assert (await api.get(f"/api/v1/runs/{run}")).json()["error"] is None


async def test_state_can_be_read_while_the_run_runs(api, worker):
    run = await worker.start_and_claim()
    await worker.commit(worker.op(run, CALL, state='{"step": "\\ud83d\\ude00"}'))
    assert (await api.get(f"/api/v1/runs/{run}")).json()["state"] == {"step": "😀"}


async def test_a_child_begins_with_the_commit_and_its_end_wakes_the_parent(api, worker):
    parent = await worker.start_and_claim()
    child = child_of(parent)
    start = {"id": child, "workflow": "flow", "input": "7"}
    op = worker.parking(parent, {"k": "call", "c": 0, "a": "child", "run": child}, children=True) | {"children": [start]}
    assert await worker.outcome(op) == "parked"
    (claimed,) = await worker.claim(child)
    assert (claimed["parent"], claimed["input"]) == (parent, "7")
    await worker.finish(child, "out")
    assert await status(api, parent) == "queued"
    (woken,) = await worker.claim(parent)
    (item,) = woken["inbox"]
    assert (item["kind"], item["child"], item["status"], item["payload"]) == ("child", child, "completed", '"out"')
    assert [run["id"] for run in (await api.get("/api/v1/runs", parent=parent)).json()["runs"]] == [child]


async def test_a_failed_child_brings_its_error(api, worker):
    parent = await worker.start_and_claim()
    child = child_of(parent)
    await worker.commit(worker.parking(parent, CALL, children=True) | {"children": [{"id": child, "workflow": "flow", "input": "7"}]})
    await worker.claim(child)
    await worker.commit(worker.finishing(child, status="failed"))
    (woken,) = await worker.claim(parent)
    assert (woken["inbox"][0]["status"], woken["inbox"][0]["error"]["message"]) == ("failed", "m")


@pytest.mark.parametrize(("policy", "expected"), [("cancel", "cancelled"), ("abandon", "queued")])
async def test_the_end_of_a_parent_reaches_its_children(api, worker, policy, expected):
    parent = await worker.start_and_claim()
    child = child_of(parent)
    start = {"id": child, "workflow": "flow", "input": "7", "on_parent_close": policy}
    await worker.commit(worker.op(parent, CALL, children=[start]))
    await worker.finish(parent)
    await until(lambda: closed(api, child, expected))


async def closed(api, run, expected):
    return await status(api, run) == expected


async def test_the_end_of_a_child_that_belongs_to_a_dead_parent_is_no_error(api, worker, db):
    parent = await worker.start_and_claim()
    child = child_of(parent)
    await worker.commit(worker.op(parent, CALL, children=[{"id": child, "workflow": "flow", "input": "7", "on_parent_close": "abandon"}]))
    await worker.claim(child)
    await worker.finish(parent)
    await worker.finish(child)


async def test_a_worker_hears_that_something_came_in(api, worker, redis):
    run = await worker.start_and_claim()
    subscription = redis.pubsub()
    await subscription.subscribe(worker.registered["inbox_channel"])
    await api.post(f"/api/v1/runs/{run}/events", EVENT)
    message = await until(lambda: subscription.get_message(ignore_subscribe_messages=True, timeout=0.1))
    assert message["data"] == run.encode()
    assert (await worker.heartbeat())["inbox_pending"] == [run]
    body = {"worker": "w1", "runs": [{"run": run, "epoch": 1, "inbox_seen": 0}, {"run": child_of(run), "epoch": 1, "inbox_seen": 0}]}
    told = (await api.post("/api/v1/worker/inbox", body)).json()["runs"]
    assert [(entry["stale"], len(entry["inbox"])) for entry in told] == [(False, 1), (True, 0)]
    assert (await worker.heartbeat())["inbox_pending"] == [run], "the answer may have been lost"
    await worker.inbox(run, inbox_seen=1)
    assert (await worker.heartbeat())["inbox_pending"] == []
    await subscription.aclose()


async def test_a_cancel_comes_with_the_commit_as_long_as_the_worker_does_not_say_that_it_knows(api, worker):
    """S28: the answer that told of it may be lost, or come later than that to the commit."""
    run = await worker.start_and_claim()
    await api.post(f"/api/v1/runs/{run}/cancel", {})
    assert [item["kind"] for item in (await worker.inbox(run, inbox_seen=0))["inbox"]] == ["cancel"]
    (answer,) = await worker.commit(worker.op(run, CALL))
    assert (answer["outcome"], [item["kind"] for item in answer["inbox"]]) == ("inbox_pending", ["cancel"])
    assert (await worker.inbox(run, inbox_seen=1))["inbox"] == []
    assert await worker.outcome(worker.op(run)) == "ok"


async def test_news_wait_for_nobody_who_is_writing_the_run(api, worker, db):
    run = await worker.start_and_claim()
    await api.post(f"/api/v1/runs/{run}/events", EVENT)
    async with db.transaction():
        await db.execute("select from runs where id = $1 for update", UUID(run))
        async with asyncio.timeout(5):
            assert (await worker.inbox(run, inbox_seen=1))["inbox"] == []
    assert (await worker.heartbeat())["inbox_pending"] == [run]


async def test_a_commit_that_meets_its_repetition_brings_each_item_once(api, worker):
    """S24: the connection broke while it was waiting for its turn; the two are decided in one batch."""
    run = await worker.start_and_claim()
    await api.post(f"/api/v1/runs/{run}/events", EVENT)
    op = worker.parking(run, CALL, events=["go"])
    answers = await worker.commit(op, op)
    assert [(answer["outcome"], [item["seq"] for item in answer["inbox"]]) for answer in answers] == [("inbox_pending", [1])] * 2


async def test_consumed_items_are_not_given_again(api, worker):
    run = await worker.start_and_claim()
    for number in range(3):
        await api.post(f"/api/v1/runs/{run}/events", {"name": "go", "payload": number})
    await worker.commit(worker.op(run, {"k": "done", "c": 0, "i": 1, "at": 1, "v": 0}, consumed=[1]))
    undelivered = (await api.get(f"/api/v1/runs/{run}/history")).json()["undelivered"]
    assert [event["seq"] for event in undelivered] == [2, 3]
    await worker.commit(worker.op(run, release=True))
    (claimed,) = await worker.claim(run)
    assert [item["seq"] for item in claimed["inbox"]] == [2, 3]
    assert claimed["inbox_seq"] == 3


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"entries": "[1]", "count": 1}, "no entry"),
        ({"entries": "[]", "count": 1}, "array of 1"),
        ({"entries": "{", "count": 1}, "JSON"),
        ({"entries": '[{"k":"parked"}]', "count": 1}, "no entry of kind 'parked'"),
        ({"entries": '[{"k":"completed"}]', "count": 1}, "without finish"),
        ({"entries": '[{"k":"call","at":"x"}]', "count": 1}, "the member at"),
        ({"finish": {"status": "completed", "output": "1"}}, "terminal entry"),
        ({"entries": '[{"k":"cancelled"}]', "count": 1, "finish": {"status": "completed", "output": "1"}}, "terminal entry"),
        ({"entries": '[{"k":"completed"}]', "count": 1, "finish": {"status": "completed", "output": "NaN"}}, "NaN"),
        ({"state": "[]"}, "object"),
        ({"state": '{"a":1,"a":2}'}, "twice"),
        ({"consumed": [1]}, "inbox ends at 0"),
        ({"release": True, "stop": {"type": "E", "message": "m"}}, "one way"),
        ({"number": 0}, "counts from 1"),
        ({"steps": 50_001}, "at most 50,000 steps"),
    ],
)
async def test_a_malformed_commit_is_refused_and_spares_the_others(api, worker, members, why):
    good, bad = await worker.start_and_claim(), await worker.start_and_claim()
    answers = await worker.commit(worker.op(bad) | members, worker.op(good, CALL))
    assert [answer["outcome"] for answer in answers] == ["refused", "ok"]
    assert why in answers[0]["detail"]
    assert await kinds(api, bad) == []


async def test_a_park_that_waits_for_nothing_goes_back_to_the_queue(api, worker):
    run = await worker.start_and_claim()
    assert await worker.outcome(worker.parking(run)) == "parked"
    assert await status(api, run) == "queued"


async def test_a_draining_worker_gets_no_streams_and_no_new_runs(api, worker):
    assert worker.registered["assignment"] == {"streams": ["aiki:{default:main}:flow:1.0"], "drain": False, "poll": False}
    assert (await api.post("/api/v1/workers/w1/drain", {"drain": True})).status == 204
    assert (await worker.heartbeat())["assignment"] == {"streams": [], "drain": True, "poll": False}
    await api.post("/api/v1/runs", {"workflow": "flow"})
    assert await worker.claim() == []
    await api.post("/api/v1/workers/w1/drain", {"drain": False})
    assert len(await worker.claim()) == 1


async def test_a_claim_that_meets_an_event_still_gets_the_run(api, worker):
    for _ in range(30):
        run = (await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"]
        events = [api.post(f"/api/v1/runs/{run}/events", EVENT) for _ in range(3)]
        *_, claimed = await asyncio.gather(*events, worker.claim(run))
        assert [one["id"] for one in claimed] == [run]
        assert claimed[0]["inbox_seq"] == len(claimed[0]["inbox"])


async def test_claims_of_a_batch_that_failed_midway_are_not_tried_again(api, worker, database_url, monkeypatch):
    """The first of them may have been granted; a second try would find nothing queued, and its worker would never hear of the run (S6, L22)."""
    second = await FakeWorker(api, "w2").register()
    runs = [UUID((await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"]) for _ in range(2)]
    grant = claims.claim

    async def granted_once(db, carrier, name, *arguments, **options):
        if name == "w2":
            monkeypatch.setattr(claims, "claim", grant)
            raise DeadlockDetectedError
        return await grant(db, carrier, name, *arguments, **options)

    monkeypatch.setattr(claims, "claim", granted_once)
    pool = await connections.connect(database_url, size=2)
    batcher = Claims(pool, lease=3, submit=AsyncMock(), held=Held(), granted=Mock(), faults=Faults()).batcher
    carrier = Carrier("default", "main", None, frozenset({("flow", "1.0")}))
    asked = [
        batcher.put([Claim(WorkerKey("default", name), carrier, (run,), 1, None)]) for name, run in zip(("w1", "w2"), runs, strict=True)
    ]
    working = asyncio.create_task(batcher.run())
    answers = await asyncio.gather(*asked, return_exceptions=True)
    working.cancel()
    await asyncio.wait([working])
    pool.close()
    assert [type(answer) for answer in answers] == [DeadlockDetectedError] * 2
    assert [run["id"] for run in await worker.claim(runs[0].hex, held=[])] == [runs[0].hex]
    assert [run["id"] for run in await second.claim(runs[1].hex, held=[])] == [runs[1].hex]
