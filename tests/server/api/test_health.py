"""Whether the server says the truth about itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiki_server.engine.service import NotMigratedError
from aiki_server.local.postgres import Postgres
from aiki_server.store.connections import OldDatabaseError, UnsafeDatabaseError, check_version
from support.fake_worker import FakeWorker
from support.waiting import until


async def test_a_healthy_server_is_live_and_ready(api):
    nobody = api.as_(None)
    assert (await nobody.get("/livez")).status == 200
    assert (await nobody.get("/readyz")).status == 200


async def test_metrics_count_runs_batches_and_loops(api, worker):
    await worker.start_and_claim()
    body = (await api.get("/metrics")).body.decode()
    for line in (
        'aiki_runs{namespace="default",status="running"} 1.0',
        'aiki_loop_healthy{loop="timers"} 1.0',
        "aiki_redis_up 1.0",
        'aiki_batch_items_total{batcher="starts"} 1.0',
    ):
        assert line in body


async def test_metrics_need_a_token_and_name_no_other_namespace(start_server):
    api = await start_server(metrics_token="look")
    await FakeWorker(api.as_("other-token"), "w1").register()
    await (await FakeWorker(api, "w1").register()).start_and_claim()
    statuses = [(await api.as_(token).get("/metrics")).status for token in (None, "", "wrong", "token", "other-token", "look")]
    assert statuses == [401, 401, 401, 200, 200, 200]
    own, others, all_ = [(await api.as_(token).get("/metrics")).body.decode() for token in ("token", "other-token", "look")]
    assert 'aiki_runs{namespace="default",status="running"} 1.0' in own
    assert 'namespace="other"' not in own
    assert 'namespace="default"' not in others
    assert 'aiki_workers{namespace="other",pool="main"} 1.0' in others
    assert 'aiki_workers{namespace="other",pool="main"} 1.0' in all_
    assert 'aiki_runs{namespace="default",status="running"} 1.0' in all_
    assert (await api.as_("look").get("/api/v1/runs")).status == 401


async def test_open_runs_are_counted_once_however_many_ask(start_server, monkeypatch):
    counted = []

    async def counts(db):
        counted.append(db)
        return []

    monkeypatch.setattr("aiki_server.store.queries.runs.counts", counts)
    api = await start_server()
    replies = await asyncio.gather(*(api.get("/metrics") for _ in range(50)))
    assert [reply.status for reply in replies] == [200] * 50
    assert len(counted) == 1


async def test_nobodys_start_waits_for_very_many_who_ask_for_figures(start_server, monkeypatch):
    """Hole 8: they wait together for one count on one connection, and starts need none of those."""
    counting, let_go, counted = asyncio.Event(), asyncio.Event(), []

    async def slowly(db):
        counted.append(db)
        counting.set()
        await let_go.wait()
        return []

    monkeypatch.setattr("aiki_server.store.queries.runs.counts", slowly)
    monkeypatch.setattr("aiki_server.api.health.health.PATIENCE", 60.0)
    api = await start_server(metrics_token="look")
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        scrapes = [
            group.create_task(api.as_(token).get("/metrics")) for token in ("token", "look") * 45
        ]  # the client has a hundred connections
        await counting.wait()
        assert (await api.as_("other-token").post("/api/v1/runs", {"workflow": "flow"})).status == 201
        assert not any(scrape.done() for scrape in scrapes)
        let_go.set()
    assert {scrape.result().status for scrape in scrapes} == {200}
    assert len(counted) == 1


async def test_who_waited_for_a_count_that_failed_waits_for_no_other(start_server, monkeypatch):
    asked = []

    async def refused(db):
        asked.append(db)
        raise TimeoutError

    monkeypatch.setattr("aiki_server.store.queries.runs.counts", refused)
    api = await start_server()
    replies = await asyncio.gather(*(api.get("/metrics") for _ in range(20)))
    assert [reply.status for reply in replies] == [200] * 20
    assert len(asked) == 1


async def test_whoever_asks_at_once_is_told_the_same_and_later_ones_what_is_new(api, monkeypatch):
    told = []

    def written(registry):
        told.append(registry)
        return b"%d" % len(told)

    monkeypatch.setattr("aiki_server.api.health.health.generate_latest", written)
    await api.get("/metrics")
    together = await asyncio.gather(*(api.get("/metrics") for _ in range(50)))
    assert {reply.body for reply in together} == {b"2"}
    assert (await api.get("/metrics")).body == b"3"


async def test_a_server_without_its_migrations_does_not_start(start_server, db):
    await db.execute("update migrations set number = number + 1000")
    try:
        with pytest.raises(NotMigratedError):
            await start_server()
    finally:
        await db.execute("update migrations set number = number - 1000")


async def test_a_database_that_forgets_is_refused(start_server):
    with pytest.raises(UnsafeDatabaseError, match="fsync"):
        await start_server(unsafe_database=False)


async def test_a_lost_database_makes_unready_and_comes_back(start_server, tmp_path_factory):
    postgres = Postgres(tmp_path_factory.mktemp("own"), settings={"fsync": "off"})
    postgres.start()
    try:
        api = await start_server(database_url=postgres.url, migrate=True)
        worker = await FakeWorker(api, "w1").register()
        postgres.kill()
        assert (await api.get("/readyz")).status == 503
        assert (await api.get("/livez")).status == 200
        assert b"aiki_database_up 0.0" in (await api.get("/metrics")).body
        postgres.start()

        async def ready():
            return (await api.get("/readyz")).status == 200

        await until(ready)
        await worker.start_and_claim()
    finally:
        postgres.stop()


async def test_metrics_count_the_open_runs_of_every_state(api, worker):
    later = {"workflow": "flow", "start_at": "2999-01-01T00:00:00Z"}
    runs = [(await api.post("/api/v1/runs", start)).json()["id"] for start in (later, *[{"workflow": "flow"}] * 4)]
    await api.post(f"/api/v1/runs/{runs[2]}/pause")
    await worker.claim(runs[3], runs[4])
    await worker.commit(worker.parking(runs[4], events=["go"]))
    body = (await api.get("/metrics")).body.decode()
    for status in ("scheduled", "queued", "paused", "running", "waiting"):
        assert f'aiki_runs{{namespace="default",status="{status}"}} 1.0' in body


@pytest.mark.parametrize(("version", "good"), [(130022, False), (140000, True), (180001, True), (90624, False)])
async def test_a_database_that_is_too_old_is_refused_in_words(version, good):
    class Some:
        """We have no old Postgres to ask."""

        async def fetchval(self, _: str) -> str:
            return str(version)

    asked: Any = Some()
    if good:
        await check_version(asked)
        return
    with pytest.raises(OldDatabaseError, match="needs Postgres 14 or newer"):
        await check_version(asked)
