"""Which version is higher, and who serves it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from aiki_server.engine.serving import serving, version_key
from aiki_server.engine.streams import stream
from aiki_server.store.registry import Build, PoolRow, Registration

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
