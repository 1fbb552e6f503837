"""When a schedule in the form of cron fired last. Kubernetes does the scheduling; this tells whether what it started is overdue.

Five fields: minute, hour, day of the month, month, day of the week (0 and 7 are Sunday), each `*`, numbers, ranges, steps and
lists of them. Where both days are restricted, either of them will do, as cron has it. Times are UTC.
"""

from __future__ import annotations

from datetime import datetime, timedelta

RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
FARTHEST_DAYS = 8 * 366
"""The 29th of February may be eight years away."""


def last(schedule: str, at: datetime) -> datetime | None:
    """The latest instant up to `at` at which the schedule fired; None where it never does.

    >>> from datetime import UTC
    >>> last("30 3 * * 1", datetime(2026, 1, 7, 12, 0, tzinfo=UTC)).isoformat()  # a Wednesday
    '2026-01-05T03:30:00+00:00'
    >>> last("0 0 31 2 *", datetime(2026, 1, 7, tzinfo=UTC)) is None
    True
    """
    fields = schedule.split()
    minutes, hours, _, months, _ = (_numbers(field, *bounds) for field, bounds in zip(fields, RANGES, strict=True))
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    for _ in range(FARTHEST_DAYS):
        if day.month in months and _on(fields, day):
            times = (
                day.replace(hour=hour, minute=minute) for hour in sorted(hours, reverse=True) for minute in sorted(minutes, reverse=True)
            )
            if (found := next((one for one in times if one <= at), None)) is not None:
                return found
        day -= timedelta(days=1)
    return None


def _on(fields: list[str], day: datetime) -> bool:
    in_month = day.day in _numbers(fields[2], *RANGES[2])
    in_week = bool({day.isoweekday(), day.isoweekday() % 7} & _numbers(fields[4], *RANGES[4]))
    either = not fields[2].startswith("*") and not fields[4].startswith("*")
    return (in_month or in_week) if either else (in_month and in_week)


def _numbers(field: str, least: int, most: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, end = span.partition("-")
        begin = least if first == "*" else int(first)
        close = int(end) if end else (most if first == "*" or step else begin)
        found.update(range(begin, close + 1, int(step or 1)))
    return found
