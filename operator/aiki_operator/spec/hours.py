"""Hours of the day in which a pool is never smaller than so many pods: which of them it is now.

Hours are those of a wall clock in a time zone, whose clocks are set forward and back. A window begins at the first
instant at which the clock shows `from` or later, and ends at the last at which it shows `to`: so an hour that the clocks
leave out shortens a window by no more than it takes away, and one that comes twice is in it twice, without a hole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Json = Mapping[str, Any]

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class MinimumWindow:
    """From one time of day to another, over midnight if the other is earlier, on days of the week, those on which it begins."""

    begins: str
    ends: str
    zone: str
    days: frozenset[str]
    minimum: int

    def __str__(self) -> str:
        named = "" if len(self.days) == len(DAYS) else f" {', '.join(day for day in DAYS if day in self.days)}"
        return f"{self.begins} to {self.ends} {self.zone}{named}"


def parse_windows(windows: Iterable[Json]) -> tuple[MinimumWindow, ...]:
    """The windows of a spec."""
    return tuple(
        MinimumWindow(one["from"], one["to"], one.get("timeZone", "UTC"), frozenset(one.get("days") or DAYS), one["minReplicas"])
        for one in windows
    )


def in_force(windows: Iterable[MinimumWindow], at: datetime) -> MinimumWindow | None:
    """The window that asks for most of those that `at`, an aware instant, lies in; one whose time zone is not known is none.

    >>> office = Window("08:00", "18:00", "Europe/Berlin", frozenset(DAYS[:5]), 3)
    >>> in_force([office], datetime(2026, 1, 5, 7, 0, tzinfo=UTC)).minimum  # a Monday, 08:00 in Berlin
    3
    """
    return max((one for one in windows if _holds(one, at)), key=lambda one: one.minimum, default=None)


def unknown_zones(windows: Iterable[MinimumWindow]) -> list[str]:
    """Time zones that this operator's database does not have."""
    return sorted({one.zone for one in windows if _zone(one.zone) is None})


def _holds(window: MinimumWindow, at: datetime) -> bool:
    zone = _zone(window.zone)
    if zone is None:
        return False
    today = at.astimezone(zone).date()
    return any(_holds_from(window, day, zone, at.astimezone(UTC)) for day in (today, today - timedelta(days=1)))


def _holds_from(window: MinimumWindow, day: date, zone: ZoneInfo, at: datetime) -> bool:
    """Whether `at` lies in the window that begins on this day."""
    if DAYS[day.weekday()] not in window.days:
        return False
    begins, ends = _minutes(window.begins), _minutes(window.ends)
    last = day if ends > begins else day + timedelta(days=1)
    return _instant(day, begins, zone, fold=0) <= at < _instant(last, ends, zone, fold=1)


def _minutes(text: str) -> int:
    """Minutes since midnight; 24:00 is the midnight after."""
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)


def _instant(day: date, minutes: int, zone: ZoneInfo, *, fold: int) -> datetime:
    """When the clock shows this time; one that it leaves out is when it is set forward; of one that comes twice, the first or last."""
    wall = (datetime.combine(day, time(), zone) + minutes * MINUTE).replace(fold=fold)
    found = wall.astimezone(UTC)
    if found.astimezone(zone).replace(tzinfo=None) == wall.replace(tzinfo=None):
        return found
    early, late = sorted(wall.replace(fold=one).astimezone(UTC) for one in (0, 1))
    while late - early > MINUTE:
        middle = early + (late - early) // 2
        early, late = (middle, late) if middle.astimezone(zone).utcoffset() == early.astimezone(zone).utcoffset() else (early, middle)
    return late.replace(second=0, microsecond=0)


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
