"""Rings that a worker read and never claimed, for it went: others hear of those runs at once, not when the rings have lain for long. L22."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from aiki_server.engine.recovery import unclaimed
from aiki_server.settings import Settings
from support.fake_worker import FakeWorker
from support.waiting import until

STREAM = "aiki:{default:main}:flow:1.0"
OTHER_STREAM = "aiki:{other:main}:flow:1.0"


@pytest.fixture
def settings(unaided: Settings) -> Settings:
    return unaided


async def started(api, count=1, **more):
    return [(await api.post("/api/v1/runs", {"workflow": "flow"} | more)).json()["id"] for _ in range(count)]


async def read(redis: Redis, consumer: str, *, stream: str = STREAM) -> list[str]:
    """The runs of new entries; what others have read is not among them."""
    found: Any = await redis.xreadgroup("workers", consumer, {stream: ">"}, count=5_000)
    return [fields[b"r"].decode() for _, entries in found for _, fields in entries]


async def ready(redis: Redis, stream: str = STREAM) -> None:
    await redis.xgroup_create(stream, "workers", "0", mkstream=True)


def reads_all(redis, consumer, runs, stream=STREAM):
    heard: set[str] = set()

    async def condition():
        heard.update(await read(redis, consumer, stream=stream))
        return heard >= set(runs)

    return condition


LEAVES = {"lost": "/workers/w1/lost", "its pod lost": "/pods/pod-1/lost", "stopped": "/worker/deregister"}


@pytest.mark.parametrize("how", LEAVES)
async def test_what_a_worker_read_and_did_not_claim_is_rung_again_when_it_goes(api, redis, how):
    await ready(redis)
    await FakeWorker(api, "w1").register(pod="pod-1")
    await FakeWorker(api, "w2").register()
    runs = await started(api, 3)
    await until(reads_all(redis, "w1", runs))
    assert await read(redis, "w2") == []
    reply = await api.post(f"/api/v1{LEAVES[how]}", {"worker": "w1"} if how == "stopped" else None)
    assert reply.status in (200, 204)
    await until(reads_all(redis, "w2", runs))


async def test_what_it_reads_with_its_last_breath_is_rung_again_as_well(api, redis, engine, monkeypatch):
    """The pod was seen to die, and lived a moment longer."""
    look, looks = engine.sweeper.unclaimed.look, list[int]()

    async def counted():
        await look()
        looks.append(1)

    monkeypatch.setattr(engine.sweeper.unclaimed, "look", counted)
    await ready(redis)
    await FakeWorker(api, "w1").register()
    await FakeWorker(api, "w2").register()
    looks.clear()
    assert (await api.post("/api/v1/workers/w1/lost")).status == 200
    await until(lambda: found(looks))
    (run,) = await started(api)
    await until(reads_all(redis, "w1", [run]))
    await until(reads_all(redis, "w2", [run]))


async def found(what):
    return bool(what)


async def test_only_what_waits_still_is_rung_again(api, redis):
    await ready(redis)
    worker = await FakeWorker(api, "w1").register()
    other = await FakeWorker(api, "w2").register()
    taken, cancelled, left = await started(api, 3)
    await until(reads_all(redis, "w1", [taken, cancelled, left]))
    await other.claim(taken)
    await api.post(f"/api/v1/runs/{cancelled}/cancel", {"force": True})
    assert (await api.post("/api/v1/workers/w1/lost")).status == 200
    await until(reads_all(redis, "w2", [left]))
    names = {fields[b"r"].decode() for _, fields in await redis.xrange(STREAM)}
    rung_again = [fields[b"r"].decode() for _, fields in await redis.xrange(STREAM)][3:]
    assert names == {taken, cancelled, left}
    assert set(rung_again) == {left}
    assert worker is not other


async def test_a_worker_of_the_same_name_elsewhere_keeps_what_it_read(api, other, redis):
    await ready(redis)
    await ready(redis, OTHER_STREAM)
    await FakeWorker(api, "w1").register()
    await FakeWorker(api, "w2").register()
    await FakeWorker(other, "w1").register()
    (ours,), (theirs,) = await started(api), await started(other)
    await until(reads_all(redis, "w1", [ours]))
    await until(reads_all(redis, "w1", [theirs], OTHER_STREAM))
    assert (await api.post("/api/v1/workers/w1/lost")).status == 200
    await until(reads_all(redis, "w2", [ours]))
    assert await redis.xlen(OTHER_STREAM) == 1


async def test_what_a_worker_of_a_build_of_its_own_read_is_rung_in_its_stream(api, redis):
    await api.request("PUT", "/api/v1/pools/main", value={"versioning": "Pinned"})
    await FakeWorker(api, "w1", build="b1").register()
    await FakeWorker(api, "w2", build="b1").register()
    stream = f"{STREAM}@b1"
    await ready(redis, stream)
    (run,) = await started(api)
    await until(reads_all(redis, "w1", [run], stream))
    assert (await api.post("/api/v1/workers/w1/lost")).status == 200
    await until(reads_all(redis, "w2", [run], stream))


async def test_more_than_one_look_can_hold_is_rung_again(api, redis, monkeypatch):
    monkeypatch.setattr(unclaimed, "AT_ONCE", 2)
    await ready(redis)
    await FakeWorker(api, "w1").register()
    await FakeWorker(api, "w2").register()
    runs = await started(api, 7)
    await until(reads_all(redis, "w1", runs))
    assert (await api.post("/api/v1/workers/w1/lost")).status == 200
    await until(reads_all(redis, "w2", runs))


async def test_a_worker_that_never_read_leaves_no_consumer_behind(api, redis, engine):
    await ready(redis)
    await FakeWorker(api, "w1").register()
    assert (await api.post("/api/v1/workers/w1/lost")).status == 200
    await until(lambda: all_looked_at(engine))
    assert await redis.xinfo_consumers(STREAM, "workers") == []


async def all_looked_at(engine):
    return not engine.sweeper.unclaimed.departed


@pytest.mark.parametrize("what", ["nothing", "another type"])
async def test_streams_that_are_not_there_do_no_harm(api, redis, engine, what):
    await FakeWorker(api, "w1").register()
    if what == "another type":
        await redis.set(STREAM, "no stream")
    assert (await api.post("/api/v1/workers/w1/lost")).status == 200
    await until(lambda: all_looked_at(engine))
    assert engine.circuit.usable


async def test_without_redis_nothing_is_remembered(start_server):
    api = await start_server(redis_url=None)
    engine = api.app._drain.__self__.engine
    await FakeWorker(api, "w1").register()
    assert (await api.post("/api/v1/workers/w1/lost")).status == 200
    assert not engine.sweeper.unclaimed.departed
