"""The arguments and options that several commands share, declared once."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from aiki.cli.exit_codes import Exit, Failure

FILES = ("--data", "--input", "-i")
"""Options whose values are names of files, or are looked at for themselves."""

Url = Annotated[str, typer.Option("--url", envvar="AIKI_URL", help="The server.")]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="AIKI_TOKEN",
        help="The token of your namespace; better in the variable, because others see a command line and shells keep it.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text; errors too, on standard error.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or ref:NAME.", show_default=False)]


def json_argument(text: str | None, *, what: str) -> Any:
    """A JSON document given as it is, as @FILE, or as - for standard input; None where it is absent."""
    if text is None:
        return None
    source = _read(text, what=what)
    try:
        return json.loads(source)
    except RecursionError as error:
        raise Failure(Exit.USAGE, f"The {what} is nested too deeply to be read.") from error
    except ValueError as error:
        hint = (
            "A JSON string needs its own quotes inside those of the shell: '\"text\"'"
            if source.strip().isidentifier()
            else "Quote it for the shell: '{\"a\": 1}'"
        )
        raise Failure(Exit.USAGE, f"The {what} is not JSON: {error}.", hint) from error


def _read(text: str, *, what: str) -> str:
    if text == "-":
        return _decoded(sys.stdin.buffer.read(), what=what, source="standard input")
    if not text.startswith("@"):
        return _decoded(os.fsencode(text), what=what, source="the command line")
    try:
        data = Path(text[1:]).read_bytes()
    except (OSError, ValueError) as error:  # a ValueError where the name holds NUL
        raise Failure(Exit.USAGE, f"Cannot read the {what} from {text[1:]}: {error}.") from error
    return _decoded(data, what=what, source=text[1:])


def _decoded(data: bytes, *, what: str, source: str) -> str:
    """JSON is UTF-8, whatever the locale says; the mark that Windows writes before it is no part of it."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = f"byte 0x{data[error.start]:02x} at position {error.start}"
        hint = "Save or convert it as UTF-8, for example with: iconv -f latin1 -t utf-8"
        raise Failure(Exit.USAGE, f"The {what} from {source} is not UTF-8: {place}.", hint) from error


def only_text(arguments: Sequence[str]) -> None:
    """A Failure where an argument, other than the name of a file, was given in bytes that are no UTF-8."""
    for place, (before, argument) in enumerate(zip(["", *arguments], arguments, strict=False), 1):
        if before in FILES or argument.startswith("@"):
            continue
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise Failure(Exit.USAGE, f"Argument {place} of the command is not UTF-8.") from error
