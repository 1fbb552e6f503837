"""JSON of values whose order or text is that of a process, made the same in all.

A set is written in the order of its items' canonical text: Python's own is that of a process's hash seed. An IPv6 address that maps an
IPv4 one is written as it was before Python 3.13. Which types need this is seen once, in the schema that pydantic made of an annotation.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import is_dataclass
from enum import Enum
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from typing import Any, Final

from pydantic import BaseModel, RootModel

_canonical: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_SETS: Final = (set, frozenset)
_SIMPLE: Final = frozenset({str, int, float, bool, type(None)})


def ordered(value: Any, written: Any) -> Any:
    """`written` is `value` as JSON; the answer is the same in every process."""
    if type(value) in _SIMPLE:
        return written
    if isinstance(value, Enum):
        return ordered(value.value, written)
    if isinstance(value, RootModel):
        return ordered(value.root, written)
    if isinstance(written, list):
        return _list(value, written)
    if isinstance(written, dict):
        return _dict(value, written)
    if isinstance(value, (IPv6Address, IPv6Network, IPv6Interface)) and written == str(value):
        return ipv6_text(value)
    return written


def ipv6_text(value: IPv6Address | IPv6Network | IPv6Interface) -> str:
    """The text that Python 3.11 and 3.12 write: from 3.13 on the last 32 bits of a mapped IPv4 address are dotted."""
    address, slash, bits = str(value).partition("/")
    head, _, last = address.rpartition(":")
    last, percent, zone = last.partition("%")
    if "." not in last:
        return str(value)
    high_a, high_b, low_a, low_b = map(int, last.split("."))
    return f"{head}:{high_a << 8 | high_b:x}:{low_a << 8 | low_b:x}{percent}{zone}{slash}{bits}"


def has_serializers(schema: Any) -> bool:
    """Whether functions of the user's write some of it: what they answer may be a set where the value has none."""
    return any(not _of_pydantic(written["function"]) for written in _functions(schema))


def needs_order(schema: Any) -> bool:
    """Whether a schema of pydantic's has sets, addresses, or functions that may answer with one."""
    return next(_functions(schema), None) is not None or any(
        part.get("type") in ("set", "frozenset")
        or (part.get("type") == "enum" and any(type(member.value) not in _SIMPLE for member in part["members"]))
        for part in _parts(schema)
    )


def _functions(schema: Any) -> Iterator[dict[str, Any]]:
    written = (part.get("serialization") for part in _parts(schema))
    return (how for how in written if isinstance(how, dict) and "function" in how)


def _of_pydantic(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).partition(".")[0] == "pydantic"


def _list(value: Any, written: list[Any]) -> list[Any]:
    if not isinstance(value, (*_SETS, list, tuple, deque)) or len(value) != len(written):
        return written
    parts = [ordered(inner, text) for inner, text in zip(value, written, strict=True)]
    return sorted(parts, key=_canonical) if isinstance(value, _SETS) else parts


def _dict(value: Any, written: dict[str, Any]) -> dict[str, Any]:
    if isinstance(value, BaseModel):
        held = vars(value) | (value.__pydantic_extra__ or {})
        return {key: ordered(held.get(key), text) for key, text in written.items()}
    if is_dataclass(value):
        return {key: ordered(getattr(value, key, None), text) for key, text in written.items()}
    if isinstance(value, dict) and len(value) == len(written):
        pairs = zip(value.items(), written.items(), strict=True)
        return {ordered(key, text_key): ordered(inner, text) for (key, inner), (text_key, text) in pairs}
    return written


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """All dictionaries in a schema, each once."""
    seen: set[int] = set()
    left: list[Any] = [schema]
    while left:
        part = left.pop()
        if not isinstance(part, (dict, list, tuple)) or id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            yield part
            left.extend(part.values())
        else:
            left.extend(part)
