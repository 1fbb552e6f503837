"""Which version is higher, and who serves it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from aiki_server.engine.dispatch.routing import serving, version_key
from aiki_server.engine.redis.stream_names import stream
from aiki_server.model.keys import PoolKey
from aiki_server.model.workers import Build, PoolRow, Registration
from support.instructions import counted

DAY = datetime(2030, 1, 1, tzinfo=UTC)


def registered(pool, build, *versions, day=0):
    return [Registration("ns", pool, build, "flow", version, DAY + timedelta(days=day)) for version in versions]


def build(name, *, promoted=None, day=0):
    return Build("ns", "main", name, None if promoted is None else DAY + timedelta(days=promoted), DAY + timedelta(days=day))


def test_versions_are_ordered_number_by_number():
    ordered = ["0.9", "1", "1.0", "1.2", "1.9", "1.10-rc1", "1.10-rc2", "1.10", "1.10.1", "2024-01-01", "10000"]
    shuffled = random.Random(1).sample(ordered, len(ordered))
    assert sorted(shuffled, key=version_key) == [
        "0.9",
        "1",
        "1.0",
        "1.2",
        "1.9",
        "1.10-rc1",
        "1.10-rc2",
        "1.10",
        "1.10.1",
        "2024-01-01",
        "10000",
    ]


def test_a_start_goes_to_the_highest_version_and_the_pool_that_carries_it():
    found = serving(registered("a", "", "1.0") + registered("b", "", "2.0"), [], [])
    assert found.place("ns", "flow", None, None)[:2] == ("2.0", "b")
    assert found.place("ns", "flow", None, "a")[:2] == ("1.0", "a")
    assert found.place("ns", "flow", "1.0", None)[:2] == ("1.0", "a")
    assert not found.place("ns", "flow", "3.0", None).served
    assert not found.place("other", "flow", None, None).served


def test_of_two_pools_the_preferred_one_is_taken():
    found = serving(registered("a", "", "1.0") + registered("b", "", "1.0", day=1), [], [])
    assert found.place("ns", "flow", None, None).pool == "b"
    assert found.place("ns", "flow", None, None, prefer="a").pool == "a"


def test_the_newest_promoted_build_serves():
    everything = registered("main", "b1", "1.0", "2.0") + registered("main", "b2", "2.0", "3.0")
    found = serving(everything, [build("b1", promoted=1), build("b2", day=1)], [])
    assert {version: found.server("ns", "main", ("flow", version)) for version in ("1.0", "2.0", "3.0", "4.0")} == {
        "1.0": "b1",
        "2.0": "b1",
        "3.0": "b2",
        "4.0": None,
    }
    found = serving(everything, [build("b1", promoted=1), build("b2", promoted=2, day=1)], [])
    assert found.server("ns", "main", ("flow", "2.0")) == "b2"
    found = serving(everything, [build("b1", promoted=3), build("b2", promoted=2, day=1)], [])
    assert found.server("ns", "main", ("flow", "2.0")) == "b1"


def test_a_build_that_was_gone_back_from_gets_no_new_runs():
    """It carries a higher version, and it is kept: a start that names none goes to what the build that serves carries all the same."""
    everything = registered("main", "old", "1.0", "1.1") + registered("main", "new", "1.1", "2.0", day=1)
    before = serving(everything, [build("old", promoted=1), build("new", promoted=2, day=1)], [])
    assert before.place("ns", "flow", None, None).version == before.place("ns", "flow", None, "main").version == "2.0"
    back = serving(everything, [build("old", promoted=3), build("new", promoted=2, day=1)], [])
    assert back.place("ns", "flow", None, None).version == back.place("ns", "flow", None, "main").version == "1.1"
    assert back.place("ns", "flow", "2.0", None)[:2] == ("2.0", "main")


def test_a_build_that_has_not_been_promoted_gets_no_new_runs_that_another_could_have():
    everything = registered("main", "old", "1.0") + registered("main", "new", "2.0", day=1)
    found = serving(everything, [build("old", promoted=1), build("new", day=1)], [])
    assert found.place("ns", "flow", None, None)[:2] == ("1.0", "main")
    assert serving(everything[1:], [build("old", promoted=1), build("new", day=1)], []).place("ns", "flow", None, None).version == "2.0"


def test_workers_without_a_build_yield_to_builds():
    found = serving(registered("main", "", "1.0", day=5) + registered("main", "b1", "1.0"), [build("b1")], [])
    assert found.server("ns", "main", ("flow", "1.0")) == "b1"


def test_pinned_pools_have_streams_per_build():
    found = serving(registered("main", "b1", "1.0"), [build("b1")], [PoolRow("ns", "main", "Pinned")])
    carried = found.carries("ns", "main", "b1")
    assert found.streams("ns", "main", "b1", carried) == ["aiki:{ns:main}:flow:1.0", "aiki:{ns:main}:flow:1.0@b1"]
    assert found.place("ns", "flow", None, None).build == "b1"


@pytest.mark.parametrize("pools", [[PoolRow("ns", "main", "Pinned")], [PoolRow("ns", "main", "ByVersion", True)], []])
def test_whoever_takes_a_place_reads_its_stream(pools):
    """`readers` and `streams` say the same of every place, whatever is registered."""
    everything = registered("main", "b1", "1.0", "2.0") + registered("main", "b2", "2.0", "3.0") + registered("main", "", "3.0", "4.0")
    found = serving(everything, [build("b1", promoted=1), build("b2", day=1)], pools)
    for version in ("1.0", "2.0", "3.0", "4.0", "5.0"):
        for on in (None, "b1", "b2", "b3"):
            place = ("ns", "main", "flow", version, on)
            reading = {
                name
                for name in ("b1", "b2", "")
                if stream(*place) in found.streams("ns", "main", name or None, found.carries("ns", "main", name))
            }
            assert found.readers(place) == reading, place


def newness(build):
    """The newest is promoted last, or registered last where none is; what has no name yields."""
    return (
        build.promoted_at is not None,
        build.promoted_at or (build.registered_at if build.name else DAY - 9 * timedelta(days=1)),
        build.name,
    )


def random_rows(chance):
    pools, names = ("main", "b"), ("", "b1", "b2", "b3")
    entries = {
        (chance.choice(pools), chance.choice(names), chance.choice(("flow", "other")), chance.choice(("1.0", "1.10", "1.9", "2-rc1")))
        for _ in range(chance.randrange(20))
    }
    rows = [Registration("ns", *entry, DAY + timedelta(days=chance.randrange(3))) for entry in sorted(entries)]
    builds = [
        Build("ns", pool, name, chance.choice((None, DAY, DAY + timedelta(days=1))), DAY + timedelta(days=chance.randrange(3)))
        for pool, name in sorted({(row.pool, row.build) for row in rows if row.build})
    ]
    return rows, builds


@pytest.mark.parametrize("seed", range(100))
def test_what_is_made_once_says_what_a_look_at_everything_would(seed):
    chance = random.Random(seed)
    rows, builds = random_rows(chance)
    found = serving(rows, builds, [PoolRow("ns", "b", "Pinned")])
    for pool in ("main", "b"):
        of_pool = found.builds.get(PoolKey("ns", pool), {})
        for version in {(row.workflow, row.version) for row in rows}:
            carrying = [build for name, build in of_pool.items() if version in found.carries("ns", pool, name)]
            best = max(carrying, key=newness).name if carrying else None
            assert found.server("ns", pool, version) == best
            assert found.only("ns", pool, version) == (len(carrying) == 1)
    for wanted in (None, "1.0", "1.10", "9"):
        for there in (None, "main", "b"):
            fitting = [row for row in rows if row.workflow == "flow" and wanted in (None, row.version) and there in (None, row.pool)]
            if wanted is None:
                leading = {
                    pool: max((found.builds[PoolKey("ns", pool)][row.build] for row in fitting if row.pool == pool), key=newness).name
                    for pool in {row.pool for row in fitting}
                }
                fitting = [row for row in fitting if row.build == leading[row.pool]]
            for prefer in (None, "main", "b"):
                place = found.place("ns", "flow", wanted, there, prefer=prefer)
                assert place.served == bool(fitting)
                if fitting:
                    chosen = max(fitting, key=lambda row: (version_key(row.version), row.registered_at))
                    others = [row for row in rows if (row.workflow, row.version) == ("flow", chosen.version)]
                    if there is None and prefer in {row.pool for row in others}:
                        fitting = [row for row in others if row.pool == prefer]
                        chosen = max(fitting, key=lambda row: row.registered_at)
                    tied = {row.pool for row in fitting if (row.version, row.registered_at) == (chosen.version, chosen.registered_at)}
                    assert place.version == chosen.version
                    assert place.pool == chosen.pool or (prefer not in tied and place.pool in tied)


def ask_everything(size):
    """Many builds of one pool, each with a few versions of its own and one that all carry; everything that is asked of them."""
    names = [f"b{number:05}" for number in range(size)]
    rows = [row for name in names for row in registered("main", name, f"1.{name[1:]}", "1.0")]
    found = serving(rows, [build(name, promoted=number) for number, name in enumerate(names)], [])

    def act():
        for name in names:
            found.streams("ns", "main", name, found.carries("ns", "main", name))
            found.place("ns", "flow", None, None, prefer="other")
            found.place("ns", "flow", f"1.{name[1:]}", "main")

    return (lambda: serving(rows, [build(name) for name in names], [])), act


@pytest.mark.parametrize("of", [0, 1])
def test_what_ten_thousand_registrations_cost_is_linear(of):
    """I45 by time: who registers much must not hold up everybody who starts."""
    small, large = (counted(ask_everything(size)[of], of=("aiki_server.engine",)) for size in (50, 200))
    assert large < 5 * small
