"""The arguments and options that several commands share, declared once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from aiki.cli.exits import Exit, Failure

DEFAULT_URL = "http://localhost:8080"

Url = Annotated[str, typer.Option("--url", envvar="AIKI_URL", help="The server.")]
Token = Annotated[str | None, typer.Option("--token", envvar="AIKI_TOKEN", help="The token of your namespace.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text; errors too, on standard error.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or ref:NAME.", show_default=False)]


def json_argument(text: str | None, *, what: str) -> Any:
    """A JSON document given as it is, as @FILE, or as - for standard input; None where it is absent."""
    if text is None:
        return None
    source = _read(text, what=what)
    try:
        return json.loads(source)
    except ValueError as error:
        hint = (
            f"A JSON string needs its own quotes: '\"{source.strip()}\"'"
            if source.strip().isidentifier()
            else "Quote it for the shell: '{\"a\": 1}'"
        )
        raise Failure(Exit.USAGE, f"The {what} is not JSON: {error}.", hint) from error


def _read(text: str, *, what: str) -> str:
    if text == "-":
        return sys.stdin.read()
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(Exit.USAGE, f"Cannot read the {what} from {text[1:]}: {error}.") from error
