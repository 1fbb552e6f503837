"""Runs that are started while the only worker that carries them registers: they are assigned at once, and not found by a sweep. L18, L40."""

from __future__ import annotations

import asyncpg
import pytest

from aiki_server.engine.workers import registry as engine_registry
from aiki_server.settings import Settings
from aiki_server.store.queries import lanes, registry, starts
from support.fake_worker import FakeWorker
from support.waiting import until

CALL = {"k": "call", "c": 0, "a": "child:later:1"}
STARTS = {
    "alone": ("/runs", {"workflow": "later"}),
    "with a pool": ("/runs", {"workflow": "later", "pool": "main"}),
    "with a version": ("/runs", {"workflow": "later", "version": "1.0"}),
    "in a batch": ("/runs:batch", {"runs": [{"workflow": "later"}]}),
    "for later": ("/runs", {"workflow": "later", "start_at": "2999-01-01T00:00:00Z"}),
}


@pytest.fixture
def settings(unaided: Settings) -> Settings:
    return unaided


async def placed(db):
    return [tuple(row) for row in await db.fetch("select pool, version from runs where workflow = 'later'")] == [("main", "1.0")]


def beside(monkeypatch, module, name, register):
    """The function writes after somebody has registered, who looked for runs before."""
    write = getattr(module, name)

    async def late(*arguments, **options):
        monkeypatch.setattr(module, name, write)
        await register()
        return await write(*arguments, **options)

    monkeypatch.setattr(module, name, late)


@pytest.mark.parametrize("how", STARTS)
async def test_a_run_that_is_written_after_its_worker_has_looked_is_assigned(api, db, engine, worker, monkeypatch, how):
    beside(monkeypatch, starts, "insert", lambda: FakeWorker(api, "w2").register(("later", "1.0")))
    path, body = STARTS[how]
    assert (await api.post(f"/api/v1{path}", body)).status == 201
    await until(lambda: placed(db))
    assert engine.registry.rescued == 0


async def test_a_child_that_is_written_after_its_worker_has_looked_is_assigned(api, db, engine, worker, monkeypatch):
    run = await worker.start_and_claim()
    beside(monkeypatch, lanes, "write", lambda: FakeWorker(api, "w2").register(("later", "1.0")))
    await worker.commit(worker.op(run, CALL, children=[{"id": f"{7:032x}", "workflow": "later", "input": "1"}]))
    await until(lambda: placed(db))
    assert engine.registry.rescued == 0


async def test_a_worker_that_looks_after_the_run_was_written_assigns_it(api, db, engine, worker, monkeypatch):
    """And where it is shown to starts before it looks."""
    unassigned = registry.unassigned

    async def after_a_start(*arguments):
        monkeypatch.setattr(registry, "unassigned", unassigned)
        await api.post("/api/v1/runs", {"workflow": "later"})
        return await unassigned(*arguments)

    monkeypatch.setattr(registry, "unassigned", after_a_start)
    await FakeWorker(api, "w2").register(("later", "1.0"))
    assert await placed(db)


async def test_another_server_tells_of_the_registration(api, db, engine, worker, start_server, monkeypatch):
    """It has looked for runs before, and the server of the start has not heard of it when the run is written."""
    replica = await start_server()
    beside(monkeypatch, starts, "insert", lambda: FakeWorker(replica, "w2").register(("later", "1.0")))
    await api.post("/api/v1/runs", {"workflow": "later"})
    await until(lambda: placed(db))
    assert engine.registry.rescued == 0


async def test_another_namespaces_worker_assigns_nothing(api, other, db, engine, worker, monkeypatch):
    beside(monkeypatch, starts, "insert", lambda: FakeWorker(other, "w2").register(("later", "1.0")))
    await api.post("/api/v1/runs", {"workflow": "later"})
    assert not engine.registry.serves_waiting()
    assert not await placed(db)
    await FakeWorker(api, "w2").register(("later", "1.0"))
    assert await placed(db)


async def test_what_is_remembered_of_runs_that_nobody_serves_is_bounded(api, engine, monkeypatch):
    monkeypatch.setattr(engine_registry, "MOST_WAITING", 10)
    await api.post("/api/v1/runs:batch", {"runs": [{"workflow": f"never{number}"} for number in range(50)]})
    assert len(engine.registry._waiting) == 10


async def test_a_start_whose_answer_from_the_database_was_lost_is_rung(api, redis, worker, monkeypatch):
    """The connection went after the commit: the repetition finds the run, and nobody else has told of it."""
    insert = starts.insert

    async def and_lose(db, runs):
        monkeypatch.setattr(starts, "insert", insert)
        await insert(db, runs)
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    monkeypatch.setattr(starts, "insert", and_lose)
    reply = await api.post("/api/v1/runs", {"workflow": "flow"})
    assert (reply.status, reply.json()["created"]) == (201, True)

    async def rung():
        entries = await redis.xrange("aiki:{default:main}:flow:1.0")
        return [fields[b"r"].decode() for _, fields in entries] == [reply.json()["id"]]

    await until(rung)
