"""Two definitions of one name: refused, because a recorded result is found by the name of the call, and would be handed to the other one.

The second one is refused where it is defined, if the module that defines it holds the first one already, as its own or imported; else where a
version is registered whose code reaches both (definitions/reach.py); else where a run uses it beside the first. A module that is executed again, by a reload, or as a program that is imported as well, defines the same things
once more: that is no second definition. Nor is a cell of a notebook that is run again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Final, NoReturn

from aiki.values.names import is_user_code


class Origin:
    """Where something with a name was defined: the place, and the execution of the module."""

    __slots__ = ("file", "module", "namespace", "place", "qualname", "spec")

    def __init__(self, namespace: Mapping[str, Any], *, file: str, line: int, qualname: str, top: bool) -> None:
        self.place: Final = f"{file}:{line}"
        self.file: Final = file
        self.qualname: Final = qualname
        self.module: Final = namespace.get("__name__")
        self.spec: Final = namespace.get("__spec__")  # a reload makes a new one, and keeps the module's namespace
        self.namespace: Final = namespace if top and "__file__" in namespace else None
        """What to search for an earlier definition. What is defined in functions may exist many times, and in a notebook anything may."""

    def again(self, other: Origin) -> bool:
        """Whether the other one is from another execution of the same module: what it has defined is out of date, not different."""
        if self.module == other.module:
            return self.spec is not other.spec
        return (self.file, self.qualname) == (other.file, other.qualname)


def origin_of(function: Callable[..., Any]) -> Origin:
    """Of a function."""
    code = getattr(function, "__code__", None)
    file, line = (code.co_filename, code.co_firstlineno) if code else (repr(function), 0)
    qualname = getattr(function, "__qualname__", repr(function))
    return Origin(getattr(function, "__globals__", {}), file=file, line=line, qualname=qualname, top="<locals>" not in qualname)


def origin_of_caller() -> Origin:
    """Of the line that calls into Aiki."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  the interpreter's own name for it
    while frame is not None and not is_user_code(frame):
        frame = frame.f_back
    if frame is None:
        return Origin({}, file="?", line=0, qualname="?", top=False)
    top = frame.f_code.co_name == "<module>"
    return Origin(frame.f_globals, file=frame.f_code.co_filename, line=frame.f_lineno, qualname=frame.f_code.co_qualname, top=top)


def refuse_second(what: str, origin: Origin, earlier: Callable[[object], Origin | None]) -> None:
    """ValueError if the module holds another definition already; `earlier` gives the origin of an object that is of this kind and name, and another one."""
    for value in list((origin.namespace or {}).values()):
        found = earlier(value)
        if found is not None and not origin.again(found):
            refuse(what, found, origin)


def refuse(what: str, first: Origin, second: Origin) -> NoReturn:
    """Name both places."""
    raise ValueError(told(what, first, second))


def told(what: str, first: Origin, second: Origin) -> str:
    """The message."""
    return (
        f"there are two of {what}: one at {first.place} and one at {second.place}. What was recorded for one would be handed to the other: "
        "give one of them a name of its own"
    )


def same_function(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether two functions are the same code with the same variables of the function around it: one that was defined again."""
    if getattr(one, "__code__", one) is not getattr(other, "__code__", other):
        return False
    cells = [[cell.cell_contents for cell in getattr(function, "__closure__", None) or ()] for function in (one, other)]
    return all(left is right for left, right in zip(*cells, strict=True))
