"""Who holds a lease, and who has lost it; time is moved in the table: S6, S16, L18, L22, S33."""

from __future__ import annotations

import pytest

from aiki.protocol import MAX_DELIVERIES
from aiki_server.engine.sweeper import Sweeper
from aiki_server.settings import Settings
from fake_worker import FakeWorker
from waiting import until

STREAM = "aiki:{default:main}:flow:1.0"


@pytest.fixture
def settings(unaided: Settings) -> Settings:
    return unaided


@pytest.fixture
def sweeper(engine):
    """A sweeper that the test turns itself, and that has been healthy for long."""
    made = Sweeper(
        engine.pool,
        lease=engine.settings.lease_seconds,
        registry=engine.registry,
        refill=engine.refill,
        submit=engine.lanes.submit,
        clock=engine.clock,
    )
    made._healthy_since -= 2 * engine.settings.lease_seconds
    made.hurry()
    return made


async def silent(db, worker, leases, settings):
    """The worker was last heard of so many leases ago."""
    seconds = leases * settings.lease_seconds
    await db.execute("update workers set heartbeat_at = now() - $1 * interval '1 second' where id = $2", seconds, worker)


async def workers(db):
    return {record["id"] for record in await db.fetch("select id from workers")}


async def test_a_worker_is_lost_after_its_lease_and_not_before(api, db, settings, sweeper, worker):
    await FakeWorker(api, "w2").register()
    run = await worker.start_and_claim()
    await silent(db, "w1", 1.01, settings)
    await silent(db, "w2", 0.99, settings)
    await sweeper.turn()
    assert await workers(db) == {"w2"}
    assert (await api.get(f"/api/v1/runs/{run}")).json()["status"] == "queued"


async def test_nobody_is_lost_right_after_an_outage_of_the_database(db, engine, settings, sweeper, worker, monkeypatch):
    await silent(db, "w1", 1.5, settings)
    with monkeypatch.context() as away:

        async def renew():
            raise OSError("the database is away")

        away.setattr(engine.registry, "renew", renew)
        with pytest.raises(OSError, match="away"):
            await sweeper.turn()
    sweeper.hurry()
    await sweeper.turn()
    assert await workers(db) == {"w1"}
    sweeper._healthy_since -= settings.lease_seconds
    sweeper.hurry()
    await sweeper.turn()
    assert await workers(db) == set()


async def test_nobody_is_lost_by_a_server_that_itself_stood_still(db, settings, sweeper, worker):
    await silent(db, "w1", 1.5, settings)
    sweeper._turned_at -= 3 * sweeper.period
    await sweeper.turn()
    assert await workers(db) == {"w1"}


@pytest.mark.parametrize("named", [True, False])
async def test_a_worker_whose_lease_has_lapsed_is_given_nothing(api, db, settings, worker, named):
    run = (await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"]
    await silent(db, "w1", 1.01, settings)
    assert await worker.claim(*([run] if named else [])) == []
    await worker.heartbeat()
    assert [claimed["id"] for claimed in await worker.claim(*([run] if named else []))] == [run]


@pytest.mark.parametrize("named", [True, False])
async def test_a_run_that_was_delivered_too_often_is_given_to_nobody(api, db, worker, named):
    run = (await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"]
    await db.execute("update runs set deliveries = $1", MAX_DELIVERIES)
    assert await worker.claim(*([run] if named else [])) == []


async def test_a_stream_that_lost_some_of_its_entries_is_refilled(api, db, sweeper, redis, worker):
    runs = {(await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"].encode() for _ in range(3)}

    async def rung():
        return [(entry, fields[b"r"]) for entry, fields in await redis.xrange(STREAM)]

    await until(lambda: has(rung, runs))
    await redis.xdel(STREAM, (await rung())[1][0])
    await db.execute("update runs set updated_at = now() - interval '1 minute'")
    await sweeper.turn()
    await until(lambda: has(rung, runs))


async def has(rung, runs):
    return {run for _, run in await rung()} == runs
