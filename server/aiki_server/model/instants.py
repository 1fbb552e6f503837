"""Instants between Postgres (aware datetimes) and the wire (microseconds since the epoch)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 12, 31, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST_MICROS = (LAST - EPOCH) // _MICROSECOND


def micros(at: datetime) -> int:
    """Microseconds since the Unix epoch."""
    return (at - EPOCH) // _MICROSECOND


def instant(micros_: int) -> datetime:
    """The instant; what lies outside of what a datetime can hold becomes the nearest that it can."""
    return EPOCH + timedelta(microseconds=min(max(micros_, 0), _LAST_MICROS))
