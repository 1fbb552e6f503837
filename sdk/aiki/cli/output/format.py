"""How durations, ages and payloads read in a terminal."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from aiki.cli.output.terminal import json_text, one_line

_ESCAPES = re.compile(r"\\\\|(?:\\u[0-9a-f]{4})+")
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def duration(span: timedelta | None) -> str:
    """`12 ms`, `3.2 s`, `2 min 5 s`, `11 h 59 min`, `1 d 2 h`; nothing for None."""
    if span is None:
        return ""
    seconds = max(span.total_seconds(), 0.0)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR:
        return _two(whole, _MINUTE, "min", 1, "s")
    if whole < _DAY:
        return _two(whole, _HOUR, "h", _MINUTE, "min")
    return _two(whole, _DAY, "d", _HOUR, "h")


def payload(value: Any, *, limit: int = 60) -> str:
    """Compact JSON, cut with an ellipsis; nothing for null."""
    return "" if value is None else cut(json_text(value), limit=limit)


def document(model: BaseModel) -> str:
    """A wire model as JSON text on one line."""
    return json_text(model.model_dump())


def readable(label: str) -> str:
    """The label of a call with letters of all scripts, which it has as JSON's escapes because its arguments are canonical."""
    return _ESCAPES.sub(lambda found: found[0] if found[0] == "\\\\" else str(json.loads(f'"{found[0]}"')), label)


def cut(text: str, *, limit: int) -> str:
    """The first line of the text, at most `limit` characters."""
    line = one_line(text.partition("\n")[0])
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _two(whole: int, unit: int, name: str, smaller: int, smaller_name: str) -> str:
    rest = whole % unit // smaller
    return f"{whole // unit} {name} {rest} {smaller_name}" if rest else f"{whole // unit} {name}"
