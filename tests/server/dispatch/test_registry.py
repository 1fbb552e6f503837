"""What the server reads of what is registered and of what waits: no more than it needs, whatever one namespace leaves there."""

from __future__ import annotations

from aiki_server.engine.workers import registry as engine_registry
from aiki_server.store.queries import registry, sweeps
from support.fake_worker import FakeWorker
from support.waiting import until


async def test_a_claim_of_an_unknown_worker_reads_nothing_but_its_row(api, engine, monkeypatch):
    read, state = [], registry.state

    async def seen(db):
        read.append(db)
        return await state(db)

    await engine.registry.renew()
    monkeypatch.setattr(registry, "state", seen)
    reply = await api.post("/api/v1/worker/claim", {"worker": "nobody", "limit": 10})
    assert (reply.status, reply.json()["type"], read) == (409, "urn:aiki:unknown-worker", [])


async def test_only_the_namespaces_that_changed_are_read_again(api, worker, engine, monkeypatch):
    other = await FakeWorker(api.as_("other-token"), "w1").register(("theirs", "1.0"))
    await engine.registry.renew()
    read, registrations = [], registry.registrations

    async def seen(db, namespaces):
        read.append(list(namespaces))
        return await registrations(db, namespaces)

    monkeypatch.setattr(registry, "registrations", seen)
    await engine.registry.renew()
    assert read == []
    await other.register(("theirs", "1.0"), ("more", "2.0"))
    assert read[0] == ["other"]
    served = engine.registry.serving
    assert served.place("other", "more", None, None).served
    assert served.place("default", "flow", None, None).served
    assert not served.place("default", "more", None, None).served


async def test_what_is_deleted_is_served_no_more(api, worker, engine, db):
    await engine.registry.renew()
    await db.execute("delete from registrations where namespace = 'default'")
    await engine.registry.renew()
    assert not engine.registry.serving.place("default", "flow", None, None).served


async def test_runs_that_nobody_serves_are_not_looked_at_when_others_register(api, worker, engine):
    await api.post("/api/v1/runs:batch", {"runs": [{"workflow": f"never{number}"} for number in range(50)]})
    waited = (await api.post("/api/v1/runs", {"workflow": "later"})).json()["id"]
    async with engine.pool.acquire() as connection:
        assert await registry.unassigned(connection, None, []) == []
    second = await FakeWorker(api, "w2").register(("later", "1.0"))
    assert [run["id"] for run in await second.claim(waited)] == [waited]


async def test_of_what_nobody_serves_a_sweep_looks_at_the_oldest_only(api, worker, engine, db):
    """There may be as many of these streams as runs; those that somebody serves are all looked at, and so is each namespace."""
    await api.post(
        "/api/v1/runs:batch", {"runs": [{"workflow": f"never{number}", "version": "1", "pool": f"p{number}"} for number in range(30)]}
    )
    await api.as_("other-token").post("/api/v1/runs:batch", {"runs": [{"workflow": f"never{number}"} for number in range(2)]})
    await api.post("/api/v1/runs", {"workflow": "flow", "input": None})
    await db.execute("update runs set updated_at = updated_at - interval '1 minute' where workflow = 'never7'")
    await db.execute("update runs set updated_at = updated_at - interval '3 seconds'")
    found = await sweeps.queued(db, seconds=2.0, unserved=5)
    mine = [one for one in found if one.namespace == "default"]
    assert {(one.workflow, one.runs) for one in mine if one.pool == "main"} == {("flow", 1)}
    unserved = [one for one in mine if one.workflow != "flow"]
    assert len(unserved) == 5
    assert max(unserved, key=lambda one: one.oldest_seconds).workflow == "never7"
    assert len(found) - len(mine) == 2


async def test_many_runs_that_waited_for_a_registration_are_assigned_in_pages(api, engine, db, monkeypatch):
    monkeypatch.setattr(engine_registry, "ASSIGNED_AT_ONCE", 2)
    monkeypatch.setattr(engine_registry, "PAGES_OF_A_REGISTRATION", 1)
    named = [{"workflow": "flow"}] * 5 + [{"workflow": "flow", "version": "1.0"}] * 5 + [{"workflow": "flow", "pool": "main"}] * 5
    started = (await api.post("/api/v1/runs:batch", {"runs": named})).json()["runs"]
    worker = await FakeWorker(api, "w1").register()
    assert 0 < await db.fetchval("select count(*) from runs where version is not null and pool is not null") < 15

    async def all_assigned():
        return await db.fetchval("select count(*) from runs where version is not null and pool is not null") == 15

    await until(all_assigned)
    assert engine.registry.rescued == 0  # a registration asked for it
    assert {run["id"] for run in await worker.claim(limit=50)} == {run["id"] for run in started}
