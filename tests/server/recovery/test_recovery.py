"""What goes wrong is put right: S16, L18, L22, S33, S36, S38."""

from __future__ import annotations

import asyncio

from redis.asyncio.client import Pipeline
from redis.exceptions import ResponseError

from aiki_server.engine.redis import pipelined
from aiki_server.engine.redis.circuit import Circuit
from aiki_server.engine.redis.consumers import Consumers
from support.fake_worker import FakeWorker
from support.runs import has_status, run_of
from support.waiting import until

CALL = {"k": "call", "c": 0, "a": "task:charge:1"}


async def test_a_silent_worker_loses_its_runs_and_a_live_one_keeps_them(api, worker):
    lively = await FakeWorker(api, "w2").register()
    lost, kept = await worker.start_and_claim(), await lively.start_and_claim()

    async def lost_is_queued():
        assert (await lively.heartbeat())["known"]
        return await has_status(api, lost, "queued")

    await until(lost_is_queued, seconds=12)
    assert await worker.outcome(worker.op(lost, CALL)) == "stale"
    assert await lively.outcome(lively.op(kept, CALL)) == "ok"
    assert (await worker.heartbeat())["known"] is False
    (claimed,) = await lively.claim(lost)
    assert (claimed["epoch"], claimed["deliveries"]) == (3, 2)


async def test_a_worker_reported_dead_loses_its_runs_at_once(api, worker):
    run = await worker.start_and_claim()
    assert (await api.post("/api/v1/workers/w1/lost")).json() == {"runs": 1}
    assert (await run_of(api, run))["status"] == "queued"
    assert (await api.post("/api/v1/workers/w1/lost")).status == 404


async def test_a_pod_reported_dead_takes_all_its_workers_with_it(api):
    workers = [await FakeWorker(api, f"w{number}").register(pod="pod-1") for number in range(2)]
    for worker in workers:
        await worker.start_and_claim()
    assert (await api.post("/api/v1/pods/pod-1/lost")).json() == {"runs": 2}


async def test_a_worker_that_stops_hands_its_runs_back_for_free(api, worker):
    run = await worker.start_and_claim()
    assert (await api.post("/api/v1/worker/deregister", {"worker": "w1"})).status == 204
    second = await FakeWorker(api, "w2").register()
    (claimed,) = await second.claim(run)
    assert claimed["deliveries"] == 1


async def test_a_pause_outlives_the_worker(api, worker):
    run = await worker.start_and_claim()
    await api.post(f"/api/v1/runs/{run}/pause")
    await api.post("/api/v1/workers/w1/lost")
    assert await has_status(api, run, "paused")


async def test_ten_deliveries_without_progress_are_the_last(api, worker):
    run = (await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"]
    for delivery in range(10):
        worker = await FakeWorker(api, f"w{delivery}").register()
        assert [claimed["deliveries"] for claimed in await worker.claim(run)] == [delivery + 1]
        await api.post(f"/api/v1/workers/w{delivery}/lost")
    worker = await FakeWorker(api, "last").register()
    assert await worker.claim(run) == []
    ended = await run_of(api, run)
    assert (ended["status"], ended["error"]["type"]) == ("failed", "poisoned")


async def test_progress_forgives_deliveries(api, worker):
    run = await worker.start_and_claim()
    await worker.commit(worker.op(run, CALL))
    await api.post("/api/v1/workers/w1/lost")
    await worker.register()
    (claimed,) = await worker.claim(run)
    assert claimed["deliveries"] == 1


async def test_streams_that_lost_everything_are_refilled(api, worker, redis):
    runs = {(await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"].encode() for _ in range(3)}
    key = "aiki:{default:main}:flow:1.0"

    async def rung():
        return {fields[b"r"] for _, fields in await redis.xrange(key)}

    await until(lambda: same(rung, runs))
    await redis.flushdb()
    await until(lambda: same(rung, runs), seconds=12)


async def test_consumers_of_workers_that_are_gone_are_forgotten_unless_they_left_something(api, worker, redis):
    key = "aiki:{default:main}:flow:1.0"
    await redis.xgroup_create(key, "workers", id="0", mkstream=True)
    await redis.xgroup_createconsumer(key, "workers", "gone")
    await api.post("/api/v1/runs", {"workflow": "flow"})
    await until(lambda: redis.xlen(key))
    assert await redis.xreadgroup("workers", "left-one", {key: ">"}, count=1)
    consumers = Consumers(Circuit(redis, restored=lambda: None), streams=lambda: [key, "aiki:{default:main}:none:1.0"])
    assert await consumers.forget_silent(60) == 0
    assert await consumers.forget_silent(0) == 1
    assert [consumer["name"] for consumer in await redis.xinfo_consumers(key, "workers")] == [b"left-one"]


async def test_thousands_of_streams_are_asked_about_some_at_a_time(redis, monkeypatch):
    """Those of a namespace that registered all it may held the loop for a tenth of a second, every minute."""
    monkeypatch.setattr(pipelined, "AT_ONCE", 3)
    keys = [f"aiki:{{default:main}}:flow:{number}.0" for number in range(8)]
    for key in keys[:7]:
        await redis.xgroup_create(key, "workers", id="0", mkstream=True)
        await redis.xgroup_createconsumer(key, "workers", "gone")
    here = [*keys]
    consumers = Consumers(Circuit(redis, restored=lambda: None), streams=lambda: here)
    sizes, execute = [], Pipeline.execute

    async def counted(self, *args, **named):
        sizes.append(len(self.command_stack))
        return await execute(self, *args, **named)

    monkeypatch.setattr(Pipeline, "execute", counted)
    assert await consumers.forget_silent(0) == 7
    assert await consumers.forget_streams() == 0
    here.clear()
    assert await consumers.forget_streams() == 8
    assert not await redis.exists(*keys)
    assert sizes == [3, 3, 2] * 2


async def test_what_redis_refuses_is_no_garbage(redis):
    """An error that keeps its traceback is a cycle with all other answers of its round."""
    await redis.set("a-string", "x")
    found = await pipelined.ask_all(redis, [("xlen", ("a-string",)), ("xlen", ("nothing",))])
    assert isinstance(found[0], ResponseError)
    assert (found[0].__traceback__, found[1]) == (None, 0)


async def test_streams_that_could_not_be_deleted_go_later(redis):
    """S41: the server that was told to forget the build had no Redis then."""
    here = {"aiki:{default:main}:flow:1.0", "aiki:{default:main}:flow:1.0@old"}
    consumers = Consumers(Circuit(redis, restored=lambda: None), streams=lambda: sorted(here))
    for key in here:
        await redis.xgroup_create(key, "workers", id="0", mkstream=True)
    assert await consumers.forget_streams() == 0
    here.discard("aiki:{default:main}:flow:1.0@old")
    assert await consumers.forget_streams() == 1
    assert await redis.keys() == [b"aiki:{default:main}:flow:1.0"]


async def same(look, expected):
    return await look() == expected


async def test_without_redis_everything_goes_on(start_server):
    api = await start_server(redis_url="unix:///nowhere.sock")
    worker = await FakeWorker(api, "w1").register()
    run = (await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"]
    assert [claimed["id"] for claimed in await worker.claim()] == [run]
    waiting = asyncio.create_task(api.get(f"/api/v1/runs/{run}/result"))
    await worker.finish(run, 1)
    assert (await waiting).json()["output"] == 1
    assert (await api.get("/readyz")).status == 200
    assert b"aiki_redis_up 0.0" in (await api.get("/metrics")).body


async def test_old_runs_are_deleted_with_all_that_belongs_to_them(start_server, db):
    api = await start_server()
    worker = await FakeWorker(api, "w1").register()
    old, young, open_ = [await worker.start_and_claim() for _ in range(3)]
    for run in (old, young):
        await api.post(f"/api/v1/runs/{run}/events", {"name": "go"})
        await worker.finish(run)
    await db.execute("update runs set finished_at = now() - interval '3 days' where id = $1", old)
    await db.execute("update runs set created_at = now() - interval '9 days' where id = $1", open_)
    await start_server(retention_days=2.0)
    await until(lambda: is_gone(api, old))
    assert {run["id"] for run in (await api.get("/api/v1/runs")).json()["runs"]} == {young, open_}
    for table in ("history", "inbox"):
        assert await db.fetchval(f"select count(*) from {table} where run_id = $1", old) == 0


async def is_gone(api, run):
    return (await api.get(f"/api/v1/runs/{run}")).status == 404


async def test_a_database_that_goes_away_is_survived(api, worker, db):
    run = await worker.start_and_claim()
    await db.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'aiki'")
    await worker.finish(run, 1)
    assert (await run_of(api, run))["output"] == 1


async def test_a_worker_that_registers_again_has_dropped_its_runs(api, worker):
    run = await worker.start_and_claim()
    await worker.register()
    (claimed,) = await worker.claim(run)
    assert claimed["epoch"] == 3


async def test_a_server_that_is_about_to_end_lets_nobody_wait(api, worker):
    run = await worker.start_and_claim()
    waiting = [asyncio.create_task(api.get(f"/api/v1/runs/{run}/result")), asyncio.create_task(api.get("/api/v1/pools/wake"))]
    await until(lambda: is_waited_for(api))
    api.app.drain()
    assert [(await wait).status for wait in waiting] == [202, 200]
    assert (await api.get("/readyz")).status == 503
    assert (await api.get(f"/api/v1/runs/{run}/result")).status == 202


async def is_waited_for(api):
    return b"aiki_result_waiters 1.0" in (await api.get("/metrics")).body


async def test_a_run_that_stops_each_time_it_is_retried_is_not_taken_for_one_that_kills_its_workers(api, worker):
    """An event that does not fit, or a divergence, pauses its run however often somebody retries it before the code is mended."""
    run = await worker.start_and_claim()
    stop = {"type": "PayloadError", "message": "does not fit", "stack": None, "retryable": False}
    for _ in range(12):
        assert await worker.outcome(worker.op(run, stop=stop)) == "parked"
        assert await has_status(api, run, "paused")
        assert (await api.post(f"/api/v1/runs/{run}/retry")).status == 200
        assert [claimed["deliveries"] for claimed in await worker.claim(run)] == [1]
