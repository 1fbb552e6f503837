"""Data that were restored begin a new incarnation: nothing that was given out before is current any more (S7, S8, S37)."""

from __future__ import annotations

import asyncio
import shutil

import asyncpg
import pytest

from aiki_server import main
from aiki_server.local.postgres import Postgres
from aiki_server.store import migrate
from aiki_server.store.incarnations import LEAST_RISE, Incarnations
from support.fake_worker import FakeWorker
from support.waiting import until

SECONDS = 20.0


@pytest.fixture
async def url(own_database):
    """A migrated database that only this test has: it is restored."""
    await migrate.migrate(own_database)
    return own_database


@pytest.fixture
async def data(url):
    """A look into it."""
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


async def put_elsewhere(data):
    """What a restore amounts to: the data say that they are in another place, and all connections are new."""
    await data.execute("update incarnations set place = 'where they were'")
    await data.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    )


async def number(data):
    return await data.fetchval("select max(number) from incarnations")


async def in_incarnation(data, wanted):
    async def there():
        return await number(data) == wanted

    await until(there, seconds=SECONDS)


async def registered_anew(worker):
    """Register once the server has found out that the worker is not known."""

    async def unknown():
        return (await worker.api.post("/api/v1/worker/claim", {"worker": worker.name})).status == 409

    await until(unknown, seconds=SECONDS)
    return await worker.register()


async def test_a_live_worker_of_before_is_refused_and_told_why(url, data, start_server):
    api = await start_server(database_url=url)
    worker = await FakeWorker(api, "w1").register()
    run = await worker.start_and_claim()
    held = dict(worker.epochs)
    await put_elsewhere(data)
    await in_incarnation(data, 2)
    assert await worker.outcome(worker.finishing(run)) == "stale"
    assert not (await worker.heartbeat())["known"]
    reply = await api.post("/api/v1/worker/claim", {"worker": "w1"})
    assert (reply.status, reply.json()["type"]) == (409, "urn:aiki:unknown-worker")
    assert "register it. The database was last restored at 20" in reply.json()["detail"]
    await worker.register()

    async def claimed():
        return await worker.claim(run)

    await until(claimed, seconds=SECONDS)  # the sweep that hands it back follows the restore
    assert worker.epochs[run] > held[run] + LEAST_RISE
    assert await worker.outcome(worker.finishing(run)) == "ok"


async def test_every_open_run_rises_whatever_its_state(url, data, start_server):
    api = await start_server(database_url=url)
    worker = await FakeWorker(api, "w1").register()
    ended, parked, queued = [await worker.start_and_claim() for _ in range(3)]
    await worker.commit(worker.finishing(ended), worker.parking(parked, events=["go"]), worker.op(queued, {"k": "queued", "at": 1}))
    before = {row["id"].hex: row["epoch"] for row in await data.fetch("select id, epoch from runs")}
    await put_elsewhere(data)
    await in_incarnation(data, 2)
    after = {row["id"].hex: row["epoch"] for row in await data.fetch("select id, epoch from runs")}
    assert {run for run in before if after[run] - before[run] >= LEAST_RISE} == {parked, queued}
    assert after[ended] == before[ended]


async def test_a_child_that_is_born_again_under_its_id_is_not_the_one_of_before(url, data, start_server):
    """A worker that held it and is slow must not write it, though it was lost and has no epoch that could rise."""
    api = await start_server(database_url=url)
    worker = await FakeWorker(api, "w1").register()
    parent = await worker.start_and_claim()
    born = "00" + "ab" * 15
    child = {"id": born, "workflow": "flow", "version": "1.0", "pool": None, "input": "1", "on_parent_close": "cancel"}
    await worker.commit(worker.op(parent, children=[child]))
    assert [run["id"] for run in await worker.claim(born)] == [born]
    late = worker.finishing(born, "of before")
    await data.execute("delete from runs where id = $1", born)  # it was born after the point
    await data.execute(
        "update runs set status = 'queued', worker = null, history_len = 0, has_children = false, commit_no = 0 where id = $1", parent
    )
    await put_elsewhere(data)
    await in_incarnation(data, 2)
    await registered_anew(worker)
    await worker.claim(parent)
    await worker.commit(worker.op(parent, children=[child]))
    assert [run["id"] for run in await worker.claim(born)] == [born]
    assert await worker.outcome(late) == "stale"


async def test_redis_is_rebuilt(url, data, start_server, redis):
    """Ids of runs that are no more would hide that those of others are missing."""
    api = await start_server(database_url=url)
    worker = await FakeWorker(api, "w1").register()
    (stream,) = worker.registered["assignment"]["streams"]
    queued = (await api.post("/api/v1/runs", {"workflow": "flow", "input": 1})).json()["id"]

    async def rung():
        return [fields[b"r"].decode() for _, fields in await redis.xrange(stream)] == [queued]

    await until(rung)
    await data.execute("update runs set updated_at = now() - interval '1 minute'")
    await redis.delete(stream)
    await redis.xadd(stream, {"r": "0" * 32})  # of a run of after the point; as many as there are queued
    await put_elsewhere(data)
    await until(rung, seconds=SECONDS)
    assert await data.fetchval("select redis_rebuilt_at is not null from incarnations where number = 2")


async def test_two_servers_fence_once_and_both_forget(url, data, start_server):
    one, two = await start_server(database_url=url), await start_server(database_url=url)
    worker = await FakeWorker(one, "w1").register()
    await put_elsewhere(data)
    for api in (one, two):
        await registered_anew(FakeWorker(api, "w1"))
    assert await number(data) == 2
    await worker.register()
    run = await worker.start_and_claim()
    assert await worker.outcome(worker.finishing(run)) == "ok"


async def test_data_that_say_less_than_a_server_has_seen_were_put_back(tmp_path, start_server):
    """A copy of the files in place of the data has the same cluster, database and timeline."""
    postgres = Postgres(tmp_path / "postgres")
    postgres.start()
    url = postgres.url
    await migrate.migrate(url)
    copy, data = postgres.home / "copy", postgres.data
    postgres.stop()
    shutil.copytree(data, copy)
    for path in (copy, *copy.rglob("*")):
        shutil.chown(path, data.stat().st_uid, data.stat().st_gid)
    postgres.start()
    api = await start_server(database_url=url)
    worker = await FakeWorker(api, "w1").register()
    lost = await worker.start_and_claim()

    async def looked():
        connection = await asyncpg.connect(url)
        beat = await connection.fetchval("select beat from incarnations")
        await connection.close()
        return beat > 1

    await until(looked, seconds=SECONDS)
    for again in (2, 3):  # a second time from the same copy
        postgres.stop()
        shutil.rmtree(data)
        shutil.copytree(copy, data)
        for path in (data, *data.rglob("*")):
            shutil.chown(path, copy.stat().st_uid, copy.stat().st_gid)
        postgres.start()
        connection = await asyncpg.connect(url)
        await in_incarnation(connection, again)
        await connection.close()
        await registered_anew(worker)
        assert await worker.outcome(worker.finishing(lost)) in ("stale", "missing")
    postgres.stop()


async def test_somebody_may_say_that_the_data_were_restored(url, data, start_server, monkeypatch):
    api = await start_server(database_url=url)
    worker = await FakeWorker(api, "w1").register()
    run = await worker.start_and_claim()
    monkeypatch.setenv("AIKI_DATABASE_URL", url)
    assert await asyncio.to_thread(main.main, ["restored"]) == 0
    assert await number(data) == 2
    assert await worker.outcome(worker.finishing(run)) == "stale"
    await registered_anew(worker)


async def test_a_copy_of_the_database_is_another_incarnation(url, data, postgres, unique):
    """As by pg_dump and pg_restore, or by `create database … template`."""
    await data.close()
    connection = await asyncpg.connect(postgres.url)
    await connection.execute(f"create database {unique}_copy template {unique}")
    await connection.close()
    copied = await asyncpg.connect(postgres.url.replace("/postgres?", f"/{unique}_copy?"))
    assert await number(copied) == 1
    await migrate.migrate(postgres.url.replace("/postgres?", f"/{unique}_copy?"))
    assert await number(copied) == 2
    await copied.close()


async def test_a_server_that_starts_again_finds_the_same_incarnation(url, data, start_server):
    for _ in range(2):
        await (await start_server(database_url=url)).get("/readyz")
    assert await number(data) == 1


async def test_many_that_look_at_once_fence_once(url, data):
    await put_elsewhere(data)
    connections = [await asyncpg.connect(url) for _ in range(8)]
    await asyncio.gather(*(Incarnations().enter(connection) for connection in connections))
    assert await number(data) == 2
    for connection in connections:
        await connection.close()


async def test_whoever_owns_the_tables_may_look_and_fence(postgres, unique):
    """The server's role need not be a superuser."""
    connection = await asyncpg.connect(postgres.url)
    await connection.execute(f"create role {unique} login password 'of-a-test'")
    await connection.execute(f"create database {unique} owner {unique}")
    await connection.close()
    url = postgres.url.replace("/postgres?", f"/{unique}?").replace(postgres.url.split("@")[0], f"postgresql://{unique}:of-a-test")
    await migrate.migrate(url)
    await migrate.restored(url)
    connection = await asyncpg.connect(url)
    assert await number(connection) == 2
    await connection.close()


async def test_restored_data_of_two_releases_ahead_are_left_alone(url, data, start_server):
    await put_elsewhere(data)
    await data.execute("insert into migrations (number, release) values (9000, $1)", migrate.release() + 2)
    with pytest.raises(migrate.NewerDatabaseError):
        await start_server(database_url=url)
    assert await number(data) == 1
