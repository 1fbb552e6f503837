"""Who holds a lease, and who has lost it; time is moved in the table: S6, S16, L18, L22, S33."""

from __future__ import annotations

import asyncio

import pytest

from aiki.protocol import MAX_DELIVERIES
from aiki_server.engine.recovery.sweeper import Sweeper
from aiki_server.settings import Settings
from aiki_server.store.queries import claims
from support.fake_worker import FakeWorker
from support.waiting import until

STREAM = "aiki:{default:main}:flow:1.0"
WAITED_FOR = "select pg_backend_pid() in (select unnest(pg_blocking_pids(pid)) from pg_locks where not granted)"
"""Whether another connection waits for a lock of this one."""


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
        trials=engine.trials,
        submit=engine.lanes.submit,
        clock=engine.clock,
        circuit=engine.circuit,
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


async def asked(worker, *runs):
    return await worker.api.post("/api/v1/worker/claim", {"worker": worker.name, "runs": list(runs)})


async def test_a_worker_that_is_declared_lost_while_it_claims_is_told_so_and_keeps_its_rings(api, worker, monkeypatch):
    run = (await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"]
    claim = claims.claim

    async def claim_after_the_loss(*arguments, **options):
        assert (await api.post("/api/v1/workers/w1/lost")).status == 200
        return await claim(*arguments, **options)

    monkeypatch.setattr(claims, "claim", claim_after_the_loss)
    reply = await asked(worker, run)
    assert (reply.status, reply.json()["type"]) == (409, "urn:aiki:unknown-worker")
    monkeypatch.undo()
    await worker.register()
    assert [claimed["id"] for claimed in await worker.claim(run)] == [run]


async def test_a_worker_whose_lease_lapses_while_it_claims_keeps_its_rings(api, db, settings, worker):
    run = (await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"]
    await silent(db, "w1", 1.01, settings)
    reply = await asked(worker, run)
    assert (reply.status, reply.json()["runs"], reply.json()["remaining"]) == (200, [], [run])
    await worker.heartbeat()
    assert [claimed["id"] for claimed in await worker.claim(run)] == [run]


async def test_rings_that_are_none_of_a_workers_are_dropped(api, other, worker):
    await FakeWorker(api, "w2").register(("flow", "2.0"))
    await FakeWorker(other, "w3").register()
    held = await worker.start_and_claim(version="1.0")
    newer = (await api.post("/api/v1/runs", {"workflow": "flow", "version": "2.0"})).json()["id"]
    foreign = (await other.post("/api/v1/runs", {"workflow": "flow"})).json()["id"]
    reply = await asked(worker, held, newer, foreign, "0" * 32)
    assert (reply.status, reply.json()["runs"], reply.json().get("remaining")) == (200, [], None)


@pytest.mark.parametrize("leaves", ["/workers/w1/lost", "/worker/deregister"])
async def test_what_a_claim_grants_to_a_worker_that_has_gone_meanwhile_goes_on_without_a_rescue(api, db, engine, worker, leaves):
    run = (await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"]
    async with db.transaction():
        await db.execute("select from runs for update")
        claiming = asyncio.create_task(asked(worker, run))
        await until(lambda: db.fetchval(WAITED_FOR))
        assert (await api.post(f"/api/v1{leaves}", {"worker": "w1"} if leaves.endswith("deregister") else None)).status in {200, 204}
    assert [claimed["id"] for claimed in (await claiming).json()["runs"]] == [run]
    taker = await FakeWorker(api, "w2").register()

    async def taken():
        return [claimed["id"] for claimed in await taker.claim(run)] == [run]

    await until(taken)
    assert engine.sweeper.lost == 0
