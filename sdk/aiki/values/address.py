"""Names of calls and of children that come out the same on every replay.

A call's address is `kind:name:hash(canonical input)`. The hash starts with its version, so that another one can follow.
Default-valued fields and parameters are left out of it: adding an optional one changes no address.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from dataclasses import MISSING, fields, is_dataclass
from hashlib import sha256
from typing import Any, Final, Literal, get_origin

from pydantic import BaseModel, RootModel
from pydantic_core import PydanticUndefined

HASH_VERSION: Final = "1"


def address(kind: str, name: str, text: str) -> str:
    """The address of a call; `text` is the canonical JSON of its input."""
    return f"{kind}:{name}:{HASH_VERSION}{urlsafe_b64encode(sha256(text.encode()).digest())[:22].decode()}"


def child_id(parent: str, number: int, now: int) -> str:
    """The run id of a child: the parent's shard, the time in ms, and what makes it unique among all calls of all runs."""
    return f"{parent[:2]}{now // 1000 & 0xFFFFFFFFFFFF:012x}{sha256(f'{parent}-{number}'.encode()).hexdigest()[:18]}"


def without_defaults(value: Any, written: Any) -> Any:
    """`written` is `value` as JSON; the answer lacks the fields of models and dataclasses that hold their default.

    A default-valued `Literal` stays: it tells the members of a union apart.
    """
    if isinstance(value, RootModel):
        return without_defaults(value.root, written)
    if isinstance(value, BaseModel) and isinstance(written, dict):
        return _fields(written, vars(value), _model_defaults(type(value)))
    if is_dataclass(value) and isinstance(written, dict):
        return _fields(written, {field.name: getattr(value, field.name) for field in fields(value)}, _dataclass_defaults(type(value)))
    if isinstance(value, dict) and isinstance(written, dict) and len(value) == len(written):
        return {key: without_defaults(inner, written[key]) for inner, key in zip(value.values(), written, strict=True)}
    if isinstance(value, (list, tuple)) and isinstance(written, list) and len(value) == len(written):
        return [without_defaults(inner, text) for inner, text in zip(value, written, strict=True)]
    return written


def is_default(value: Any, default: Any) -> bool:
    """Whether a value is its parameter's default, to the type: 1 is neither True nor 1.0."""
    return value is default or (type(value) is type(default) and bool(value == default))


def _fields(written: dict[str, Any], values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    return {
        key: without_defaults(values.get(key), text)
        for key, text in written.items()
        if key not in defaults or not is_default(values.get(key), defaults[key])
    }


def _model_defaults(model: type[BaseModel]) -> dict[str, Any]:
    return {
        name: _default(field.default, field.default_factory)
        for name, field in model.model_fields.items()
        if get_origin(field.annotation) is not Literal
    }


def _dataclass_defaults(kind: Any) -> dict[str, Any]:
    return {field.name: _default(field.default, field.default_factory) for field in fields(kind) if "Literal[" not in str(field.type)}


def _default(default: Any, factory: Any) -> Any:
    """The default; of factories only those that make an empty container are known to make the same each time."""
    if factory in (list, dict, set, frozenset, tuple):
        return factory()
    return _NONE_AT_ALL if default is MISSING or default is PydanticUndefined else default


_NONE_AT_ALL: Final = object()
