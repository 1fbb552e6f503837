"""What the operator asks and does: loads, builds, wakes."""

from __future__ import annotations

import asyncio

import pytest

from support.fake_worker import FakeWorker
from support.waiting import until

CALL = {"k": "call", "c": 0, "a": "task:charge:1"}
PLAIN = "aiki:{default:main}:flow:1.0"


async def load_of(api, pool="main"):
    return (await api.get(f"/api/v1/pools/{pool}/load")).json()


async def builds_of(api, pool="main"):
    return {build["name"]: build for build in (await load_of(api, pool))["builds"]}


async def start(api, **members):
    return (await api.post("/api/v1/runs", {"workflow": "flow", **members})).json()


async def promote(api, build):
    assert (await api.post(f"/api/v1/pools/main/builds/{build}/promote")).status == 204


async def test_a_load_counts_what_there_is_to_do(api, worker):
    for _ in range(3):
        await start(api)
    waiting = await worker.start_and_claim()
    await worker.commit(worker.parking(waiting, CALL, due_at=worker.registered["now"] + 60_000_000))
    await worker.start_and_claim()
    await worker.heartbeat(active=1)

    async def told():
        load = await load_of(api)
        return load["stream_lag"] == 5 and load["arrivals_per_second"] > 0 and load["service_seconds"] is not None

    await until(told)
    load = await load_of(api)
    assert (load["queued"], load["running"], len(load["due_soon"]), load["builds"]) == (3, 1, 1, [])
    assert [(worker["id"], worker["active"], worker["concurrency"]) for worker in load["workers"]] == [("w1", 1, 10)]
    assert load["arrivals_per_second"] == pytest.approx(5 / 60)
    assert load["oldest_queued_at"] == (await load_of(api))["oldest_queued_at"] < load["now"]


async def test_without_redis_the_lag_is_unknown(start_server):
    api = await start_server(redis_url="unix:///nowhere.sock")
    await FakeWorker(api, "w1").register()
    load = await load_of(api)
    assert (load["stream_lag"], load["service_seconds"]) == (None, None)


async def test_all_pools_are_listed(api, worker):
    await FakeWorker(api, "w2", pool="second").register()
    await api.request("PUT", "/api/v1/pools/third", value={"versioning": "Pinned"})
    pools = (await api.get("/api/v1/pools/load")).json()["pools"]
    assert [(pool["pool"], pool["versioning"]) for pool in pools] == [("main", "ByVersion"), ("second", "ByVersion"), ("third", "Pinned")]


async def test_a_promoted_build_takes_over_what_it_carries(api):
    old = await FakeWorker(api, "old", build="b1").register(("flow", "1.0"), ("legacy", "1.0"))
    await promote(api, "b1")
    new = await FakeWorker(api, "new", build="b2").register(("flow", "1.0"))
    assert (await new.heartbeat())["assignment"]["streams"] == []
    await promote(api, "b2")
    assert (await new.heartbeat())["assignment"]["streams"] == [PLAIN]
    assert (await old.heartbeat())["assignment"]["streams"] == ["aiki:{default:main}:legacy:1.0"]
    builds = await builds_of(api)
    assert builds["b1"]["serves"] == [{"workflow": "legacy", "version": "1.0"}]
    assert len(builds["b1"]["carries"]) == 2


async def test_a_build_goes_when_no_open_run_needs_it(api):
    old = await FakeWorker(api, "old", build="b1").register(("flow", "1.0"))
    run = (await start(api))["id"]
    await FakeWorker(api, "new", build="b2").register(("flow", "2.0"))
    await promote(api, "b2")
    builds = await builds_of(api)
    assert (builds["b1"]["queued"], builds["b1"]["open_runs"], builds["b2"]["open_runs"]) == (1, 1, 0)
    assert (await api.request("DELETE", "/api/v1/pools/main/builds/b1")).status == 409
    await old.claim(run)
    assert (await builds_of(api))["b1"]["running"] == 1
    await old.finish(run)
    assert (await api.request("DELETE", "/api/v1/pools/main/builds/b1")).status == 204
    assert set(await builds_of(api)) == {"b2"}
    assert (await start(api))["version"] == "2.0"


async def test_streams_of_a_build_go_with_it(api, redis):
    """S41: a pinned pool has a stream for each build and workflow version."""
    await api.request("PUT", "/api/v1/pools/main", value={"versioning": "Pinned"})
    old = await FakeWorker(api, "old", build="b1").register()
    await promote(api, "b1")
    run = await old.start_and_claim()
    await until(lambda: redis.exists(f"{PLAIN}@b1"))
    await FakeWorker(api, "new", build="b2").register()
    await promote(api, "b2")
    await start(api)
    await until(lambda: redis.exists(f"{PLAIN}@b2"))
    await old.finish(run)
    assert (await api.request("DELETE", "/api/v1/pools/main/builds/b1")).status == 204
    assert [key for key in await redis.keys() if b"@b1" in key] == []
    assert await redis.exists(f"{PLAIN}@b2")


async def test_a_pinned_run_stays_on_its_build(api):
    await api.request("PUT", "/api/v1/pools/main", value={"versioning": "Pinned"})
    old = await FakeWorker(api, "old", build="b1").register()
    await promote(api, "b1")
    first = (await start(api))["id"]
    new = await FakeWorker(api, "new", build="b2").register()
    await promote(api, "b2")
    second = (await start(api))["id"]
    assert f"{PLAIN}@b1" in (await old.heartbeat())["assignment"]["streams"]
    assert await new.claim(first) == []
    assert [run["id"] for run in await new.claim()] == [second]
    assert [run["id"] for run in await old.claim()] == [first]
    builds = await builds_of(api)
    assert (builds["b1"]["open_runs"], builds["b2"]["open_runs"]) == (1, 1)
    assert (await api.get(f"/api/v1/runs/{first}")).json()["build"] == "b1"


async def test_workers_without_builds_serve_what_they_carry(api):
    one = await FakeWorker(api, "one").register(("a", "1"))
    two = await FakeWorker(api, "two").register(("b", "1"))
    assert one.registered["assignment"]["streams"] == ["aiki:{default:main}:a:1"]
    assert two.registered["assignment"]["streams"] == ["aiki:{default:main}:b:1"]


async def test_work_for_a_full_pool_wakes_whoever_waits(api, start_server):
    replica = await start_server()
    worker = await FakeWorker(api, "w1", concurrency=1).register()
    await worker.heartbeat(active=1)
    waiting = [asyncio.create_task(server.get("/api/v1/pools/wake", timeout=10)) for server in (api, replica)]

    async def registry_knows():
        return (await load_of(api))["workers"][0]["active"] == 1

    await until(registry_knows)
    await start(api)
    assert [(await wait).json() for wait in waiting] == [{"pools": ["main"]}] * 2


async def test_workers_and_workflows_are_listed(api, worker):
    await FakeWorker(api, "w2", build="b1", pool="second").register(("flow", "1.0"), ("flow", "2.0"), pod="pod-1")
    workers = (await api.get("/api/v1/workers")).json()["workers"]
    assert [(one["id"], one["build"], one["pod"]) for one in workers] == [("w1", None, None), ("w2", "b1", "pod-1")]
    workflows = (await api.get("/api/v1/workflows")).json()["workflows"]
    assert [(one["version"], one["pool"], one["builds"], one["workers"]) for one in workflows] == [
        ("1.0", "main", [], 1),
        ("1.0", "second", ["b1"], 1),
        ("2.0", "second", ["b1"], 1),
    ]


async def test_many_workers_register_at_once(api):
    """Readings of the registry overlap; one that began earlier must not hide a worker that a later one has shown."""
    workers = [FakeWorker(api, f"w-{number}", pool=f"pool-{number}") for number in range(40)]
    await asyncio.gather(*(worker.register() for worker in workers))
    assert all(worker.registered["assignment"]["streams"] for worker in workers)


async def test_a_stream_that_redis_cannot_read_makes_the_lag_unknown(api, worker, redis):
    """S44: to the operator, no lag and an unknown one are not the same."""
    await FakeWorker(api, "w2").register(("other", "1.0"))
    await redis.delete(PLAIN)
    await redis.set(PLAIN, "no stream")
    assert (await load_of(api))["stream_lag"] is None


async def test_of_very_many_streams_the_lag_is_that_of_all(api):
    """They are asked for in slices, and of empty ones no more than that they are."""
    for half in range(2):
        versions = [{"workflow": f"many-{number}", "version": f"{half}.0"} for number in range(600)]
        body = {"worker": f"w{half}", "pool": "many", "concurrency": 1, "workflows": versions}
        assert (await api.post("/api/v1/worker/register", body)).status == 200
    for number in (0, 1, 599):
        for version in ("0.0", "1.0"):
            await start(api, workflow=f"many-{number}", version=version)

    async def told():
        return (await load_of(api, "many"))["stream_lag"] == 6

    await until(told)
    assert len((await api.get("/api/v1/workflows")).json()["workflows"]) == 1_200
