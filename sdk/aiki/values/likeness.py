"""Whether a value that was written came back as what it was: to the type, in every field.

`==` alone does not tell: True equals 1, a NamedTuple equals a tuple, and a model of pydantic may define its own equality. What is not
part of a value is not asked for: private attributes, caches of properties, which fields of a model were set, the name of a time zone.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from datetime import datetime, time
from enum import Enum
from typing import Any, Final

from pydantic import BaseModel

_ATOMS: Final = frozenset({str, int, bool, float, bytes, type(None)})
_ABSENT: Final = object()


def same(value: Any, back: Any) -> bool:
    """Whether `back` is `value`, to the type; an int that reads back as the equal float is the same, as annotations have it."""
    kind = type(value)
    if kind is not type(back):
        return (kind is int and type(back) is float and value == back) or _same_generic(value, back)
    if kind in _ATOMS:
        return bool(value == back)
    if kind is list or kind is tuple:
        return len(value) == len(back) and all(map(same, value, back))
    if kind is dict:
        return _same_dict(value, back)
    if isinstance(value, BaseModel):
        return _same_model(value, back)
    for kinds, alike in _RULES:
        if isinstance(value, kinds):
            return alike(value, back)
    return _same_dataclass(value, back) if is_dataclass(value) else _same_object(value, back)


def difference(value: Any, back: Any, where: str = "") -> str:
    """Where a value is not the same, and what to write instead."""
    inner = _first_inner_difference(value, back)
    if inner is not None:
        name, old, new = inner
        return difference(old, new, f"{where}.{name}" if where else name)
    prefix = f"{where}: " if where else ""
    told = _of_its_kind(value)
    if told is not None:
        return f"{prefix}{told}"
    old_kind, new_kind = type(value), type(back)
    if old_kind is new_kind:
        return f"{prefix}{_one(old_kind)} does not come back as it was: have it written whole, by its annotation or a serializer"
    if isinstance(value, new_kind) and not isinstance(value, Enum):
        return (
            f"{prefix}{_one(old_kind)} comes back as {_named(new_kind)}, without what {_named(new_kind)} does not have: "
            f"annotate with {_named(old_kind)}, or with a union that has a discriminator, or pass {_one(new_kind)}"
        )
    return (
        f"{prefix}{_one(old_kind)} comes back as {_named(new_kind)}: annotate with {_named(old_kind)} alone, "
        f"or give a union of such types a discriminator, or pass {_one(new_kind)}"
    )


def _of_its_kind(value: Any) -> str | None:
    """Of what is known to lose something, whatever its annotation."""
    if isinstance(value, (datetime, time)) and value.tzinfo is None and value.fold:
        return f"{_one(type(value))} with fold=1 and no time zone comes back with fold=0: give it its time zone, or pass it in UTC"
    if isinstance(value, deque) and value.maxlen is not None:
        return f"a deque with maxlen={value.maxlen} comes back without it: pass a list, and make the deque where it is used"
    if isinstance(value, Iterator):
        return f"{_one(type(value))} can be gone through only once: annotate with list, and pass list(…)"
    return None


def _same_dict(value: Any, back: Any) -> bool:
    return len(value) == len(back) and all(map(same, value, back)) and all(map(same, value.values(), back.values()))


def _same_mapping(value: Any, back: Any) -> bool:
    return getattr(value, "default_factory", None) == getattr(back, "default_factory", None) and _same_dict(value, back)


def _same_set(value: Any, back: Any) -> bool:
    if len(value) != len(back):
        return False
    found = {item: item for item in back}
    odd = []  # such as an instant of a repeated hour, which equals nothing
    for item in value:
        other = found.pop(item, _ABSENT)
        if other is _ABSENT:
            odd.append(item)
        elif not same(item, other):
            return False
    return all(any(same(item, other) for other in found) for item in odd)


def _same_deque(value: deque[Any], back: deque[Any]) -> bool:
    return value.maxlen == back.maxlen and len(value) == len(back) and all(map(same, value, back))


def _same_instant(value: Any, back: Any) -> bool:
    """By what clock and offset show: Python calls an instant of a zone's repeated hour unequal to itself in any other zone.

    Without a zone nothing but `fold` tells which of the two passes of that hour it is.
    """
    if (value.tzinfo is None) != (back.tzinfo is None) or value.utcoffset() != back.utcoffset():
        return False
    if value.tzinfo is None and value.fold != back.fold:
        return False
    return bool(value.replace(tzinfo=None) == back.replace(tzinfo=None))


def _same_model(value: BaseModel, back: BaseModel) -> bool:
    old, new = value.__dict__, back.__dict__
    return all(same(old.get(name, _ABSENT), new.get(name, _ABSENT)) for name in type(back).model_fields) and same(
        value.__pydantic_extra__, back.__pydantic_extra__
    )


def _same_generic(value: Any, back: Any) -> bool:
    """`Box(item=1)`, which type checkers take for a `Box[int]`, comes back as one."""
    return (
        isinstance(value, BaseModel)
        and isinstance(back, type(value))
        and back.__pydantic_generic_metadata__["origin"] is type(value)
        and _same_model(value, back)
    )


def _same_dataclass(value: Any, back: Any) -> bool:
    return all(same(getattr(value, field.name, _ABSENT), getattr(back, field.name, _ABSENT)) for field in fields(value))


def _same_object(value: Any, back: Any) -> bool:
    """By its own equality; of a class that has none, by its attributes."""
    kind: Any = type(value)
    if kind.__eq__ is object.__eq__:
        return value is back or (hasattr(value, "__dict__") and same(vars(value), vars(back)))
    return bool(value == back)


_RULES: Final[tuple[tuple[Any, Callable[[Any, Any], bool]], ...]] = (
    (Enum, lambda value, back: value is back),
    ((datetime, time), _same_instant),
    ((set, frozenset), _same_set),
    (deque, _same_deque),
    (defaultdict, _same_mapping),
    (dict, _same_dict),
    ((list, tuple), lambda value, back: len(value) == len(back) and all(map(same, value, back))),
)


def _first_inner_difference(value: Any, back: Any) -> tuple[str, Any, Any] | None:
    if type(value) is not type(back):
        return None
    return next(((name, old, new) for name, old, new in _inner(value, back) if not same(old, new)), None)


def _inner(value: Any, back: Any) -> Iterator[tuple[str, Any, Any]]:
    """What is in both, by the name that people know it by."""
    if isinstance(value, BaseModel):
        names = [*type(value).model_fields, *(value.__pydantic_extra__ or ())]
        yield from ((name, getattr(value, name, None), getattr(back, name, None)) for name in names)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from ((field.name, getattr(value, field.name, None), getattr(back, field.name, None)) for field in fields(value))
    elif isinstance(value, dict) and len(value) == len(back):
        yield from (("(a key)", old, new) for old, new in zip(value, back, strict=True))
        yield from ((str(key), old, new) for key, old, new in zip(value, value.values(), back.values(), strict=True))
    elif isinstance(value, (list, tuple, deque)) and len(value) == len(back):
        yield from ((str(index), old, new) for index, (old, new) in enumerate(zip(value, back, strict=True)))


def _named(kind: type) -> str:
    return "None" if kind is type(None) else kind.__qualname__.rsplit(".", 1)[-1]


def _one(kind: type) -> str:
    name = _named(kind)
    return name if name == "None" else f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"
