"""The command line put together: which commands there are, and in what order help lists them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from typing import Annotated

import typer

from aiki.cli.commands.control import cancel, pause, resume, retry, send
from aiki.cli.commands.processes import dev, server, worker
from aiki.cli.commands.runs import runs, start
from aiki.cli.commands.show import show
from aiki.cli.exit_codes import EXPLAINED
from aiki.cli.options import only_text
from aiki.cli.session import failures

PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Run Aiki": (dev, worker, server),
    "Work with runs": (start, runs, show, send, cancel, pause, resume, retry),
}
HELP = "Durable execution in plain Python: start runs, watch them, run the parts that run them."


def run() -> None:
    """Parse the command line and leave with the exit code of the command."""
    try:
        with failures():
            only_text(sys.argv[1:])
    except typer.Exit as refused:
        sys.exit(refused.exit_code)
    build()()


def build() -> typer.Typer:
    """The application, made anew: it has no state of its own."""
    app = typer.Typer(
        name="aiki",
        epilog=EXPLAINED,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(help=HELP)(_options)
    for panel, commands in PANELS.items():
        for command in commands:
            app.command(rich_help_panel=panel)(command)
    return app


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"aiki {metadata.version('aiki')}")
        raise typer.Exit


def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    """What comes before a command."""
