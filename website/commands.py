"""The page of the command line, as typer has it: each command with its arguments, options, variables and defaults.

Typer brings a copy of click or uses an installed one, by its release; both have the attributes that are read here, so none of their types is named.
"""

from __future__ import annotations

from typing import Any

import typer.main

from aiki.cli.app import build
from aiki.cli.exit_codes import EXPLAINED


def made() -> str:
    """A section for each command, in the order in which `aiki --help` lists them."""
    group: Any = typer.main.get_command(build())
    return "\n".join([*(_section(name, command) for name, command in group.commands.items()), f"## Exit codes\n\n{_codes()}"])


def _section(name: str, command: Any) -> str:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    usage = " ".join(["aiki", name, "[OPTIONS]", *map(_argument, arguments)])
    rows = [f"| `{_argument(argument)}` | {_told(argument)} | | |" for argument in arguments] + [_option(option) for option in options]
    table = "\n".join(["| | | default | variable |", "|---|---|---|---|", *rows])
    return f"## `aiki {name}`\n\n{command.help}\n\n```text\n{usage}\n```\n\n{table}\n"


def _argument(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _option(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    default = "" if option.default in {None, False} else f"`{option.default}`"
    variable = f"[`{option.envvar}`](settings.md#{option.envvar})" if option.envvar else ""
    return f"| {names} | {_told(option)} | {default} | {variable} |"


def _told(parameter: Any) -> str:
    return (parameter.help or "").replace("|", "\\|")


def _codes() -> str:
    codes = EXPLAINED.removeprefix("Exit codes: ").replace("\n", " ").replace("ended, the", "ended; the").strip().rstrip(".")
    rows = [code.strip().partition(" ")[::2] for code in codes.split(", ")]
    return "\n".join(["| code | meaning |", "|---|---|", *(f"| {code} | {meaning} |" for code, meaning in rows)]) + "\n"
