"""Durations and instants: what people may pass, microseconds as the history counts them, and words for labels."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

Delay = float | timedelta
"""Seconds, or a timedelta."""

MICROS_PER_SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
LONGEST_SECONDS = 1_000 * 366 * 86_400


def seconds(duration: Delay) -> float:
    """A duration as seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)


def micros(duration: Delay) -> int:
    """A duration as microseconds. ValueError unless it is from 0 to a thousand years."""
    length = seconds(duration)
    if not 0 <= length <= LONGEST_SECONDS:
        raise ValueError(f"a duration of {length} s: it must be from 0 to {LONGEST_SECONDS} s (a thousand years)")
    return round(length * MICROS_PER_SECOND)


def spoken(length: int) -> str:
    """Microseconds for people: `1 d`, `12 h`, `2.5 s`."""
    left = length / MICROS_PER_SECOND
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if left >= size:
            return f"{left / size:.4g} {unit}"
    return f"{left:.4g} s"


def instant(since_epoch: int) -> datetime:
    """The instant that is so many microseconds after the Unix epoch, in UTC."""
    return _EPOCH + timedelta(microseconds=since_epoch)


def since_epoch(at: datetime) -> int:
    """Microseconds from the Unix epoch to an instant, which has a time zone."""
    return (at - _EPOCH) // _MICROSECOND
