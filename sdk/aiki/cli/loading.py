"""`MODULE[:attribute]` to the workflows in it, imported as Python would from the current folder."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from aiki.cli.exits import Exit, Failure
from aiki.workflow import WorkflowDefinition


def load_workflows(target: str) -> list[WorkflowDefinition]:
    """The workflows of `package.module`, or those that `package.module:attribute` names; never an empty list."""
    name, _, attribute = target.partition(":")
    module = _import(name)
    found = _named(module, attribute) if attribute else _all(vars(module).values())
    if not found:
        raise Failure(
            Exit.USAGE, f"{target} defines no workflow.", 'A module has one where it says: onboarding = workflow("user-onboarding")'
        )
    return found


def _import(name: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # a module that the user's code asks for: the traceback says where
        hint = "Give it as Python imports it: `aiki worker app.workflows` for app/workflows.py, from the folder that holds app/."
        raise Failure(Exit.USAGE, f"There is no module {name} to import from {folder}.", hint) from error


def _named(module: ModuleType, attribute: str) -> list[WorkflowDefinition]:
    try:
        value = getattr(module, attribute)
    except AttributeError as error:
        names = ", ".join(key for key, item in vars(module).items() if isinstance(item, WorkflowDefinition)) or "none"
        raise Failure(Exit.USAGE, f"{module.__name__} has no {attribute}.", f"Workflows defined there: {names}") from error
    return _all(value if isinstance(value, Iterable) and not isinstance(value, str) else [value])


def _all(values: Iterable[object]) -> list[WorkflowDefinition]:
    found: dict[str, WorkflowDefinition] = {}
    for value in values:
        if isinstance(value, WorkflowDefinition):
            found.setdefault(value.name, value)
    return list(found.values())
