"""Hours in which a pool is never smaller: by the clock on the wall, also in the nights in which it is set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiki_operator.plan.pool.plan import PoolMemory, PoolPlan, plan
from aiki_operator.plan.pool.state import DeployedBuild, LoadUnavailable, ObservedPool
from aiki_operator.spec.hours import DAYS, MinimumWindow, in_force, parse_windows, unknown_zones
from aiki_operator.spec.pool import parse_pool
from support.operator.objects import build_load, load, pool_body

laws = settings(deadline=None, max_examples=100)

BERLIN = "Europe/Berlin"
EVERY_DAY = frozenset(DAYS)


def window(begins: str, ends: str, *days: str, zone: str = BERLIN, minimum: int = 3) -> MinimumWindow:
    return MinimumWindow(begins, ends, zone, frozenset(days) or EVERY_DAY, minimum)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def hours(one: MinimumWindow, day: str, count: int = 48) -> tuple[str, str] | None:
    """First and last minute of the window from this midnight, in UTC; it must have no hole."""
    start = utc(day)
    inside = [start + timedelta(minutes=number) for number in range(count * 60) if in_force([one], start + timedelta(minutes=number))]
    if not inside:
        return None
    assert inside[-1] - inside[0] == timedelta(minutes=len(inside) - 1), "the window has a hole"
    return inside[0].strftime("%dT%H:%M"), inside[-1].strftime("%dT%H:%M")


@pytest.mark.parametrize(
    ("at", "holds"),
    [
        ("2026-01-05T06:59:59", False),  # a Monday, 07:59:59 in Berlin
        ("2026-01-05T07:00:00", True),
        ("2026-01-05T16:59:59", True),
        ("2026-01-05T17:00:00", False),
        ("2026-07-06T06:00:00", True),  # in summer, 08:00 is an hour earlier
        ("2026-01-04T12:00:00", False),  # a Sunday
    ],
)
def test_office_hours(at: str, holds: bool) -> None:
    office = window("08:00", "18:00", *DAYS[:5])
    assert (in_force([office], utc(at)) == office) is holds


def test_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    night = window("22:00", "06:00", "Fri", zone="UTC")
    assert in_force([night], utc("2026-01-09T21:59:00")) is None  # a Friday
    assert in_force([night], utc("2026-01-09T22:00:00")) == night
    assert in_force([night], utc("2026-01-10T05:59:00")) == night
    assert in_force([night], utc("2026-01-10T06:00:00")) is None
    assert in_force([night], utc("2026-01-09T01:00:00")) is None


def test_of_several_the_one_that_asks_for_most_counts() -> None:
    low, high = window("00:00", "24:00", minimum=1), window("08:00", "12:00", minimum=5)
    assert in_force([low, high], utc("2026-01-05T09:00:00")) == high
    assert in_force([high, low], utc("2026-01-05T20:00:00")) == low


# ---- clocks that are set ------------------------------------------------------------------------------------------
# Berlin 2026: on 29 March 02:00 becomes 03:00 at 01:00 UTC; on 25 October 03:00 becomes 02:00 at 01:00 UTC.


@pytest.mark.parametrize(
    ("begins", "ends", "found"),
    [
        ("02:30", "06:00", ("29T01:00", "29T03:59")),  # begins in the hour that there is not: when the clock is set forward
        ("01:00", "02:30", ("29T00:00", "29T00:59")),  # ends in it: the same
        ("02:10", "02:50", None),  # lies in it as a whole
        ("00:00", "24:00", ("28T23:00", "29T21:59")),  # that day has 23 hours
    ],
)
def test_hour_that_is_left_out(begins: str, ends: str, found: tuple[str, str] | None) -> None:
    assert hours(window(begins, ends, "Sun"), "2026-03-28T00:00:00", 72) == found


@pytest.mark.parametrize(
    ("begins", "ends", "found"),
    [
        ("02:30", "06:00", ("25T00:30", "25T04:59")),  # from the first 02:30
        ("01:00", "02:30", ("24T23:00", "25T01:29")),  # to the last 02:30
        ("02:10", "02:50", ("25T00:10", "25T01:49")),  # from the first to the last, without a hole
        ("00:00", "24:00", ("24T22:00", "25T22:59")),  # that day has 25 hours
    ],
)
def test_hour_that_comes_twice(begins: str, ends: str, found: tuple[str, str]) -> None:
    assert hours(window(begins, ends, "Sun"), "2026-10-24T00:00:00", 72) == found


@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kolkata", "Pacific/Apia"])
def test_whole_day_of_every_day_has_no_hole_in_a_year(zone: str) -> None:
    """Clocks are set by half an hour on Lord Howe, at midnight in Chile."""
    always, at = window("00:00", "24:00", zone=zone), utc("2026-01-01T00:07:00")
    while at < utc("2027-01-01T00:00:00"):
        assert in_force([always], at) == always, at
        at += timedelta(minutes=31)


@laws
@given(
    st.integers(0, 1439),
    st.integers(1, 1440),
    st.sampled_from(["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe"]),
    st.integers(0, 3 * 365 * 24 * 3600),
)
def test_away_from_the_nights_in_which_clocks_are_set_the_wall_decides(begins: int, ends: int, zone: str, seconds: int) -> None:
    at = utc("2025-01-01T00:00:00") + timedelta(seconds=seconds)
    offsets = {(at + timedelta(hours=number)).astimezone(ZoneInfo(zone)).utcoffset() for number in range(-50, 51)}
    if len(offsets) > 1 or begins == ends % 1440:
        return
    wall = at.astimezone(ZoneInfo(zone))
    shows = wall.hour * 60 + wall.minute
    inside = begins <= shows < ends if begins < ends else shows >= begins or shows < ends
    one = window(f"{begins // 60:02}:{begins % 60:02}", f"{ends // 60:02}:{ends % 60:02}", zone=zone)
    assert (in_force([one], at) is not None) is inside


# ---- in the plan --------------------------------------------------------------------------------------------------

HOURS = [{"from": "08:00", "to": "18:00", "timeZone": BERLIN, "days": ["Mon"], "minReplicas": 4}]
NOON, EVENING = utc("2026-01-05T11:00:00").timestamp(), utc("2026-01-05T19:00:00").timestamp()


def planned(at: float, *, silent: bool = False, **spec: Any) -> PoolPlan:
    made = parse_pool(pool_body(minReplicasByTime=HOURS, **spec))
    answer = LoadUnavailable(30, "ServerUnreachable", "it does not answer") if silent else load(build_load(made.build))
    return plan(made, ObservedPool((DeployedBuild(made, 1, ()),), answer, "c", made.build, at_unix=at), PoolMemory(), 1000.0)[0]


def told(found: PoolPlan) -> dict[str, tuple[str, str, str]]:
    return {one.type: (one.word, one.reason, one.message) for one in found.conditions}


@pytest.mark.parametrize(
    ("at", "spec", "size"),
    [(NOON, {}, 4), (EVENING, {}, 1), (NOON, {"minReplicas": 6}, 6), (EVENING, {"minReplicas": 2}, 2), (NOON, {"replicas": 0}, 0)],
)
def test_pool_is_never_smaller_in_these_hours(at: float, spec: dict[str, Any], size: int) -> None:
    (made,) = planned(at, **spec).apply
    assert made["spec"]["replicas"] == size


def test_hours_hold_without_the_server_too() -> None:
    (made,) = planned(NOON, silent=True).apply
    assert made["spec"]["replicas"] == 4


def test_condition_names_the_hours_that_hold_the_size() -> None:
    assert told(planned(NOON))["ScalingLimited"] == (
        "True", "MinReplicas", "minReplicas 4 of the hours 08:00 to 18:00 Europe/Berlin Mon holds more than the load asks for"
    )  # fmt: skip
    assert "of the hours" not in told(planned(NOON, minReplicas=6))["ScalingLimited"][2]


def test_time_zone_that_the_operator_does_not_know_needs_a_person() -> None:
    assert unknown_zones(parse_windows([{**HOURS[0], "timeZone": "Mars/Olympus"}, *HOURS])) == ["Mars/Olympus"]
    spec = parse_pool(pool_body(minReplicasByTime=[{**HOURS[0], "timeZone": "Mars/Olympus"}]))
    found = plan(
        spec, ObservedPool((DeployedBuild(spec, 1, ()),), load(build_load(spec.build)), "c", spec.build, at_unix=NOON), PoolMemory(), 1000.0
    )[0]
    assert told(found)["Stalled"][:2] == ("True", "TimeZoneUnknown")
    assert "Mars/Olympus" in told(found)["Stalled"][2]


def test_hours_make_no_new_build() -> None:
    assert parse_pool(pool_body(minReplicasByTime=HOURS)).build == parse_pool(pool_body()).build
