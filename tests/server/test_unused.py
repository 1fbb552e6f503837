"""What was registered goes when nobody carries, needs or keeps it, and not before. S41."""

from __future__ import annotations

import pytest

from fake_worker import FakeWorker

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
