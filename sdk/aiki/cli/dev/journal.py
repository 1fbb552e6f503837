"""One readable log out of several processes: a prefix says whose line it is, and structured lines are spelled out.

A line that is a JSON object with an `event` (or `message`) is shown as time, event and fields; any other line, a print or
a traceback, as it came. With `as_json` every line becomes one JSON object with the member `part`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

COLOURS = {"dev": "36", "server": "34", "worker": "32", "postgres": "35", "valkey": "33"}
QUIET = frozenset(
    {
        "event",
        "message",
        "msg",
        "level",
        "time",
        "timestamp",
        "ts",
        "at",
        "logger",
        "service",
        "component",
        "exception",
        "exc_info",
        "stack",
    }
)
_LEVEL_COLOURS = {"warning": "33", "error": "31", "critical": "31"}
_WIDTH = max(map(len, COLOURS))


@dataclass(slots=True)
class Journal:
    """Where all lines go."""

    out: TextIO
    colour: bool
    as_json: bool

    def line(self, part: str, text: str) -> None:
        """Write one line of one part."""
        fields = _parsed(text)
        if self.as_json:
            self.out.write(json.dumps({"part": part} | (fields or {"event": text}), ensure_ascii=False, default=str) + "\n")
        else:
            body = self._spelled(fields) if fields else text
            for row in body.split("\n"):
                self.out.write(f"{self._prefix(part)} {row}\n")
        self.out.flush()

    def say(self, text: str) -> None:
        """Something that `aiki dev` itself has to tell."""
        self.line("dev", text)

    def _prefix(self, part: str) -> str:
        return self._paint(COLOURS.get(part, "37"), f"{part:>{_WIDTH}} │")

    def _spelled(self, fields: dict[str, Any]) -> str:
        event = str(fields.get("event") or fields.get("message") or fields.get("msg"))
        level = str(fields.get("level", "info")).lower()
        rest = "  ".join(f"{key}={_value(value)}" for key, value in fields.items() if key not in QUIET and value is not None)
        head = self._paint(_LEVEL_COLOURS[level], event) if level in _LEVEL_COLOURS else event
        text = f"{self._paint('2', _clock(fields))} {head}  {self._paint('2', rest)}".rstrip()
        trace = fields.get("exception") or fields.get("exc_info") or fields.get("stack")
        return f"{text}\n{str(trace).rstrip()}" if trace else text

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and text else text


def standard(*, as_json: bool) -> Journal:
    """The journal of this terminal."""
    return Journal(sys.stdout, colour=sys.stdout.isatty() and not as_json, as_json=as_json)


def _parsed(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        fields = json.loads(text)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) and fields.keys() & {"event", "message", "msg"} else None


def _clock(fields: dict[str, Any]) -> str:
    stamp = next((fields[key] for key in ("time", "timestamp", "ts", "at") if key in fields), None)
    try:
        at = datetime.fromisoformat(stamp) if isinstance(stamp, str) else datetime.now(UTC)
    except ValueError:
        at = datetime.now(UTC)
    return at.astimezone().strftime("%H:%M:%S.%f")[:-3]


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return f'"{text}"' if " " in text and isinstance(value, str) else text
