"""Queued runs that nobody serves are noticed, and what a run was promised is kept, so that fewer of them are left unserved."""

from __future__ import annotations

import asyncio

from support.fake_worker import FakeWorker
from support.runs import run_of
from support.waiting import until

PLAIN = "aiki:{default:main}:flow:1.0"


async def start(api, **members):
    return (await api.post("/api/v1/runs", {"workflow": "flow", **members})).json()["id"]


async def promote(api, name):
    assert (await api.post(f"/api/v1/pools/main/builds/{name}/promote")).status == 204


async def versioning(api, how):
    assert (await api.request("PUT", "/api/v1/pools/main", value={"versioning": how})).status == 200


async def unserved_of(api, pool="main"):
    return (await api.get(f"/api/v1/pools/{pool}/load")).json()["unserved"]


async def figures(api):
    lines = (await api.get("/metrics")).body.decode().splitlines()
    return {line.partition("{")[2].partition("}")[0]: float(line.split()[-1]) for line in lines if line.startswith("aiki_unserved_runs{")}


async def test_a_pinned_run_is_still_read_by_its_build_when_its_pool_is_pinned_no_more(api, redis):
    """Through the stream, by a poll, and by name; new runs stay on no build, and the old build takes none of them."""
    await versioning(api, "Pinned")
    old = await FakeWorker(api, "old", build="b1").register()
    await promote(api, "b1")
    runs = [await start(api) for _ in range(3)]
    await versioning(api, "ByVersion")
    assert (await old.heartbeat())["assignment"]["streams"] == [PLAIN, f"{PLAIN}@b1"]
    new = await FakeWorker(api, "new", build="b2").register()
    await promote(api, "b2")
    assert (await old.heartbeat())["assignment"]["streams"] == [f"{PLAIN}@b1"]
    assert PLAIN in (await new.heartbeat())["assignment"]["streams"]
    fresh = await start(api)
    assert [(await run_of(api, run))["build"] for run in (*runs, fresh)] == ["b1", "b1", "b1", None]
    assert await unserved_of(api) == []
    assert [run["id"] for run in await old.claim(runs[0])] == [runs[0]]
    assert sorted(run["id"] for run in await old.claim()) == sorted(runs[1:])
    assert [run["id"] for run in await new.claim()] == [fresh]


async def test_a_pinned_run_that_slept_is_rung_where_its_build_reads(api, redis):
    await versioning(api, "Pinned")
    worker = await FakeWorker(api, "old", build="b1").register()
    run = await worker.start_and_claim()
    await worker.commit(worker.parking(run, events=["go"]))
    await versioning(api, "ByVersion")
    await api.post(f"/api/v1/runs/{run}/events", {"name": "go"})
    (read,) = [stream for stream in (await worker.heartbeat())["assignment"]["streams"] if stream.endswith("@b1")]
    await until(lambda: redis.xlen(read))


async def test_a_version_that_nobody_carries_any_more_is_said(api):
    """On the run, in the pool's load, and in a metric by workflow and version."""
    worker = await FakeWorker(api, "w1").register(("flow", "1.0"))
    run = await start(api)
    assert (await run_of(api, run))["notice"] is None
    assert (await api.post("/api/v1/worker/deregister", {"worker": "w1"})).status == 204
    await FakeWorker(api, "w2").register(("flow", "2.0"))
    assert "No live worker of pool main carries flow 1.0" in (await run_of(api, run))["notice"]
    (unserved,) = await unserved_of(api)
    assert (unserved["workflow"], unserved["version"], unserved["runs"], unserved["servable"], unserved["builds"]) == (
        "flow",
        "1.0",
        1,
        True,
        [],
    )
    label = 'namespace="default",version="1.0",workflow="flow"'
    await until(lambda: _is(api, {label: 1.0}), seconds=20)
    await worker.register(("flow", "1.0"))
    assert (await run_of(api, run))["notice"] is None
    assert await unserved_of(api) == []
    await until(lambda: _is(api, {}), seconds=20)


async def _is(api, expected):
    return await figures(api) == expected


async def test_runs_of_a_build_without_workers_say_which(api):
    await versioning(api, "Pinned")
    await FakeWorker(api, "old", build="b1").register()
    await promote(api, "b1")
    run = await start(api)
    await api.post("/api/v1/worker/deregister", {"worker": "old"})
    await FakeWorker(api, "new", build="b2").register()
    await promote(api, "b2")
    assert "stays on build b1 of pool main" in (await run_of(api, run))["notice"]
    (unserved,) = await unserved_of(api)
    assert (unserved["build"], unserved["builds"], unserved["servable"]) == ("b1", ["b1"], True)


async def test_runs_that_nobody_will_ever_read_are_served_by_none(api):
    await FakeWorker(api, "w1").register(("flow", "1.0"))
    for version in ("9.0", None):
        await start(api, workflow="flow" if version else "other", version=version, pool="main")
    unserved = await unserved_of(api)
    assert {(one["workflow"], one["version"], one["servable"]) for one in unserved} == {("flow", "9.0", False), ("other", None, False)}
    assert (await api.get("/api/v1/pools/main/load")).json()["queued"] == 1


async def test_a_draining_worker_reads_nothing(api, worker):
    run = await start(api)
    await api.post("/api/v1/workers/w1/drain", {"drain": True})
    assert (await run_of(api, run))["notice"] is not None


async def test_an_unnamed_worker_beside_an_old_build_is_told_apart(api):
    """A named build takes a version from workers without one, for ever: said, with the name of the build."""
    await FakeWorker(api, "w1").register()
    await FakeWorker(api, "once", build="b1").register()
    await api.post("/api/v1/worker/deregister", {"worker": "once"})
    run = await start(api)
    assert "Build b1 serves flow 1.0 in pool main" in (await run_of(api, run))["notice"]


async def test_another_namespace_sees_none_of_it(api, other, engine):
    """I45: neither in its pools nor in its figures."""
    await start(api, workflow="secret", pool="main")
    await FakeWorker(other, "w1").register()
    await until(lambda: engine.sweeper.unserved.found)
    assert await unserved_of(other) == []
    assert await figures(other) == {}
    assert len(await figures(api)) == 1


async def test_registration_while_others_stop_is_answered_with_streams(api):
    """Workers that go hide nobody who comes: each is told its stream at once, and none is told that it is unknown."""

    async def comes_and_goes(number):
        for turn in range(6):
            worker = await FakeWorker(api, f"w-{number}-{turn}").register()
            assert worker.registered["assignment"]["streams"] == [PLAIN]
            assert (await worker.heartbeat())["known"]
            assert (await api.post("/api/v1/worker/deregister", {"worker": worker.name})).status == 204

    await asyncio.gather(*map(comes_and_goes, range(20)))
