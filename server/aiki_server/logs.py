"""Logs as one JSON object a line, on standard error: an event in words, and its fields, without secrets (aiki.redaction)."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from aiki.redaction import Redactor, event_of, traced, uncaught_to_log

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


class JsonLines(logging.Formatter):
    """The formatter."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": event_of(record),
            "logger": record.name,
            **{name: value for name, value in vars(record).items() if name not in _STANDARD},
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["traceback"] = traced(record.exc_info[1])
        return json.dumps(self._redactor.fields(line), default=str)


def configure(level: str = "INFO") -> None:
    """Everything to standard error, ours and others'."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(Redactor.of_environment()))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("uvicorn.error").setLevel("WARNING")
    uncaught_to_log()
