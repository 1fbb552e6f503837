"""Copies of default values, so that what one call does to its own is not seen by the next.

Copied is what values are made of: collections, models, dataclasses, and those within them. Anything else, such as a client that is a
parameter's default, is shared as Python shares it.
"""

from __future__ import annotations

from collections import deque
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Any, Final

from pydantic import BaseModel

_ATOMS: Final = frozenset({str, int, float, bool, bytes, type(None), type})


def fresh(value: Any) -> Any:
    """A copy of the value; the value itself if nothing in it can be changed."""
    if type(value) in _ATOMS or isinstance(value, type):
        return value
    if isinstance(value, dict):
        return _filled(copy(value), value.items())
    if isinstance(value, (list, deque)):
        return _filled(copy(value), enumerate(value))
    if isinstance(value, (set, bytearray)):
        return copy(value)
    if isinstance(value, tuple):
        return _tuple(value)
    if isinstance(value, BaseModel):
        made = value.model_copy()
        _filled(made.__dict__, value.__dict__.items())
        return made
    return _dataclass(value) if is_dataclass(value) else value


def _filled(made: Any, inner: Any) -> Any:
    for key, value in inner:
        made[key] = fresh(value)
    return made


def _tuple(value: tuple[Any, ...]) -> tuple[Any, ...]:
    inner = [fresh(one) for one in value]
    if all(new is old for new, old in zip(inner, value, strict=True)):
        return value
    kind: Any = type(value)
    return kind._make(inner) if hasattr(kind, "_make") else kind(inner)  # type: ignore[no-any-return]


def _dataclass(value: Any) -> Any:
    made = copy(value)
    for field in fields(value):
        if hasattr(value, field.name):
            object.__setattr__(made, field.name, fresh(getattr(value, field.name)))  # also of a frozen one
    return made
