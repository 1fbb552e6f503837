"""One readable log out of several processes: a prefix says whose line it is, and structured lines are spelled out.

A line that is a JSON object with an `event` is shown as time, event and fields; any other line, a print or a traceback, as it came.
With `as_json` every line becomes one JSON object with the member `part`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any, TextIO

from aiki.cli.logs import paint, spelled
from aiki.cli.output.terminal import encodable, json_text, printable

COLOURS = {"dev": "36", "server": "34", "worker": "32"}
_WIDTH = max(map(len, COLOURS))


@dataclass(slots=True)
class DevLog:
    """Where all lines go."""

    out: TextIO
    colour: bool
    as_json: bool

    def line(self, part: str, text: str) -> None:
        """Write one line of one part."""
        fields = _parsed(text)
        if self.as_json:
            self._write(json_text({"part": part} | (fields or {"event": text}), encoding=self.out.encoding))
            return
        body = spelled(fields, colour=self.colour) if fields else printable(text)
        prefix = paint(COLOURS[part], f"{part:>{_WIDTH}} │", colour=self.colour)
        self._write("\n".join(f"{prefix} {row}" for row in body.split("\n")))

    def say(self, text: str) -> None:
        """Something that `aiki dev` itself has to tell."""
        self.line("dev", text)

    def _write(self, text: str) -> None:
        try:
            self.out.write(encodable(f"{text}\n", self.out.encoding))
            self.out.flush()
        except OSError:
            # The terminal or the reader of the pipe has gone, and with it the reason to run.
            self.out = open(os.devnull, "w")  # noqa: SIM115, PTH123 - for the rest of the process
            os.kill(os.getpid(), signal.SIGTERM)


def standard(*, as_json: bool) -> DevLog:
    """The journal of this terminal."""
    return DevLog(sys.stdout, colour=sys.stdout.isatty() and not as_json, as_json=as_json)


def _parsed(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        fields = json.loads(text)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) and "event" in fields else None
