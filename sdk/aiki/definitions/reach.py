"""What the code of a workflow can call by name: its tasks, events and child workflows, found without running it.

A run that uses two tasks of one name would hand the result of one to the other, so two that one version reaches are refused when it is
registered. Followed are the names that the code reads (globals, modules, classes, variables of the function around it), through plain functions and
methods, and what lists, tuples, sets and dictionaries hold. What is imported inside a function, or made while a run goes on, is not seen here:
the run is paused before it uses the second.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from inspect import getattr_static
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from aiki.definitions.event import Event
from aiki.definitions.task import TaskDefinition
from aiki.definitions.workflow import VersionDefinition
from aiki.values.twice import refuse, same_function

Named = TaskDefinition[..., Any, Any] | Event[Any] | VersionDefinition[Any, Any]

_MISSING: Final = object()
_EMPTY: Final = CellType()
"""A variable that is not assigned yet."""
_NOT_FOLLOWED: Final = sys.stdlib_module_names | {"aiki"}
_READS: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF"})
_PARTS: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD"})


def refuse_two_of_one_name(version: VersionDefinition[Any, Any]) -> None:
    """ValueError, with both places, if the code reaches two different tasks, events or child workflows of one name."""
    known: dict[str, Named] = {version.called: version}
    for found in reached(version):
        first = known.setdefault(found.called, found)
        if first is not found and not _same(first, found):
            refuse(found.called, first.origin, found.origin)


def reached(version: VersionDefinition[Any, Any]) -> Iterator[Named]:
    """Everything with a name that the version's code can call, once each."""
    seen: dict[int, object] = {}
    left: list[object] = [version.fn]
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value  # kept alive, so that its id stays its own
        if isinstance(value, (TaskDefinition, Event, VersionDefinition)):
            yield value
        else:
            left.extend(_within(value))


def _same(first: Named, second: Named) -> bool:
    if first.origin.again(second.origin):
        return True
    if isinstance(first, Event):
        return isinstance(second, Event) and first.same(second)
    return not isinstance(second, Event) and same_function(first.fn, second.fn)


def _within(value: object) -> Iterator[object]:
    """What is one step away."""
    match value:
        case FunctionType():
            if _followed(value):
                yield from _read_by(value)
        case MethodType():
            yield value.__func__
        case partial():
            yield from (value.func, *value.args, *value.keywords.values())
        case staticmethod() | classmethod():
            yield value.__func__
        case type():
            if _followed(value):
                yield from (part for part in vars(value).values() if isinstance(part, (FunctionType, staticmethod, classmethod)))
        case dict():
            yield from list(value.values())
        case list() | tuple() | set() | frozenset():
            yield from list(value)


def _followed(value: FunctionType | type) -> bool:
    return str(value.__module__).partition(".")[0] not in _NOT_FOLLOWED


def _read_by(function: FunctionType) -> Iterator[object]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    around = {name: cell.cell_contents for name, cell in cells if cell != _EMPTY}
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    yield from _read_in(function.__code__, function.__globals__, around)
    wrapped = vars(function).get("__wrapped__")
    if wrapped is not None:
        yield wrapped


def _read_in(code: CodeType, namespace: Mapping[str, Any], around: Mapping[str, Any]) -> Iterator[object]:
    for name, *parts in _names(code):
        value = around.get(name, _MISSING) if name in code.co_freevars else namespace.get(name, _MISSING)
        for part in parts:
            if not isinstance(value, (ModuleType, type)):
                break
            value = getattr_static(value, part, _MISSING)
        if value is not _MISSING:
            yield value
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _read_in(inner, namespace, {name: value for name, value in around.items() if name not in code.co_cellvars})


def _names(code: CodeType) -> list[list[str]]:
    """The dotted names that the code reads."""
    names = list[list[str]]()
    open_name: list[str] | None = None
    for instruction in dis.get_instructions(code):
        if instruction.opname in _READS:
            open_name = [instruction.argval]
            names.append(open_name)
        elif instruction.opname in _PARTS and open_name is not None:
            open_name.append(instruction.argval)
        elif instruction.opname != "EXTENDED_ARG":
            open_name = None
    return names
