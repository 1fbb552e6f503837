"""The log of a worker: events with fields, as JSON for machines and spelled out for a person at a terminal."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

from aiki.cli.terminal import json_text, one_line, printable
from aiki.redaction import Redactor, event_of, traced, uncaught_to_log

COLOURS = {"warning": "33", "error": "31", "critical": "31"}
_ODD = re.compile(r"[\s\"=]")
_QUIET = frozenset({"at", "level", "event", "logger", "traceback"})
OURS = frozenset({"aiki", "asyncio", "aiohttp", "redis"})
USERS = "aiki.run"
"""What workflow code logs, by `run.log`."""
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class EventFormatter(logging.Formatter):
    """A record as one JSON object, with the members that the server's log has too."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        return json.dumps(fields_of(record, self._redactor), default=str)


class PersonFormatter(logging.Formatter):
    """A record as a person reads it."""

    def __init__(self, redactor: Redactor, *, colour: bool) -> None:
        super().__init__()
        self._redactor = redactor
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it."""
        return spelled(fields_of(record, self._redactor), colour=self._colour)


def set_up() -> None:
    """Send what aiki and the user's code log to standard error: spelled out on a terminal, as JSON elsewhere."""
    terminal = sys.stderr.isatty()
    handler = logging.StreamHandler()
    redactor = Redactor.of_environment()
    handler.setFormatter(PersonFormatter(redactor, colour=True) if terminal else EventFormatter(redactor))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    uncaught_to_log()


def fields_of(record: logging.LogRecord, redactor: Redactor) -> dict[str, Any]:
    """The record as a flat object, without secrets. What an error says is written where the user's own code logs it, and otherwise if it holds no data."""
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    fields = {"at": at, "level": record.levelname.lower(), "event": event_of(record), "logger": record.name, **extra}
    if record.exc_info and record.exc_info[1] is not None:
        ours = record.name.partition(".")[0] in OURS and record.name != USERS
        fields["traceback"] = traced(record.exc_info[1]) if ours else logging.Formatter().formatException(record.exc_info)
    return redactor.fields(fields)


def spelled(fields: dict[str, Any], *, colour: bool) -> str:
    """Time, event and fields on one line, a traceback below."""
    event, level = one_line(str(fields["event"])), str(fields.get("level", "info")).lower()
    rest = "  ".join(f"{one_line(str(key))}={_value(value)}" for key, value in fields.items() if key not in _QUIET and value is not None)
    head = paint(COLOURS[level], event, colour=colour) if level in COLOURS else event
    text = f"{paint('2', _clock(fields), colour=colour)} {head}  {paint('2', rest, colour=colour)}".rstrip()
    trace = fields.get("traceback")
    return f"{text}\n{printable(str(trace)).rstrip()}" if trace else text


def paint(code: str, text: str, *, colour: bool) -> str:
    """The text in a colour of the terminal, where it has any."""
    return f"\x1b[{code}m{text}\x1b[0m" if colour and text else text


def _clock(fields: dict[str, Any]) -> str:
    try:
        at = datetime.fromisoformat(fields["at"])
    except (KeyError, TypeError, ValueError):  # a line of another program that happens to look like ours
        at = datetime.now(UTC)
    return at.astimezone().strftime("%H:%M:%S.%f")[:-3]


def _value(value: object) -> str:
    """In quotes, as JSON, where it could be taken for more than one field."""
    text = value if isinstance(value, str) and not _ODD.search(value) else json_text(value)
    return one_line(text)
