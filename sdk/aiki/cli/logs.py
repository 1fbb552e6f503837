"""The log of a worker: the lines of aiki.shared.logs for machines, and the same events spelled out for a person at a terminal."""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

from aiki.cli.output.terminal import json_text, one_line, printable
from aiki.shared.logs import Fields, JsonLines, log_to
from aiki.shared.redaction import Redactor

COLOURS = {"warning": "33", "error": "31", "critical": "31"}
_ODD = re.compile(r"[\s\"=]")
_QUIET = frozenset({"timestamp", "level", "event", "logger", "traceback"})


class PersonFormatter(logging.Formatter):
    """A record as a person reads it."""

    def __init__(self, fields: Fields, *, colour: bool) -> None:
        super().__init__()
        self._fields = fields
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it."""
        return spelled(self._fields(record), colour=self._colour)


def set_up() -> None:
    """Send what aiki and the user's code log to standard error: spelled out on a terminal, as JSON elsewhere."""
    fields = Fields(Redactor.of_environment(), users=True)
    formatter = PersonFormatter(fields, colour=True) if sys.stderr.isatty() else JsonLines(fields)
    log_to(sys.stderr, formatter, force=False)


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
        at = datetime.fromisoformat(fields["timestamp"])
    except (KeyError, TypeError, ValueError):  # a line of another program that happens to look like ours
        at = datetime.now(UTC)
    return at.astimezone().strftime("%H:%M:%S.%f")[:-3]


def _value(value: object) -> str:
    """In quotes, as JSON, where it could be taken for more than one field."""
    text = value if isinstance(value, str) and not _ODD.search(value) else json_text(value)
    return one_line(text)
