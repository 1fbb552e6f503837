"""One namespace cannot take what the others need: its share is bounded, what is beyond is answered 429, and nothing of it is kept."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from aiki.protocol import MAX_OPEN_EVENT_BYTES, MAX_PAYLOAD_BYTES
from aiki_server.api.fairness.quotas import AT_A_TIME, MOST_WAITING, Quotas
from aiki_server.api.http.errors import ApiError
from aiki_server.settings import Limits
from aiki_server.store.connections import connect
from support.fake_worker import FakeWorker

RUNS = "/api/v1/runs"
KIND = "urn:aiki:too-many-requests"


def refused(reply):
    return (reply.status, reply.json()["type"], int(reply.headers["retry-after"]) > 0) == (429, KIND, True)


async def test_requests_beyond_the_rate_are_refused_and_those_of_others_are_not(start_server):
    api = await start_server(limits=Limits(requests_per_second=0.001))
    one, other = Quotas(Limits(requests_per_second=5.0)), api.as_("other-token")
    for _ in range(10):
        one.admit("default")
    with pytest.raises(ApiError):
        one.admit("default")
    one.admit("other")
    replies = [await api.get(RUNS), await other.get(RUNS)]
    assert all(map(refused, replies))
    assert (await api.post("/api/v1/worker/heartbeat", {"worker": "w1", "active": 0})).status == 200
    assert (await api.as_(None).get("/livez")).status == 200


async def test_workers_and_versions_have_a_number(start_server):
    api = await start_server(limits=Limits(workers=2, registrations=5))
    first = await FakeWorker(api, "w1").register()
    await FakeWorker(api, "w2").register()
    body = {"pool": "main", "concurrency": 1, "workflows": [{"workflow": "flow", "version": "1.0"}]}
    assert refused(await api.post("/api/v1/worker/register", {"worker": "w3"} | body))
    await first.register()
    await FakeWorker(api.as_("other-token"), "w3").register()
    await api.post("/api/v1/worker/deregister", {"worker": "w2"})
    many = [{"workflow": f"flow{number}", "version": "1.0"} for number in range(6)]
    for worker in ("w1", "w3"):  # one that is known has no more room than another
        assert refused(await api.post("/api/v1/worker/register", {"worker": worker} | body | {"workflows": many}))
    await first.register()


async def test_pools_with_settings_have_a_number(start_server):
    api = await start_server(limits=Limits(registrations=2))
    for pool in ("a", "b", "b"):
        assert (await api.request("PUT", f"/api/v1/pools/{pool}", value={"versioning": "Pinned"})).status == 200
    assert refused(await api.request("PUT", "/api/v1/pools/c", value={"versioning": "Pinned"}))
    assert (await api.as_("other-token").request("PUT", "/api/v1/pools/c", value={"versioning": "Pinned"})).status == 200


async def test_open_runs_have_a_number(start_server, db):
    api = await start_server(limits=Limits(open_runs=3))
    assert (await api.post("/api/v1/runs:batch", {"runs": [{"workflow": "flow"}] * 2})).status == 201
    assert refused(await api.post("/api/v1/runs:batch", {"runs": [{"workflow": "flow"}] * 2}))
    assert (await api.post(RUNS, {"workflow": "flow"})).status == 201
    assert refused(await api.post(RUNS, {"workflow": "flow"}))
    assert (await api.as_("other-token").post(RUNS, {"workflow": "flow"})).status == 201
    assert await db.fetchval("select count(*) from runs where namespace = 'default'") == 3


async def test_events_that_nobody_consumes_have_a_size(api, worker, db):
    run = await worker.start_and_claim()
    payload = '"' + "x" * (MAX_PAYLOAD_BYTES - 2) + '"'
    await db.execute(
        "insert into inbox (run_id, seq, kind, name, payload) select $1, n, 'event', 'go', $2 from generate_series(1, $3::int) n",
        run, payload, MAX_OPEN_EVENT_BYTES // MAX_PAYLOAD_BYTES,
    )  # fmt: skip
    await db.execute("update runs set inbox_seq = $1", MAX_OPEN_EVENT_BYTES // MAX_PAYLOAD_BYTES)
    reply = await api.post(f"{RUNS}/{run}/events", f'{{"name":"go","payload":{payload}}}'.encode())
    assert (reply.status, reply.json()["type"]) == (429, "urn:aiki:too-many-events")
    assert (await api.as_("other-token").post(f"{RUNS}/{run}/events", f'{{"name":"go","payload":{payload}}}'.encode())).status == 404


async def test_bytes_under_way_have_a_bound():
    quotas = Quotas(Limits(namespace_bytes=100, server_bytes=150))
    quotas.hold("a", 500)  # one may be larger than all that is allowed, alone
    with pytest.raises(ApiError):
        quotas.hold("a", 1)
    with pytest.raises(ApiError):
        quotas.hold("b", 1)
    quotas.drop("a", 500)
    quotas.hold("a", 90)
    quotas.hold("b", 60)
    with pytest.raises(ApiError):
        quotas.hold("b", 1)
    assert quotas.bytes == 150


async def test_large_answers_wait_for_room(start_server):
    api = await start_server(limits=Limits(namespace_bytes=1_000_000))
    run = (await api.post(RUNS, f'{{"workflow":"flow","input":"{"x" * 400_000}"}}'.encode())).json()["id"]
    replies = await asyncio.gather(*(api.get(f"{RUNS}/{run}") for _ in range(5)))
    assert {reply.status for reply in replies} <= {200, 429}
    assert (await api.get(f"{RUNS}/{run}")).status == 200


async def test_listings_of_a_namespace_take_turns():
    quotas, under_way, most = Quotas(Limits()), 0, 0
    go = asyncio.Event()

    async def look():
        nonlocal under_way, most
        async with quotas.listing("a"):
            under_way += 1
            most = max(most, under_way)
            await go.wait()
            under_way -= 1

    looking = [asyncio.create_task(look()) for _ in range(MOST_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(ApiError):
        await look()
    async with quotas.listing("b"):
        go.set()
    await asyncio.gather(*looking)
    assert most == AT_A_TIME


async def test_a_statement_that_takes_too_long_costs_nobody_a_connection(database_url):
    pool = await connect(database_url, size=2, statement_seconds=1)
    try:
        async with pool.acquire() as db:
            before = await db.fetchval("select pg_backend_pid()")
            with pytest.raises(asyncpg.QueryCanceledError):
                await _slow(pool)
        async with pool.acquire() as db:
            assert await db.fetchval("select pg_backend_pid()") == before
    finally:
        pool.close()


async def _slow(pool):
    async with pool.acquire() as db:
        await db.execute("select pg_sleep(20)")
