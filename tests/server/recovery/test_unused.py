"""What was registered goes when nobody carries, needs or keeps it, and not before. S41."""

from __future__ import annotations

import time

import pytest

from support.fake_worker import FakeWorker
from support.waiting import until

DAYS = 30.0
POOL = "/api/v1/pools/main"


async def age(db, days=40):
    """Let everything that is registered have been used so many days ago, and no more be known of any worker."""
    await db.execute("delete from workers")
    for table in ("registrations", "pools"):
        await db.execute(f"update {table} set used_at = used_at - $1 * interval '1 day'", days)
    for table in ("registrations", "builds"):
        await db.execute(f"update {table} set registered_at = registered_at - $1 * interval '1 day'", days)


async def registered(db):
    rows = await db.fetch("select build, workflow, version from registrations order by build, workflow, version")
    return [":".join(row) for row in rows]


async def test_what_nobody_uses_is_forgotten_with_its_build_and_the_settings_of_its_pool(api, engine, db):
    await FakeWorker(api, "w1", build="b1").register()
    await FakeWorker(api, "w2").register(("flow", "0.9"))
    await FakeWorker(api.as_("other-token"), "w3").register()
    await api.request("PUT", POOL, value={"versioning": "Pinned"})
    await age(db, days=29)
    assert await engine.unused.forget(DAYS) == 0
    await age(db, days=2)
    await FakeWorker(api.as_("other-token"), "w3").register()
    assert await engine.unused.forget(DAYS) == 2
    assert await registered(db) == [":flow:1.0"]
    assert await db.fetchval("select count(*) from builds") + await db.fetchval("select count(*) from pools") == 0
    assert (await api.get("/api/v1/workflows")).json() == {"workflows": []}
    assert (await api.get(f"{POOL}/load")).status == 404
    started = (await api.post("/api/v1/runs", {"workflow": "flow"})).json()
    assert (started["status"], started["version"]) == ("queued", None)
    (run,) = await (await FakeWorker(api, "w4").register()).claim()  # a start waits for whoever registers it
    assert run["id"] == started["id"]


async def test_what_workers_carry_is_kept_and_what_they_carry_no_more_goes(api, engine, db):
    await FakeWorker(api, "w1").register(("flow", "1.0"), ("flow", "1.1"))
    await FakeWorker(api, "w2").register(("flow", "2.0"))
    await age(db)
    await FakeWorker(api, "w1").register(("flow", "1.1"))
    await db.execute("update registrations set used_at = used_at - interval '40 days'")  # it has been there for so long
    assert await engine.unused.forget(DAYS) == 2
    assert await registered(db) == [":flow:1.1"]
    assert await db.fetchval("select used_at > now() - interval '1 minute' from registrations")


@pytest.mark.parametrize("more", [{}, {"start_at": "2100-01-01T00:00:00Z"}, {"version": "1.0"}])
async def test_what_an_open_run_needs_is_kept(api, engine, db, more):
    await FakeWorker(api, "w1", build="b1").register(("flow", "1.0"), ("beside", "1.0"))
    await FakeWorker(api, "w2").register(("alone", "1.0"))
    run = (await api.post("/api/v1/runs", {"workflow": "flow", **more})).json()["id"]
    await age(db)
    assert await engine.unused.forget(DAYS) == 1
    assert await registered(db) == ["b1:beside:1.0", "b1:flow:1.0"]  # a build is kept whole
    await api.post(f"/api/v1/runs/{run}/cancel", {"force": True})
    await age(db)
    assert await engine.unused.forget(DAYS) == 2
    assert await db.fetchval("select count(*) from builds") == 0


async def test_a_run_that_stays_on_a_build_keeps_that_one_only(api, engine, db):
    await api.request("PUT", POOL, value={"versioning": "Pinned"})
    for name in ("b1", "b2"):
        await FakeWorker(api, f"of-{name}", build=name).register()
        await api.post(f"{POOL}/builds/{name}/promote")
    await api.post("/api/v1/runs", {"workflow": "flow"})
    await age(db)
    assert await engine.unused.forget(DAYS) == 1
    assert await registered(db) == ["b2:flow:1.0"]
    assert await db.fetchval("select count(*) from pools") == 1


async def test_a_pool_that_somebody_keeps_finds_its_builds_after_a_long_rest_at_zero(api, engine, db):
    await FakeWorker(api, "w1", build="b1").register()

    async def kept():
        return (await api.get("/api/v1/pools/load")).json()["pools"][0]["kept"]

    assert not await kept()
    await api.request("PUT", POOL, value={"versioning": "ByVersion"})
    assert await kept()
    await age(db, days=16)
    assert not await kept()  # asked to say it again, long before it counts
    await api.request("PUT", POOL, value={"versioning": "ByVersion"})
    assert await kept()
    await db.execute("update registrations set used_at = used_at - interval '4 years'")
    assert await engine.unused.forget(DAYS) == 0
    assert (await api.post("/api/v1/runs", {"workflow": "flow"})).json()["pool"] == "main"


async def test_settings_of_a_pool_for_which_runs_wait_are_kept(api, engine, db):
    await api.request("PUT", POOL, value={"versioning": "Pinned"})
    await api.post("/api/v1/runs", {"workflow": "flow", "version": "1.0", "pool": "main"})
    await age(db)
    assert await engine.unused.forget(DAYS) == 0
    assert await db.fetchval("select versioning from pools") == "Pinned"


async def test_registering_again_writes_nothing_for_a_day(api, db):
    worker = await FakeWorker(api, "w1", build="b1").register()
    rows = "select xmin::text, 'r' from registrations union all select xmin::text, 'b' from builds"
    before = await db.fetch(rows)
    await worker.register()
    assert await db.fetch(rows) == before


async def test_without_days_every_pool_is_kept(start_server):
    api = await start_server(registration_days=None)
    await FakeWorker(api, "w1").register()
    assert (await api.get("/api/v1/pools/load")).json()["pools"][0]["kept"]


async def asleep(worker, run, *, days=60):
    """The worker parks a run until so many days from now."""
    due_at = (time.time() + days * 86_400) * 1_000_000
    assert await worker.outcome(worker.parking(run, due_at=int(due_at))) == "parked"


async def awake(api, engine, db, run):
    """Its time has come: the run is queued; what the operator is told of the pools."""
    await db.execute("update runs set due_at = now() - interval '1 second' where id = $1", run)
    engine.timers.hurry()

    async def queued():
        return (await api.get(f"/api/v1/runs/{run}")).json()["status"] == "queued"

    await until(queued)
    return (await api.get("/api/v1/pools/load")).json()["pools"]


async def test_a_run_that_sleeps_for_sixty_days_on_its_build_finds_it(api, engine, db):
    """Pinned: no other build may take it, whatever was promoted meanwhile."""
    await api.request("PUT", POOL, value={"versioning": "Pinned"})
    first = await FakeWorker(api, "w1", build="b1").register()
    await api.post(f"{POOL}/builds/b1/promote")
    run = await first.start_and_claim()
    await asleep(first, run)
    await FakeWorker(api, "w2", build="b2").register()
    await api.post(f"{POOL}/builds/b2/promote")
    for _ in range(2):
        await age(db, days=31)
        await engine.unused.forget(DAYS)
    assert await registered(db) == ["b1:flow:1.0"]
    (pool,) = await awake(api, engine, db, run)
    assert [(build["name"], build["queued"]) for build in pool["builds"]] == [("b1", 1)]
    again = await FakeWorker(api, "w3", build="b1").register()
    assert [claimed["id"] for claimed in await again.claim(run)] == [run]


async def test_a_pool_that_rested_at_zero_for_forty_days_is_woken_by_its_timer(api, engine, db):
    """Nobody has set the pool: the run alone keeps what is needed."""
    worker = await FakeWorker(api, "w1", build="b1").register(("flow", "1.0"), ("beside", "1.0"))
    run = await worker.start_and_claim()
    await asleep(worker, run, days=40)
    await age(db, days=40)
    assert await engine.unused.forget(DAYS) == 0
    (pool,) = await awake(api, engine, db, run)
    assert [(build["name"], build["queued"]) for build in pool["builds"]] == [("b1", 1)]
    beside = (await api.post("/api/v1/runs", {"workflow": "beside"})).json()
    assert beside["pool"] == "main"  # a build is kept whole, so that a run finds where its children go


async def test_a_paused_run_keeps_what_it_needs_until_it_is_resumed(api, engine, db):
    await FakeWorker(api, "w1", build="b1").register()
    run = (await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"]
    assert (await api.post(f"/api/v1/runs/{run}/pause")).json()["status"] == "paused"
    await age(db, days=400)
    assert await engine.unused.forget(DAYS) == 0
    await api.post(f"/api/v1/runs/{run}/resume")
    again = await FakeWorker(api, "w2", build="b1").register()
    assert [claimed["id"] for claimed in await again.claim(run)] == [run]


async def test_a_version_that_an_old_build_alone_carries_keeps_that_build_and_no_other_old_one(api, engine, db):
    """By version: the promoted build carries another version, and a third nothing that anybody needs."""
    old = await FakeWorker(api, "w1", build="b1").register(("flow", "1.0"))
    run = await old.start_and_claim()
    await asleep(old, run)
    await FakeWorker(api, "w2", build="b2").register(("flow", "1.5"))
    await FakeWorker(api, "w3", build="b3").register(("flow", "2.0"))
    await api.post(f"{POOL}/builds/b3/promote")
    await age(db)
    await FakeWorker(api, "w3", build="b3").register(("flow", "2.0"))
    assert await engine.unused.forget(DAYS) == 1
    assert await registered(db) == ["b1:flow:1.0", "b3:flow:2.0"]
    (pool,) = await awake(api, engine, db, run)
    assert {build["name"]: build["queued"] for build in pool["builds"]} == {"b1": 1, "b3": 0}


async def test_a_server_that_was_away_for_longer_than_the_time_forgets_nothing_that_is_needed(api, engine, db):
    """As after a restore: nobody has noted a use for years, and the first turn looks before it forgets."""
    worker = await FakeWorker(api, "w1", build="b1").register()
    await asleep(worker, await worker.start_and_claim())
    await age(db, days=1_000)
    assert await engine.unused.forget(DAYS) == 0
    assert await registered(db) == ["b1:flow:1.0"]
