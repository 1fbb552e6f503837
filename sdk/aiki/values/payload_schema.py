"""What an event accepts, as a JSON Schema that a server can hold a payload against without knowing any of the code.

Made of pydantic's own description of the annotation, and in a few words of JSON Schema only: `type`, `properties`, `required`,
`additionalProperties`, `items`, `anyOf` and `enum`. It refuses nothing that a sender in Python writes of a value of that annotation, by its
names or by its aliases; what it cannot say (patterns, bounds, validators of the user's, recursion) it leaves open, and the run finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, Flag
from typing import Any, Final

from aiki.values.codec import Codec, dumps

MAX_NODES: Final = 300
"""Of one schema. What lies beyond is left open."""

Schema = dict[str, Any]
_Core = Mapping[str, Any]

_TYPES: Final[Mapping[str, str | list[str]]] = {
    "none": "null",
    "bool": "boolean",
    "int": "integer",
    "float": "number",
    "str": "string",
    "bytes": "string",
    "uuid": "string",
    "url": "string",
    "multi-host-url": "string",
    "decimal": ["string", "number"],
    "date": ["string", "number"],
    "time": ["string", "number"],
    "datetime": ["string", "number"],
    "timedelta": ["string", "number"],
}
_WITHIN: Final = {"function-after": "schema", "default": "schema", "lax-or-strict": "lax_schema", "json-or-python": "json_schema"}
"""What is described by one of its parts."""
_WRITTEN_AS_THEY_ARE: Final = (str, int, bool, type(None))


def schema_text(codec: Codec[Any]) -> str | None:
    """The schema of what an annotation accepts, as JSON text; None where it is anything, or cannot be said."""
    schema = _Description().of(codec.adapter.core_schema)
    return dumps(schema) if schema else None


class _Description:
    """One walk through the core schema of one annotation."""

    def __init__(self) -> None:
        self._nodes = 0
        self._definitions: dict[str, _Core] = {}
        self._open: list[str] = []
        self._containers: Final[Mapping[str, Callable[[_Core], Schema]]] = {
            "nullable": self._nullable,
            "union": self._union,
            "tagged-union": self._tagged_union,
            "list": self._array,
            "set": self._array,
            "frozenset": self._array,
            "tuple": self._tuple,
            "dict": self._dict,
            "enum": _enum,
            "literal": _literal,
            "definitions": self._with_definitions,
            "definition-ref": self._reference,
            "model": self._model,
            "dataclass": self._model,
            "model-fields": self._object,
            "dataclass-args": self._object,
            "typed-dict": self._object,
        }

    def of(self, core: _Core) -> Schema:
        """What is known of it; nothing ({}) where anything may fit."""
        self._nodes += 1
        kind = core["type"]
        if self._nodes > MAX_NODES or _is_written_by_a_function(core):
            return {}
        if kind in _TYPES:
            return {"type": _TYPES[kind]}
        if kind in _WITHIN:
            return self.of(core[_WITHIN[kind]])
        return self._containers[kind](core) if kind in self._containers else {}

    def _nullable(self, core: _Core) -> Schema:
        return _any_of([self.of(core["schema"]), {"type": "null"}])

    def _union(self, core: _Core) -> Schema:
        return _any_of([self.of(choice[0] if isinstance(choice, tuple) else choice) for choice in core["choices"]])

    def _tagged_union(self, core: _Core) -> Schema:
        return _any_of([self.of(choice) if isinstance(choice, Mapping) else {} for choice in core["choices"].values()])

    def _array(self, core: _Core) -> Schema:
        items = self.of(core["items_schema"]) if "items_schema" in core else {}
        return {"type": "array"} | ({"items": items} if items else {})

    def _tuple(self, core: _Core) -> Schema:
        items, variadic = core["items_schema"], core.get("variadic_item_index")
        return self._array({"items_schema": items[0]}) if len(items) == 1 and variadic == 0 else {"type": "array"}

    def _dict(self, core: _Core) -> Schema:
        values = self.of(core["values_schema"]) if "values_schema" in core else {}
        return {"type": "object"} | ({"additionalProperties": values} if values else {})

    def _with_definitions(self, core: _Core) -> Schema:
        self._definitions |= {definition["ref"]: definition for definition in core["definitions"]}
        return self.of(core["schema"])

    def _reference(self, core: _Core) -> Schema:
        ref = core["schema_ref"]
        if ref in self._open or ref not in self._definitions:
            return {}  # a tree of its own kind: its first level is described
        self._open.append(ref)
        found = self.of(self._definitions[ref])
        self._open.pop()
        return found

    def _model(self, core: _Core) -> Schema:
        config = core.get("config", {})
        if core.get("custom_init") or config.get("ser_json_inf_nan") == "strings":
            return {}
        inner = core["schema"]
        if core.get("root_model") or inner["type"] not in ("model-fields", "dataclass-args"):
            return self.of(inner)
        return self._object({"extra_behavior": config.get("extra_fields_behavior")} | dict(inner))

    def _object(self, core: _Core) -> Schema:
        fields = core["fields"]
        named = {field["name"]: field for field in fields} if isinstance(fields, list) else fields
        properties: dict[str, Schema] = {}
        required: list[str] = []
        closed = core.get("extra_behavior") == "forbid"
        for name, field in named.items():
            alias, described = field.get("validation_alias"), self.of(field["schema"])
            properties[name] = described
            if isinstance(alias, str):
                properties[alias] = described
            elif alias is not None:
                closed = False  # it may be found anywhere
            elif _is_required(field, core):
                required.append(name)
        found: Schema = {"type": "object", "properties": {name: schema for name, schema in properties.items() if schema or closed}}
        return found | ({"required": required} if required else {}) | ({"additionalProperties": False} if closed else {})


def _any_of(choices: list[Schema]) -> Schema:
    if not all(choices):
        return {}
    distinct = [choice for index, choice in enumerate(choices) if choice not in choices[:index]]
    return distinct[0] if len(distinct) == 1 else {"anyOf": distinct}


def _enum(core: _Core) -> Schema:
    open_ended = "missing" in core or issubclass(core["cls"], Flag)  # flags are combined to values that are no member's
    return {} if open_ended else _one_of([member.value for member in core["members"]])


def _literal(core: _Core) -> Schema:
    return _one_of([value.value if isinstance(value, Enum) else value for value in core["expected"]])


def _one_of(values: list[Any]) -> Schema:
    return {"enum": values} if values and all(type(value) in _WRITTEN_AS_THEY_ARE for value in values) else {}


def _is_required(field: _Core, core: _Core) -> bool:
    if field["type"] == "typed-dict-field":
        return bool(field.get("required", core.get("total", True)))
    return not _has_default(field["schema"]) and bool(field.get("init", True))


def _has_default(core: _Core) -> bool:
    while core["type"] != "default" and "schema" in core and core["type"].startswith(("function-", "nullable")):
        core = core["schema"]
    return bool(core["type"] == "default")


def _is_written_by_a_function(core: _Core) -> bool:
    """Whether a function of somebody else's decides how it is written: then its type says nothing of the JSON."""
    written = core.get("serialization")
    return isinstance(written, Mapping) and "function" in written
