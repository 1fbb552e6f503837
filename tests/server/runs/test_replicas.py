"""Two servers side by side: what one remembers of a run, the other may have changed (S7, S24, S27)."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from support.fake_worker import FakeWorker
from support.runs import fast_commits, has_status
from support.waiting import until

CALL = {"k": "call", "c": 0, "a": "task:charge:1"}


@pytest.fixture
async def replica(api, start_server):
    return await start_server()


def through(worker, server):
    """The same worker, by way of another server."""
    other = FakeWorker(server, worker.name)
    other.epochs, other.numbers = worker.epochs, worker.numbers
    return other


async def test_a_run_that_nobody_else_touched_is_not_read_again(api, worker):
    run = await worker.start_and_claim()
    for _ in range(3):
        assert await worker.outcome(worker.op(run, CALL)) == "ok"
    await worker.finish(run, 1)
    assert await fast_commits(api) == 4


async def parked(worker, **park):
    run = await worker.start_and_claim()
    assert await worker.outcome(worker.parking(run, CALL, events=["go"], **park)) == "parked"
    return run


async def send(api, run, **more):
    reply = await api.post(f"/api/v1/runs/{run}/events", {"name": "go", **more})
    return reply.status, reply.json()["seq"]


async def whole(api, run):
    """The history, which has no gap; what came in, in order."""
    history = (await api.get(f"/api/v1/runs/{run}/history")).json()
    assert [entry["seq"] for entry in history["entries"]] == list(range(1, len(history["entries"]) + 1))
    return [entry["kind"] for entry in history["entries"]], [event["seq"] for event in history["undelivered"]]


async def test_an_event_to_a_run_that_waits_for_it_is_stored_without_reading_the_run(api, worker):
    run = await parked(worker)
    before = await fast_commits(api)
    assert await send(api, run) == (201, 1)
    assert await fast_commits(api) == before + 1
    assert await whole(api, run) == (["call", "parked", "queued"], [1])


async def test_an_event_id_is_taken_once_by_a_run_that_waits(api, worker):
    run = await parked(worker, due_at=2**50)
    assert [await send(api, run, id="x") for _ in range(3)] == [(201, 1), (200, 1), (200, 1)]
    other = await parked(worker)
    await send(api, other, id="x")
    await worker.claim(other)
    assert await worker.outcome(worker.parking(other, inbox_seen=1, events=["go"])) == "parked"
    assert await send(api, other, id="x") == (200, 1)


async def test_an_event_to_a_run_that_another_server_has_woken_is_kept(api, worker, replica):
    run = await parked(worker)
    assert await send(replica, run) == (201, 1)
    assert await send(api, run) == (201, 2)
    assert await whole(api, run) == (["call", "parked", "queued"], [1, 2])


async def test_an_event_to_a_run_whose_time_has_come_meanwhile_is_kept(api, worker):
    run = await parked(worker, due_at=1)
    await until(lambda: has_status(api, run, "queued"))
    assert await send(api, run) == (201, 1)
    assert await whole(api, run) == (["call", "parked", "queued"], [1])


async def test_events_of_two_servers_to_one_run_are_numbered_without_a_gap(api, worker, replica):
    runs = [await parked(worker) for _ in range(5)]
    sent = [send(server, run) for _ in range(4) for run in runs for server in (api, replica)]
    assert sorted(await asyncio.gather(*sent)) == sorted((201, seq) for _ in runs for seq in range(1, 9))
    for run in runs:
        assert await whole(api, run) == (["call", "parked", "queued"], list(range(1, 9)))


async def test_an_event_by_another_server_is_not_missed_by_a_park(api, worker, replica):
    run = await worker.start_and_claim()
    await worker.commit(worker.op(run, CALL))
    await replica.post(f"/api/v1/runs/{run}/events", {"name": "go"})
    (answer,) = await worker.commit(worker.parking(run, events=["go"]))
    assert (answer["outcome"], len(answer["inbox"])) == ("inbox_pending", 1)


async def test_a_pause_by_another_server_is_kept(api, worker, replica):
    run = await worker.start_and_claim()
    await replica.post(f"/api/v1/runs/{run}/pause")
    await worker.commit(worker.op(run, CALL))
    assert await worker.outcome(worker.parking(run, events=["go"])) == "parked"
    assert (await api.get(f"/api/v1/runs/{run}")).json()["status"] == "paused"


async def test_a_run_that_moved_by_another_server_is_its_new_workers(api, worker, replica):
    run = await worker.start_and_claim()
    await worker.commit(worker.op(run, CALL))
    second = await FakeWorker(replica, "w2").register()
    await replica.post("/api/v1/workers/w1/lost")
    assert len(await second.claim(run)) == 1
    assert await worker.outcome(worker.op(run, CALL)) == "stale"
    assert await through(second, api).outcome(second.op(run, CALL)) == "ok"
    assert await second.outcome(second.op(run, CALL)) == "ok"


async def test_commits_may_alternate_between_servers(api, worker, replica):
    run = await worker.start_and_claim()
    ways = [worker, through(worker, replica)]
    for number in range(6):
        assert await ways[number % 2].outcome(worker.op(run, CALL)) == "ok"
    await ways[1].finish(run, 1)
    assert [entry["seq"] for entry in (await api.get(f"/api/v1/runs/{run}/history")).json()["entries"]] == list(range(1, 8))


async def test_one_changed_run_does_not_harm_its_batch(api, worker, replica):
    runs = [await worker.start_and_claim() for _ in range(8)]
    await replica.post(f"/api/v1/runs/{runs[3]}/events", {"name": "go"})
    await replica.post(f"/api/v1/runs/{runs[5]}/cancel")
    answers = await worker.commit(*[worker.parking(run, CALL, events=["go"]) for run in runs])
    assert [answer["outcome"] for answer in answers] == ["inbox_pending" if number in (3, 5) else "parked" for number in range(8)]


async def test_two_servers_at_once_keep_every_history_whole(api, worker, replica):
    run = await worker.start_and_claim()
    sent = [worker.op(run, CALL | {"c": number}) for number in range(10)]
    for op in sent:
        answers = await asyncio.gather(*[server.post("/api/v1/worker/commit", {"worker": "w1", "ops": [op]}) for server in (api, replica)])
        assert {answer.json()["answers"][0]["outcome"] for answer in answers} == {"ok"}
    entries = (await api.get(f"/api/v1/runs/{run}/history")).json()["entries"]
    assert [entry["data"]["c"] for entry in entries] == list(range(10))


@pytest.mark.parametrize("asked", ["events", "cancel"])
async def test_a_run_that_lies_where_it_lay_before_is_not_taken_for_unchanged(api, worker, replica, db, asked):
    """Another server has changed it since, and the table was rewritten: the same run is at the same place, and is not as it was."""
    await db.execute("vacuum full runs")
    await api.post("/api/v1/runs", {"workflow": "flow"})
    run = await worker.start_and_claim()
    await worker.commit(worker.op(run, CALL))
    remembered = await db.fetchval(PLACE, UUID(run))
    for _ in range(remembered[1] - 2):
        await replica.post("/api/v1/runs", {"workflow": "flow"})
    assert (await replica.post(f"/api/v1/runs/{run}/{asked}", {"name": "go"} if asked == "events" else None)).status in {200, 201}
    await db.execute("vacuum full runs")
    assert await db.fetchval(PLACE, UUID(run)) == remembered
    (answer,) = await worker.commit(worker.parking(run, events=["go"]) if asked == "events" else worker.op(run, CALL))
    assert (answer["outcome"], [item["kind"] for item in answer["inbox"]]) == ("inbox_pending", [asked.removesuffix("s")])


PLACE = "select ctid from runs where id = $1"
