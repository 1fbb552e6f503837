"""Events, cancel, pause, resume, retry: S24 to S28, S30."""

from __future__ import annotations

import asyncio

import pytest

from support.fake_worker import FakeWorker
from support.runs import run_of

CALL = {"k": "call", "c": 0, "a": "task:charge:1"}
HOUR = 3_600_000_000


async def act(api, run, verb, body=None):
    return await api.post(f"/api/v1/runs/{run}/{verb}", body)


async def later(worker):
    return worker.registered["now"] + HOUR


async def test_events_are_numbered_in_the_order_of_their_acknowledgement(api, worker):
    run = await worker.start_and_claim()
    accepted = [(await act(api, run, "events", {"name": "go", "payload": number})).json()["seq"] for number in range(5)]
    assert accepted == [1, 2, 3, 4, 5]
    events = (await api.get(f"/api/v1/runs/{run}/history")).json()["undelivered"]
    assert [(event["seq"], event["payload"]) for event in events] == [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4)]


async def test_an_event_id_is_taken_once(api, worker):
    run = await worker.start_and_claim()
    replies = await asyncio.gather(*[act(api, run, "events", {"name": "go", "id": "x"}) for _ in range(10)])
    assert {reply.json()["seq"] for reply in replies} == {1}
    assert sorted(reply.status for reply in replies) == [200] * 9 + [201]
    await worker.finish(run)
    assert (await act(api, run, "events", {"name": "go", "id": "x"})).status == 200


async def test_an_event_before_the_run_began_is_kept(api, worker):
    run = (await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"]
    assert (await act(api, run, "events", {"name": "go"})).status == 201
    assert (await run_of(api, run))["status"] == "queued"
    (claimed,) = await worker.claim(run)
    assert [item["name"] for item in claimed["inbox"]] == ["go"]


async def test_a_run_that_never_began_is_cancelled_at_once(api, worker):
    run = (await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"]
    assert (await act(api, run, "cancel", {"reason": "changed my mind"})).json()["status"] == "cancelled"
    assert await worker.claim(run) == []
    assert (await act(api, run, "cancel")).status == 200
    assert (await api.get(f"/api/v1/runs/{run}/result")).json()["status"] == "cancelled"


@pytest.mark.parametrize("content_type", ["application/json", "application/octet-stream"])
async def test_a_cancel_without_a_body_may_name_the_type_of_one(api, worker, content_type):
    run = await worker.start_and_claim()
    headers = {"content-type": content_type, "content-length": "0"}
    assert (await api.request("POST", f"/api/v1/runs/{run}/cancel", headers=headers)).status == 200


@pytest.mark.parametrize("parked", [True, False])
async def test_a_run_that_began_gets_to_clean_up(api, worker, parked):
    run = await worker.start_and_claim()
    await worker.commit(worker.parking(run, CALL, events=["go"]) if parked else worker.op(run, CALL))
    cancelled = (await act(api, run, "cancel", {"reason": "x"})).json()
    assert cancelled["status"] == ("queued" if parked else "running")
    assert (await run_of(api, run))["cancel_requested"]
    if parked:
        (claimed,) = await worker.claim(run)
        assert [item["kind"] for item in claimed["inbox"]] == ["cancel"]
        assert claimed["inbox"][0]["payload"] == '"x"'
    assert (await act(api, run, "cancel")).status == 200
    assert await worker.outcome(worker.finishing(run, status="cancelled")) == "ok"


async def test_a_cancel_is_news_to_a_park(api, worker):
    run = await worker.start_and_claim()
    await act(api, run, "cancel")
    (answer,) = await worker.commit(worker.parking(run, CALL, events=["go"]))
    assert (answer["outcome"], [item["kind"] for item in answer["inbox"]]) == ("inbox_pending", ["cancel"])


async def test_a_cancel_takes_a_pause_back_that_has_not_come_about(api, worker):
    run = await worker.start_and_claim()
    await act(api, run, "pause")
    assert (await act(api, run, "cancel")).json()["status"] == "running"
    assert not (await run_of(api, run))["pause_requested"]
    await worker.commit(worker.op(run, release=True))
    assert [item["kind"] for item in (await worker.claim(run))[0]["inbox"]] == ["cancel"]


async def test_a_paused_run_that_is_cancelled_wakes(api, worker):
    run = await worker.start_and_claim()
    await worker.commit(worker.parking(run, CALL, events=["go"]))
    await act(api, run, "pause")
    assert (await act(api, run, "cancel")).json()["status"] == "queued"


async def test_a_queued_run_is_paused_and_resumed(api, worker):
    run = (await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"]
    assert (await act(api, run, "pause")).json()["status"] == "paused"
    assert await worker.claim(run) == []
    assert (await act(api, run, "pause")).status == 200
    assert (await act(api, run, "resume")).json()["status"] == "queued"
    assert len(await worker.claim(run)) == 1


async def test_a_running_run_is_paused_when_it_parks(api, worker):
    run = await worker.start_and_claim()
    assert (await act(api, run, "pause")).json()["status"] == "running"
    assert (await run_of(api, run))["pause_requested"]
    assert (await worker.heartbeat())["inbox_pending"] == [run]
    assert await worker.outcome(worker.parking(run, CALL)) == "parked"
    assert (await run_of(api, run))["status"] == "paused"
    assert (await act(api, run, "resume")).json()["status"] == "queued"


async def test_a_pause_can_be_taken_back(api, worker):
    run = await worker.start_and_claim()
    await act(api, run, "pause")
    assert (await act(api, run, "resume")).json()["status"] == "running"
    assert not (await run_of(api, run))["pause_requested"]


async def test_a_finish_wins_over_a_pause(api, worker):
    run = await worker.start_and_claim()
    await act(api, run, "pause")
    await worker.finish(run, 1)
    assert (await run_of(api, run))["status"] == "completed"


async def test_a_scheduled_run_that_is_paused_does_not_begin_early(api, worker):
    run = (await api.post("/api/v1/runs", {"workflow": "flow", "start_at": "2999-01-01T00:00:00Z"})).json()["id"]
    await act(api, run, "pause")
    resumed = (await act(api, run, "resume")).json()
    assert (resumed["status"], resumed["due_at"]) == ("waiting", "2999-01-01T00:00:00Z")


async def test_retry_ends_the_wait_for_the_next_attempt(api, worker):
    run = await worker.start_and_claim()
    due = await later(worker)
    await worker.commit(worker.parking(run, CALL, due_at=due, waits=[{"kind": "retry", "name": "charge", "attempt": 2, "due_at": due}]))
    wait = (await run_of(api, run))["waits"][0]
    assert (wait["kind"], wait["attempt"]) == ("retry", 2)
    assert (await act(api, run, "retry")).json()["status"] == "queued"


async def test_retry_does_not_end_other_waits(api, worker):
    run = await worker.start_and_claim()
    await worker.commit(worker.parking(run, CALL, events=["go"]))
    assert (await act(api, run, "retry")).status == 409


async def test_a_run_that_someone_paused_is_resumed_not_retried(api, worker):
    run = (await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"]
    await act(api, run, "pause")
    assert (await act(api, run, "retry")).status == 409


@pytest.mark.parametrize("verb", ["pause", "resume", "retry", "cancel"])
async def test_an_ended_run_takes_no_orders(api, worker, verb):
    run = await worker.start_and_claim()
    await worker.finish(run)
    assert (await act(api, run, verb)).status == 409


@pytest.mark.parametrize("verb", ["pause", "resume", "retry", "cancel", "events"])
async def test_orders_to_nobody_are_not_found(api, verb):
    body = {"name": "go"} if verb == "events" else None
    assert (await act(api, "0" * 32, verb, body)).status == 404
    assert (await act(api, "nonsense", verb, body)).status == 404


async def test_cancelling_a_parent_that_never_began_wakes_nobody_wrongly(api, worker):
    second = await FakeWorker(api, "w2").register()
    run = (await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"]
    first, then = await asyncio.gather(act(api, run, "cancel"), second.claim(run))
    assert first.json()["status"] == ("running" if then else "cancelled")
