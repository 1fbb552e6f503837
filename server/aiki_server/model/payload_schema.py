"""Whether a payload fits a JSON Schema that a worker has sent: untrusted, so read in a few words and with a bounded number of steps.

Heeded are `type`, `properties`, `required`, `additionalProperties`, `items`, `anyOf`, `enum` and `const`. Every other word of JSON Schema only
refuses more, and is left aside; so there is no pattern to backtrack in, no reference to follow or to recurse through, nothing to fetch. If
the steps of a check are used up, what is left counts as fitting: the run finds out, and pauses. See decision 36.

A message names places that the schema names itself, and kinds of JSON, but nothing of the payload (I46).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

STEPS: Final = 20_000
"""Of one payload, some ten milliseconds: each value that is held against a schema is one, and each name that is looked for."""
MAX_DEPTH: Final = 32
"""Of a schema; payloads that are nested deeper are looked at so deep."""

_SPOKEN: Final = {
    "null": "null",
    "boolean": "a boolean",
    "integer": "an integer",
    "number": "a number",
    "string": "a string",
    "array": "an array",
    "object": "an object",
}
_KINDS: Final = {type(None): "null", bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}
_EACH: Final = "*"
"""Stands for the name of a member that only the payload names."""


class SchemaError(Exception):
    """What was sent is no schema; the message says why."""


class Misfit(NamedTuple):
    """Where a payload does not fit, and why."""

    place: tuple[str | int, ...]
    expected: str
    found: str

    def __str__(self) -> str:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.place)
        return f"payload{where}: {self.expected} is expected here, and this is {self.found}"

    def within(self, part: str | int) -> Misfit:
        """The same, seen from the value around it."""
        return self._replace(place=(part, *self.place))


class Steps:
    """How many a check has left."""

    __slots__ = ("left",)

    def __init__(self, left: int = STEPS) -> None:
        self.left = left


class PayloadSchema:
    """One schema, or a part of one. Made by `read`; holds nothing of the text."""

    __slots__ = ("_any_of", "_closed", "_cost", "_items", "_kinds", "_members", "_others", "_required", "_values")

    def __init__(self, schema: Mapping[str, Any], depth: int) -> None:
        self._kinds = _kinds(schema.get("type"))
        self._values = _values(schema)
        self._members = [(name, _part(inner, depth)) for name, inner in _mapping(schema, "properties").items()]
        self._required = _names(schema.get("required", []))
        others = True if "patternProperties" in schema else schema.get("additionalProperties", True)
        self._closed = others is False
        self._others = None if isinstance(others, bool) else _part(others, depth)
        items = schema.get("items", True)
        self._items = None if items is True or isinstance(items, list) or "prefixItems" in schema else _part(items, depth)
        self._any_of = [_part(choice, depth) for choice in _listed(schema, "anyOf")]
        self._cost = 1 + len(self._members) + len(self._required)

    def misfit(self, value: Any, steps: Steps) -> Misfit | None:
        """What is wrong with a value, if anything is."""
        steps.left -= self._cost
        if steps.left < 0:
            return None
        kind = _kind(value)
        if self._kinds is not None and kind not in self._kinds:
            return Misfit((), _either(self._kinds), _SPOKEN[kind])
        if self._values is not None and _key(value) not in self._values:
            return Misfit((), "one of the values that the schema lists", "another one")
        wrong = self._in_object(value, steps) if kind == "object" else self._in_array(value, steps) if kind == "array" else None
        return wrong or self._of_choices(value, kind, steps)

    def _in_object(self, value: dict[str, Any], steps: Steps) -> Misfit | None:
        for name in self._required:
            if name not in value:
                return Misfit((), f"a member {name!r}", "an object without it")
        for name, part in self._members:
            if name in value and (wrong := part.misfit(value[name], steps)) is not None:
                return wrong.within(name)
        return self._in_others(value, steps) if self._closed or self._others is not None else None

    def _in_others(self, value: dict[str, Any], steps: Steps) -> Misfit | None:
        known = {name for name, _ in self._members}
        for name, inner in value.items():
            steps.left -= 1
            if steps.left < 0:
                return None
            if name in known:
                continue
            if self._others is None:
                return Misfit((), "no member but those that the schema names", "an object with another one")
            if (wrong := self._others.misfit(inner, steps)) is not None:
                return wrong.within(_EACH)
        return None

    def _in_array(self, value: list[Any], steps: Steps) -> Misfit | None:
        if self._items is None:
            return None
        for index, inner in enumerate(value):
            wrong = self._items.misfit(inner, steps)
            if wrong is not None:
                return wrong.within(index)
            if steps.left < 0:
                return None
        return None

    def _of_choices(self, value: Any, kind: str, steps: Steps) -> Misfit | None:
        wrongs: list[Misfit] = []
        for choice in self._any_of:
            wrong = choice.misfit(value, steps)
            if wrong is None:
                return None
            wrongs.append(wrong)
        if not wrongs:
            return None
        deepest = max(wrongs, key=lambda wrong: len(wrong.place))
        return deepest if deepest.place else Misfit((), " or ".join(dict.fromkeys(wrong.expected for wrong in wrongs)), _SPOKEN[kind])


def read(text: str) -> PayloadSchema:
    """The schema that a text holds. SchemaError if it holds none."""
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError):
        raise SchemaError("it is no JSON") from None
    return _part(schema, 0)


def _part(schema: Any, depth: int) -> PayloadSchema:
    if depth > MAX_DEPTH:
        raise SchemaError(f"it is nested deeper than {MAX_DEPTH}")
    if schema is True:
        schema = {}
    if schema is False:
        schema = {"enum": []}
    if not isinstance(schema, dict):
        raise SchemaError("a schema is an object or a boolean")
    return PayloadSchema(schema, depth + 1)


def _kinds(given: Any) -> frozenset[str] | None:
    if given is None:
        return None
    kinds = given if isinstance(given, list) else [given]
    if not all(isinstance(kind, str) and kind in _SPOKEN for kind in kinds):
        raise SchemaError(f"`type` is one of {', '.join(_SPOKEN)}, or a list of them")
    return frozenset(kinds) | {"integer"} if "number" in kinds else frozenset(kinds)


def _values(schema: Mapping[str, Any]) -> frozenset[tuple[str, Any]] | None:
    """The only values that fit; None where they are not listed, or are more than scalars."""
    lists = [_listed(schema, "enum")] if "enum" in schema else []
    if "const" in schema:
        lists.append([schema["const"]])
    scalars = [frozenset(map(_key, listed)) for listed in lists if not any(isinstance(value, (dict, list)) for value in listed)]
    return frozenset.intersection(*scalars) if scalars else None


def _key(value: Any) -> tuple[str, Any]:
    """Equal where JSON's values are: 1 and 1.0, but not 1 and true."""
    if isinstance(value, bool):
        return "boolean", value
    return ("number", value) if isinstance(value, (int, float)) else (_kind(value), value if isinstance(value, str) else None)


def _kind(value: Any) -> str:
    return _KINDS.get(type(value)) or ("integer" if value.is_integer() else "number")


def _either(kinds: Iterable[str]) -> str:
    named = set(kinds)
    return " or ".join(spoken for kind, spoken in _SPOKEN.items() if kind in named and not (kind == "integer" and "number" in named))


def _mapping(schema: Mapping[str, Any], word: str) -> Mapping[str, Any]:
    found = schema.get(word, {})
    if not isinstance(found, dict):
        raise SchemaError(f"`{word}` is an object")
    return found


def _listed(schema: Mapping[str, Any], word: str) -> list[Any]:
    found = schema.get(word, [])
    if not isinstance(found, list):
        raise SchemaError(f"`{word}` is a list")
    return found


def _names(given: Any) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise SchemaError("`required` is a list of names")
    return given
