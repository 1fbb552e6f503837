"""`MODULE[:attribute]` to the workflows in it, imported as Python would from the current folder."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from aiki.cli.exit_codes import Exit, Failure
from aiki.definitions.workflow import VersionDefinition, WorkflowDefinition

Carried = WorkflowDefinition | VersionDefinition[Any, Any]


def load_workflows(target: str) -> list[Carried]:
    """The workflows of `package.module`, or those that `package.module:attribute` names; never an empty list."""
    name, _, attribute = target.partition(":")
    module = _import(name)
    found = _named(module, attribute) if attribute else _all(vars(module).values(), of=module)
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
    except Exception as error:  # user code
        if isinstance(error, ModuleNotFoundError) and error.name is not None and f"{name}.".startswith(f"{error.name}."):
            hint = "Give it as Python imports it: `aiki worker app.workflows` for app/workflows.py, from the folder that holds app/."
            raise Failure(Exit.USAGE, f"There is no module {name} to import from {folder}.", hint) from error
        raise Failure(Exit.USAGE, f"{name} cannot be imported.\n{_own_traceback(error)}") from error


def _own_traceback(error: Exception) -> str:
    """The traceback without the frames of this file and of Python's import machinery."""
    report = traceback.TracebackException.from_exception(error)
    ours = (__file__, importlib.__file__)
    frames = [frame for frame in report.stack if frame.filename not in ours and not frame.filename.startswith("<frozen importlib")]
    report.stack = traceback.StackSummary.from_list(frames)
    return "".join(report.format()).rstrip()


def _named(module: ModuleType, attribute: str) -> list[Carried]:
    try:
        value = getattr(module, attribute)
    except AttributeError as error:
        names = ", ".join(key for key, item in vars(module).items() if isinstance(item, WorkflowDefinition)) or "none"
        raise Failure(Exit.USAGE, f"{module.__name__} has no {attribute}.", f"Workflows defined there: {names}") from error
    return _all(value if isinstance(value, Iterable) and not isinstance(value, str) else [value])


def _all(values: Iterable[object], *, of: ModuleType | None = None) -> list[Carried]:
    """Each once. Two of one name are both taken: with a version in common the worker refuses them, and names both places.

    Of a module's versions those of workflows that it has no name for, unless they are imported: those are for starting children.
    """
    values = list(values)
    workflows = {id(value): value for value in values if isinstance(value, WorkflowDefinition)}
    held = {id(version) for workflow in workflows.values() for version in workflow.versions.values()}
    versions = {
        id(value): value
        for value in values
        if isinstance(value, VersionDefinition) and id(value) not in held and (of is None or value.__module__ == of.__name__)
    }
    return [*workflows.values(), *versions.values()]
