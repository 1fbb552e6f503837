"""The terminal: where everything that the command line prints passes one place, which lets no markup and no control character through.

What a run holds, what a server answers and what a worker logs comes from others. A terminal obeys escape sequences (it changes its title, writes into the
clipboard, hides lines), Rich obeys `[markup]`, and readers are fooled by characters that turn the direction of writing or take no
room. All of that is shown as an escape that is visible: `printable` in text, and in JSON as JSON writes it.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

PIPE_COLUMNS: Final = 10_000
"""Where nobody reads on a screen nothing is cut."""
_VISIBLE: Final = frozenset("\n\t")
_SUSPECT: Final = re.compile(r"[^\x20-\x7e]")
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of Unicode: control, format (bidi, zero width), half of a pair, private use, unassigned, and separators of lines."""
_BLANK: Final = frozenset("\u115f\u1160\u3164\uffa0\u2800")
"""Letters and symbols that look like nothing."""


class SafeConsole(Console):
    """A console for text from outside: its segments hold none of what `printable` escapes, and no string is read as markup."""

    def __init__(self, *, stderr: bool = False) -> None:
        terminal = (sys.stderr if stderr else sys.stdout).isatty()
        super().__init__(
            stderr=stderr,
            soft_wrap=stderr or not terminal,
            width=None if terminal else PIPE_COLUMNS,
            markup=False,
            emoji=False,
            highlight=False,
        )

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of anything that can be printed."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else encodable(printable(text), self.encoding), style, control)


def say(text: str, *, err: bool = False) -> None:
    """Print a line of text from outside as it is, whatever the width of the terminal."""
    stream = sys.stderr if err else sys.stdout
    stream.write(encodable(printable(text), stream.encoding) + "\n")
    stream.flush()


def printable(text: str) -> str:
    """The text with everything escaped that a terminal obeys or a reader does not see; lines and tabs stay."""
    return _SUSPECT.sub(lambda found: _shown(found[0]), text)


def one_line(text: str) -> str:
    """`printable`, with line breaks and tabs escaped as well."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def encodable(text: str, encoding: str | None) -> str:
    """The text with what this encoding does not have escaped."""
    name = encoding or "utf-8"
    return text.encode(name, "backslashreplace").decode(name)


def json_text(value: Any, *, indent: int | None = None, encoding: str | None = None) -> str:
    """JSON that reads as it was written: letters of all scripts as they are, and as JSON's escapes what a terminal obeys or cannot show."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=_other)
    name = encoding or sys.stdout.encoding or "utf-8"

    def written(found: re.Match[str]) -> str:
        char = found[0]
        return (
            char if char == "\n" or (not _hidden(char) and _fits(char, name)) else json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"
        )

    return _SUSPECT.sub(written, text)


def _other(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _shown(char: str) -> str:
    if char in _VISIBLE or not _hidden(char):
        return char
    number = ord(char)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _hidden(char: str) -> bool:
    return unicodedata.category(char) in _HIDDEN or char in _BLANK


def _fits(char: str, encoding: str) -> bool:
    try:
        char.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
