"""The one form of logs in an installation: one JSON object a line, with the same fields in servers, workers and the operator.

Somebody who looks for what happened to a run greps the logs of three kinds of processes, or asks one store that collects them all.
That works if a fact has one name everywhere. So all of Aiki logs events in words, with their facts as fields of the record
(`extra`), and this formatter writes them:

    {"timestamp": "2026-11-28T12:00:00.000+00:00", "level": "info", "event": "worker started", "logger": "aiki.worker", "worker": "w1"}

An error adds `traceback`. No line holds a secret, and none holds what a run holds: `aiki.shared.redaction` says how. The exception is code of
users in a worker: where that code logs an error, the line shows the error as Python would.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

from aiki.shared.redaction import HIDDEN, Redactor, event_of, traced, uncaught_to_log

_OURS = frozenset({"aiki", "aiki_server", "aiki_operator", "asyncio", "aiohttp", "redis"})
"""The loggers whose errors are not those of users' code."""
_USERS = "aiki.run"
"""The logger of what workflow code logs, by `run.log`."""
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What logging itself puts into a record."""


@dataclass(frozen=True, slots=True)
class Fields:
    """What is written of a record: a flat object without secrets. Made once for a process, and shared by its formatters."""

    redactor: Redactor
    users: bool = False
    """Whether the process runs code of users, whose errors are theirs to see."""
    without: Collection[str] = ()
    """Attributes that a library puts into records, and that are no facts of the event."""
    objects: bool = True
    """Whether a field may hold an object. The operator's may not: an object of Kubernetes might be a Secret."""

    def __call__(self, record: logging.LogRecord) -> dict[str, Any]:
        """The fields, in the order in which they are written."""
        said = {name: value for name, value in vars(record).items() if name not in _STANDARD and name not in self.without}
        fields = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": event_of(record),
            "logger": record.name,
            **{name: value if self.objects or _plain(value) else HIDDEN for name, value in said.items()},
        }
        if record.exc_info and record.exc_info[1] is not None:
            whole = self.users and (record.name == _USERS or record.name.partition(".")[0] not in _OURS)
            fields["traceback"] = logging.Formatter().formatException(record.exc_info) if whole else traced(record.exc_info[1])
        return self.redactor.fields(fields)


class JsonLines(logging.Formatter):
    """Writes each record as one JSON object on one line."""

    def __init__(self, fields: Fields) -> None:
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        return json.dumps(self._fields(record), default=str)


def log_to(stream: TextIO, formatter: logging.Formatter, *, level: str | int = logging.INFO, force: bool = True) -> None:
    """Send the logs of the process to `stream`, and the errors that nobody catches with them. Without `force` handlers that are there stay."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=force)
    uncaught_to_log()


def _plain(value: object) -> bool:
    """A number, a text, an error, or a list of such."""
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_plain, value))
    return value is None or isinstance(value, str | int | float | BaseException)
