"""A share of the new runs goes to a build before it takes over: who is drawn, what is kept, and what becomes of it when the roll-out ends."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from aiki_server.engine.dispatch.ramps import Ramp
from aiki_server.engine.dispatch.routing import serving
from aiki_server.engine.redis.stream_names import stream
from aiki_server.engine.start.new_ids import RunIds
from aiki_server.model.workers import Build, PoolRow, Registration
from support.fake_worker import FakeWorker
from support.waiting import until

DAY = datetime(2030, 1, 1, tzinfo=UTC)
SHARE = "/api/v1/pools/main/builds/new/share"


def two_builds(*, old=("1.0",), new=("1.0",), percent=30, versioning="ByVersion", ramp="new"):
    """`old` has taken over, `new` has a share."""
    rows = [
        Registration("ns", "main", name, "flow", version, DAY) for name, versions in (("old", old), ("new", new)) for version in versions
    ]
    builds = [Build("ns", "main", "old", DAY, DAY), Build("ns", "main", "new", None, DAY + timedelta(days=1))]
    return serving(rows, builds, [PoolRow("ns", "main", versioning, False, ramp, percent)])


def ids(count):
    made = RunIds()
    return [made.new() for _ in range(count)]


# ---- who is drawn -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("percent", [0, 1, 10, 50, 99, 100])
def test_the_shares_are_what_was_asked_for_and_add_up(percent):
    found, runs = two_builds(percent=percent), ids(20_000)
    builds = Counter(found.place("ns", "flow", None, None, run=run).build for run in runs)
    assert sum(builds.values()) == len(runs)
    assert abs(builds["new"] / len(runs) - percent / 100) < 0.02
    assert set(builds) <= {"new", None}
    assert (percent in (0, 100)) == (len(builds) == 1)


def test_a_draw_is_the_same_whoever_makes_it_and_grows_with_the_share():
    runs = ids(2_000)
    before = frozenset[UUID]()
    for percent in range(0, 101, 5):
        drawn = frozenset(run for run in runs if Ramp("1.0", "main", "new", percent, "ByVersion").draws(run))
        assert before <= drawn
        assert drawn == frozenset(run for run in runs if two_builds(percent=percent).place("ns", "flow", "1.0", "main", run=run).build)
        before = drawn
    assert before == frozenset(runs)


def test_who_is_drawn_gets_the_versions_of_the_new_build_and_nobody_else_does():
    found = two_builds(old=("1.0", "1.1"), new=("1.1", "2.0"), percent=40)
    for run in ids(200):
        drawn = Ramp("", "", "", 40, "").draws(run)
        assert found.place("ns", "flow", None, None, run=run)[:3] == (("2.0", "main", "new") if drawn else ("1.1", "main", None))
        assert found.place("ns", "flow", "1.1", None, run=run).build == ("new" if drawn else None)
        assert found.place("ns", "flow", "1.0", None, run=run).build is None  # the new build does not carry it
        assert found.place("ns", "flow", "2.0", "main", run=run).build == "new"  # nobody else does
        assert found.place("ns", "flow", None, None, run=run, prefer="main").build == ("new" if drawn else None)


def test_a_pinned_pool_pins_both_shares():
    found = two_builds(percent=50, versioning="Pinned")
    places = {found.place("ns", "flow", None, None, run=run)[2:] for run in ids(200)}
    assert places == {("old", True, None), ("new", True, "Pinned")}


@pytest.mark.parametrize("ramp", ["old", "gone", None])
def test_only_a_build_that_is_there_and_has_not_taken_over_has_a_share(ramp):
    found = two_builds(ramp=ramp, percent=None if ramp is None else 50)
    assert (found.shares, found.ramps) == ({}, {})


@pytest.mark.parametrize("seed", range(30))
def test_every_place_that_is_given_has_one_reader(seed):
    """No run is lost: whatever is registered, what a start gets is read by the workers of exactly one build."""
    chance = random.Random(seed)
    rows = [
        Registration("ns", "main", build, workflow, version, DAY)
        for build in ("b1", "b2", "b3")
        for workflow in ("flow", "other")
        for version in ("1.0", "1.1", "2.0")
        if chance.random() < 0.5
    ]
    builds = [
        Build("ns", "main", "b1", DAY, DAY),
        Build("ns", "main", "b2", chance.choice((None, DAY)), DAY),
        Build("ns", "main", "b3", None, DAY),
    ]
    row = PoolRow("ns", "main", chance.choice(("ByVersion", "Pinned")), chance.random() < 0.5, "b3", chance.choice((0, 30, 100)))
    found = serving(rows, builds, [row])
    for workflow in ("flow", "other"):
        for version in (None, "1.0", "1.1", "2.0"):
            for run in ids(20):
                place = found.place("ns", workflow, version, None, run=run)
                if not place.served:
                    continue
                assert place.pool is not None
                assert place.version is not None
                where = ("ns", place.pool, workflow, place.version, place.build)
                reading = {
                    name
                    for name in ("b1", "b2", "b3")
                    if stream(*where) in found.streams("ns", "main", name, found.carries("ns", "main", name))
                }
                assert found.readers(where) == reading
                assert len(reading) == 1
                assert version in (None, place.version)


# ---- with a server ------------------------------------------------------------------------------------------------


async def two_workers(api, *, versions=(("flow", "1.0"),)):
    old = await FakeWorker(api, "w-old", build="old").register(*versions)
    assert (await api.post("/api/v1/pools/main/builds/old/promote")).status == 204
    return old, await FakeWorker(api, "w-new", build="new").register(*versions)


async def share(api, percent):
    answer = await api.request("PUT", SHARE, value={"percent": percent})
    return answer.status


async def start(api, count=40, **members):
    return [(await api.post("/api/v1/runs", {"workflow": "flow", **members})).json()["id"] for _ in range(count)]


async def builds_of(db, runs):
    return {
        row["id"].hex: row["build"]
        for row in await db.fetch("select id, build from runs where id = any($1::uuid[])", [UUID(run) for run in runs])
    }


async def trial_of(api):
    return (await api.get("/api/v1/pools/main/load")).json()["trial"]


async def test_runs_that_are_drawn_are_given_to_the_new_build_and_the_others_to_the_old_one(api, db):
    old, new = await two_workers(api)
    assert await share(api, 50) == 204
    runs = await start(api)
    drawn = {run for run in runs if Ramp("", "", "", 50, "").draws(UUID(run))}
    assert {run for run, build in (await builds_of(db, runs)).items() if build == "new"} == drawn
    assert {run["id"] for run in await new.claim(limit=100)} == drawn
    assert {run["id"] for run in await old.claim(limit=100)} == set(runs) - drawn
    assert await share(api, 0) == 204
    assert set((await builds_of(db, await start(api))).values()) == {None}


async def test_a_load_says_how_the_runs_fare_that_were_drawn(api, monkeypatch):
    monkeypatch.setattr("aiki_server.engine.dispatch.trials.FIGURES_AGE", 0.0)
    _, new = await two_workers(api)
    assert await trial_of(api) is None
    await share(api, 100)
    assert await trial_of(api) == {"build": "new", "percent": 100, "runs": 0, "completed": 0, "failing": 0}
    await start(api, 5)
    good, bad, stopped, retries, _ = [run["id"] for run in await new.claim(limit=5)]
    await new.commit(new.finishing(good))
    await new.commit(new.finishing(bad, status="failed"))
    await new.commit(new.op(stopped, stop={"type": "Divergence", "message": "m"}))
    await new.commit(
        new.parking(retries, {"k": "call", "c": 0, "a": "task:x:1"}, due_at=new.registered["now"] + 60_000_000, waits=[{"kind": "retry"}])
    )
    assert await trial_of(api) == {"build": "new", "percent": 100, "runs": 5, "completed": 1, "failing": 3}


@pytest.mark.parametrize("end", ["promoted", "taken back", "another"])
async def test_when_the_roll_out_ends_its_runs_are_the_pools_again(api, db, end):
    old, new = await two_workers(api)
    await share(api, 100)
    runs = await start(api, 6)
    in_hand = [run["id"] for run in await new.claim(limit=2)]
    if end == "promoted":
        assert (await api.post("/api/v1/pools/main/builds/new/promote")).status == 204
        heir = new
    elif end == "taken back":
        assert (await api.request("DELETE", SHARE)).status == 204
        heir = old
    else:
        heir = await FakeWorker(api, "w-other", build="other").register()
        assert (await api.request("PUT", "/api/v1/pools/main/builds/other/share", value={"percent": 0})).status == 204
        assert (await api.post("/api/v1/pools/main/builds/other/promote")).status == 204
    assert set((await builds_of(db, runs)).values()) == {None}
    assert await db.fetchval("select count(*) from trials") == 0
    claimed = await heir.claim(limit=10)
    assert {run["id"] for run in claimed} == set(runs) - set(in_hand)
    for run in in_hand:  # what the build has in hand it ends
        assert await new.outcome(new.finishing(run)) == "ok"
    assert await db.fetchval("select count(*) from runs where status = 'completed'") == 2


async def test_nothing_is_left_in_redis_of_a_build_that_is_forgotten(api, redis):
    await two_workers(api)
    await share(api, 100)
    await start(api, 3)

    async def rung():
        return await redis.exists("aiki:{default:main}:flow:1.0@new")

    await until(rung)
    await api.request("DELETE", SHARE)
    assert (await api.request("DELETE", "/api/v1/pools/main/builds/new")).status == 204
    assert not await rung()


async def test_what_a_pinned_pool_draws_stays_on_its_build_for_good(api, db):
    await two_workers(api)
    await api.request("PUT", "/api/v1/pools/main", value={"versioning": "Pinned"})
    await share(api, 50)
    before = await builds_of(db, await start(api))
    assert set(before.values()) == {"old", "new"}
    await api.request("DELETE", SHARE)
    assert await builds_of(db, before) == before
    assert await db.fetchval("select count(*) from trials") == 0


async def test_a_repeated_start_does_not_draw_again(api, db):
    await two_workers(api)
    await share(api, 100)
    (first,) = await start(api, 1, ref="r")
    await share(api, 0)
    (again,) = await start(api, 1, ref="r")
    assert again == first
    assert set((await builds_of(db, [first])).values()) == {"new"}
    assert await db.fetchval("select count(*) from trials") == 1


async def test_runs_that_waited_for_their_workflow_are_drawn_when_they_are_placed(api, db, engine):
    await two_workers(api)
    await share(api, 50)
    runs = await start(api, 60)
    await db.execute("update runs set version = null, pool = null, build = null")  # as if nobody had registered it
    await db.execute("delete from trials")
    await engine.registry.assign()
    drawn = {run for run in runs if Ramp("", "", "", 50, "").draws(UUID(run))}
    assert {run for run, build in (await builds_of(db, runs)).items() if build == "new"} == drawn
    assert {row["run_id"].hex for row in await db.fetch("select run_id from trials")} == drawn


async def test_children_are_drawn_each_for_itself(api, db):
    old, _ = await two_workers(api)
    run = await old.start_and_claim()
    await share(api, 50)
    children = [{"id": made.hex, "workflow": "flow", "input": "1"} for made in ids(30)]
    assert await old.outcome(old.op(run, {"k": "call", "c": 0, "a": "child:flow:1"}, children=children)) == "ok"
    found = await builds_of(db, [child["id"] for child in children])
    assert {run for run, build in found.items() if build == "new"} == {run for run in found if Ramp("", "", "", 50, "").draws(UUID(run))}
    assert await db.fetchval("select count(*) from trials") == sum(build == "new" for build in found.values())


async def test_a_child_with_anothers_id_frees_no_run_of_another(api, other, db):
    """I45: the victim's run is promised to a build; the thief names its id while a roll-out of its own draws, and ends it."""
    await two_workers(api)
    await share(api, 100)
    (victim,) = await start(api, 1)
    thief, _ = await two_workers(other)
    run = await thief.start_and_claim()
    await share(other, 100)
    await thief.commit(
        thief.op(run, {"k": "call", "c": 0, "a": "child:flow:1"}, children=[{"id": victim, "workflow": "flow", "input": "1"}])
    )
    await other.request("DELETE", SHARE)
    assert set((await builds_of(db, [victim])).values()) == {"new"}
    await api.request("DELETE", SHARE)
    assert set((await builds_of(db, [victim])).values()) == {None}
    assert await db.fetchval("select count(*) from trials") == 0


async def test_a_run_that_a_server_draws_after_the_end_is_freed_by_a_sweep(api, db, engine):
    """It read a snapshot in which the build had a share still."""
    old, _ = await two_workers(api)
    await share(api, 100)
    stale = engine.registry.serving
    await api.request("DELETE", SHARE)
    engine.registry.serving = stale
    runs = await start(api, 3)
    assert set((await builds_of(db, runs)).values()) == {"new"}
    engine.sweeper.hurry()

    async def freed():
        return set((await builds_of(db, runs)).values()) == {None}

    await until(freed)
    assert {run["id"] for run in await old.claim(limit=10)} == set(runs)


async def test_every_server_draws_the_same_and_hears_of_a_share_at_once(start_server, db):
    one, two = await start_server(), await start_server()
    await two_workers(one)
    assert await share(one, 50) == 204

    async def heard():
        return (await trial_of(two))["percent"] == 50

    await until(heard)
    runs = [run for api in (one, two) for run in await start(api, 20)]
    drawn = {run for run in runs if Ramp("", "", "", 50, "").draws(UUID(run))}
    assert {run for run, build in (await builds_of(db, runs)).items() if build == "new"} == drawn


async def test_drawn_runs_survive_the_loss_of_redis(api, redis, db, engine):
    """S16: the streams are filled from Postgres, those of the build that the runs were drawn for as well."""
    _, new = await two_workers(api)
    await share(api, 100)
    runs = await start(api, 5)
    await db.execute("update runs set updated_at = now() - interval '1 minute'")
    await redis.flushdb()

    async def filled():
        engine.sweeper.hurry()
        return await redis.exists("aiki:{default:main}:flow:1.0@new") and await redis.xlen("aiki:{default:main}:flow:1.0@new") >= 5

    await until(filled)
    assert {run["id"] for run in await new.claim(*runs)} == set(runs)


async def test_shares_that_cannot_be_are_refused_in_words(api):
    await two_workers(api)
    assert await share(api, 101) == 422
    assert (await api.request("PUT", "/api/v1/pools/main/builds/nobody/share", value={"percent": 5})).status == 404
    refused = await api.request("PUT", "/api/v1/pools/main/builds/old/share", value={"percent": 5})
    assert (refused.status, refused.json()["detail"]) == (
        409,
        "Build old has taken over in pool main: it gets all new runs, or those that the build after it leaves.",
    )
    assert (await api.request("DELETE", "/api/v1/pools/main/builds/nobody/share")).status == 204


async def test_a_share_and_a_promotion_at_the_same_time_leave_no_share(api, db):
    await two_workers(api)
    for _ in range(20):
        await db.execute("update builds set promoted_at = null where name = 'new'")
        await asyncio.gather(share(api, 50), api.post("/api/v1/pools/main/builds/new/promote"), share(api, 60))
        assert await db.fetchval("select ramp_build from pools") is None
        assert await trial_of(api) is None
