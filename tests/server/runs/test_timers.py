"""What is due: S19, and in bulk."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

from aiki_server.model.instants import micros
from support.runs import has_status
from support.waiting import until

CALL = {"k": "call", "c": 0, "a": "sleep::1"}


async def test_a_run_goes_on_when_it_is_due_and_not_before(api, worker, db):
    run = await worker.start_and_claim()
    due = worker.registered["now"] + 300_000
    await worker.commit(worker.parking(run, CALL, due_at=due))
    await until(lambda: has_status(api, run, "queued"), seconds=3)
    entry = (await api.get(f"/api/v1/runs/{run}/history")).json()["entries"][-1]
    assert (entry["kind"], entry["data"]) == ("queued", {"by": "timer"})
    woken_at = datetime.fromisoformat(entry["at"])
    due_at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=due)
    assert timedelta(0) <= woken_at - due_at < timedelta(seconds=1)


async def test_an_earlier_timer_shortens_the_sleep(api, worker):
    late, early = await worker.start_and_claim(), await worker.start_and_claim()
    now = worker.registered["now"]
    await worker.commit(worker.parking(late, CALL, due_at=now + 60_000_000))
    await worker.commit(worker.parking(early, CALL, due_at=now + 200_000))
    await until(lambda: has_status(api, early, "queued"), seconds=3)
    assert not await has_status(api, late, "queued")


async def test_a_timer_that_is_already_due_fires_once(api, worker):
    run = await worker.start_and_claim()
    await worker.commit(worker.parking(run, CALL, due_at=1))
    await until(lambda: has_status(api, run, "queued"))
    assert [entry["kind"] for entry in (await api.get(f"/api/v1/runs/{run}/history")).json()["entries"]] == ["call", "parked", "queued"]


async def test_an_event_wins_over_its_deadline(api, worker):
    run = await worker.start_and_claim()
    due_at = worker.registered["now"] + 500_000
    await worker.commit(worker.parking(run, CALL, due_at=due_at, events=["go"]))
    later = await worker.start_and_claim()
    await worker.commit(worker.parking(later, CALL, due_at=due_at + 1))
    await api.post(f"/api/v1/runs/{run}/events", {"name": "go"})
    (claimed,) = await worker.claim(run)
    await until(lambda: has_status(api, later, "queued"))  # the deadline is over, and must not come any more
    assert (await api.get(f"/api/v1/runs/{run}")).json()["status"] == "running"
    assert claimed["inbox"][0]["name"] == "go"


async def test_a_due_time_beyond_all_calendars_waits_for_ever(api, worker):
    run = await worker.start_and_claim()
    assert await worker.outcome(worker.parking(run, CALL, due_at=10**30)) == "parked"


async def test_a_scheduled_run_begins_when_it_is_due(api, worker):
    at = (datetime.now(UTC) + timedelta(milliseconds=300)).isoformat()
    run = (await api.post("/api/v1/runs", {"workflow": "flow", "start_at": at})).json()["id"]
    await until(lambda: has_status(api, run, "queued"), seconds=3)
    assert len(await worker.claim(run)) == 1


async def test_more_than_one_batch_is_due_at_once(api, worker, db):
    now = "now() + interval '200 ms'"
    await db.execute(
        f"""insert into runs (id, namespace, workflow, version, pool, status, input, due_at)
        select gen_random_uuid(), 'default', 'flow', '1.0', 'main', 'scheduled', '1', {now} from generate_series(1, 2500)"""
    )
    await worker.finish(await worker.start_and_claim())
    run = await worker.start_and_claim()
    await worker.commit(worker.parking(run, CALL, due_at=1))  # the loop looks again
    await until(lambda: none_scheduled(db), seconds=8)
    assert len(await worker.claim(limit=1000)) == 1000


async def none_scheduled(db):
    return await db.fetchval("select count(*) = 0 from runs where status = 'scheduled'")


async def test_two_replicas_fire_each_timer_once(api, worker, start_server):
    await start_server()
    runs = [await worker.start_and_claim() for _ in range(20)]
    due = worker.registered["now"] + 100_000
    await worker.commit(*[worker.parking(run, CALL, due_at=due) for run in runs])
    for run in runs:
        await until(partial(has_status, api, run, "queued"))
        assert [entry["kind"] for entry in (await api.get(f"/api/v1/runs/{run}/history")).json()["entries"]] == ["call", "parked", "queued"]


async def test_a_timer_is_noted_as_fired_no_earlier_than_it_was_due(api, worker):
    """Each of them makes the loop look, and the later ones are not due by then."""
    runs = {}
    for seconds in (0.6, 0.4, 0.2, 0.05):
        run = await worker.start_and_claim()
        runs[run] = (await worker.heartbeat())["now"] + round(seconds * 1_000_000)
        assert await worker.outcome(worker.parking(run, CALL, due_at=runs[run])) == "parked"

    async def woken(run):
        entries = (await api.get(f"/api/v1/runs/{run}/history")).json()["entries"]
        return entries[-1] if entries[-1]["kind"] == "queued" else None

    for run, due in runs.items():
        assert micros(datetime.fromisoformat((await until(partial(woken, run)))["at"])) >= due
