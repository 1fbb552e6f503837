"""Typed values to JSON text and back.

Annotations decide: pydantic writes and reads what they name; plain JSON types take a shorter way to the same text. What JSON
cannot hold (NaN, sets, objects, 1,000 digits, depth beyond 64) is refused when it is written, never changed in silence.
A value is handed on as it reads back, so code sees the same live and in replay.
"""

from __future__ import annotations

import json
from collections.abc import Callable, ValuesView
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from json.encoder import encode_basestring_ascii
from typing import Any, Final, Generic, TypeVar, get_args, get_origin
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    Secret,
    SecretBytes,
    SecretStr,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticSerializationError

from aiki.errors import PayloadError
from aiki.protocol import MAX_INTEGER_DIGITS, MAX_JSON_DEPTH, MAX_PAYLOAD_BYTES

T = TypeVar("T")

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_BYTES_AS_BASE64: Final = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")
_MASK: Final = "*" * 10
"""What pydantic writes in place of a secret."""
_KNOWN: Final = (BaseModel, datetime, date, time, timedelta, Decimal, Enum, UUID)


class Codec(Generic[T]):
    """Writes and reads the values of one annotation."""

    __slots__ = ("_adapter", "annotation", "plain", "scalar")

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        self.scalar: type | None = _scalar(annotation)
        self.plain: bool = self.scalar is None and _plain(annotation)
        self._adapter: TypeAdapter[T] | None = None

    def jsonable(self, value: Any) -> Any:
        """The value in JSON's own types; of plain containers this is the value itself."""
        if type(value) is self.scalar or self.plain:
            return value
        if value is None:
            self.decode(None)  # pydantic would write it for any type
        try:
            return self.adapter.dump_python(value, mode="json", warnings="error")
        except (PydanticSerializationError, UnicodeDecodeError, ValueError, RecursionError) as error:
            raise PayloadError(_why_not(error)) from error

    def encode(self, value: Any) -> str:
        """The value as JSON text."""
        text = dumps(self.jsonable(value))
        if _MASK in text and _holds_secret(value):
            raise PayloadError(
                "a secret is written as asterisks, and lost: pass the name of where it is kept, or a str if it may be stored"
            )
        return text

    def decode(self, parsed: Any) -> T:
        """The value of what a JSON document holds, once parsed."""
        if type(parsed) is self.scalar or self.plain:
            return parsed  # type: ignore[no-any-return]  # the annotation says that it is a T
        try:
            # Fields are written by their names; what services send names them by their aliases.
            return self.adapter.validate_json(dumps(parsed), by_alias=True, by_name=True)
        except ValidationError as error:
            raise PayloadError(_misfit(error)) from error
        except Exception as error:  # user code: a validator
            raise PayloadError(f"{type(error).__name__}: {error}") from error

    def decode_text(self, text: str) -> T:
        """The value of a JSON document."""
        return self.decode(loads(text))

    def returned(self, value: Any) -> tuple[str, T]:
        """The text of a value, and the value as it will read back from that text."""
        text = self.encode(value)
        if type(value) is self.scalar or (self.plain and type(value) in _SCALARS):
            return text, value
        return text, self.decode_text(text)

    @property
    def adapter(self) -> TypeAdapter[T]:
        """Made at first use: a definition may name classes that are defined below it."""
        if self._adapter is None:
            self._adapter = _adapter(self.annotation)
        return self._adapter


def loads(text: str) -> Any:
    """Parses a JSON document."""
    try:
        return _parse(text)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"this is not JSON that Aiki takes: {error}") from error


def dumps(value: Any) -> str:
    """The text of a JSON value, checked against the limits."""
    if type(value) in _SHORT and -_SMALL < value < _SMALL:
        return repr(value)
    try:
        text = _encode(value)
        if not text.isascii():
            text = _encodable(text, value)
    except (ValueError, TypeError, RecursionError) as error:
        raise PayloadError(_why_not(error)) from error
    if len(text) > MAX_JSON_DEPTH:
        _check_limits(text, value)
    return text


def canonical(value: Any) -> str:
    """The one text of a JSON value whose hash is part of an address: sorted keys, no spaces, ASCII."""
    if type(value) in _SHORT and -_SMALL < value < _SMALL:
        return repr(value)
    if type(value) is str:
        return encode_basestring_ascii(value)
    try:
        return _encode_canonical(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise PayloadError(_why_not(error)) from error


_SHORT: Final = frozenset({int, float})
_SMALL: Final = 10**15
"""Numbers below it are written as Python shows them, without asking the encoder."""
_parse: Final[Callable[[str], Any]] = json.JSONDecoder().decode


def _plain_object(value: object) -> Any:
    """For the encoder: what it does not know itself. Sets and bytes are refused: unannotated, they would come back as something else."""
    if isinstance(value, _KNOWN) or (is_dataclass(value) and not isinstance(value, type)):
        return _adapter(type(value)).dump_python(value, mode="json", warnings="error")
    raise TypeError(f"JSON has no {type(value).__name__}")


_encode: Final[Callable[[Any], str]] = json.JSONEncoder(
    allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_plain_object
).encode
_encode_canonical: Final[Callable[[Any], str]] = json.JSONEncoder(
    allow_nan=False, ensure_ascii=True, sort_keys=True, separators=(",", ":"), default=_plain_object
).encode


def _encodable(text: str, value: Any) -> str:
    """The text, or one with escapes where it holds lone surrogates, which UTF-8 does not have."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, separators=(",", ":"), default=_plain_object)
    return text


def _check_limits(text: str, value: Any) -> None:
    if len(text) > MAX_PAYLOAD_BYTES // 4 and (size := len(text.encode())) > MAX_PAYLOAD_BYTES:
        raise PayloadError(f"{size} bytes of JSON are more than {MAX_PAYLOAD_BYTES}: store the data elsewhere and pass a reference")
    if text.count("[") + text.count("{") > MAX_JSON_DEPTH or len(text) > MAX_INTEGER_DIGITS:
        _check_value(json.loads(text) if not isinstance(value, (dict, list)) else value, 1)


def _check_value(value: Any, depth: int) -> None:
    if isinstance(value, int):
        if value.bit_length() > 3_321 and len(str(abs(value))) > MAX_INTEGER_DIGITS:
            raise PayloadError(f"an integer of more than {MAX_INTEGER_DIGITS} digits: pass it as a string")
    elif isinstance(value, (dict, list, tuple)):
        if depth > MAX_JSON_DEPTH:
            raise PayloadError(f"JSON nested deeper than {MAX_JSON_DEPTH}: flatten it")
        for inner in value.values() if isinstance(value, dict) else value:
            _check_value(inner, depth + 1)


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation, config=_BYTES_AS_BASE64)
    except PydanticSchemaGenerationError as error:
        raise PayloadError(
            f"{annotation!r} is no type that JSON can hold: annotate with a pydantic model, a dataclass or a JSON type"
        ) from error
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise PayloadError(str(error)) from error
    return TypeAdapter(annotation)  # models, dataclasses and typed dicts bring their own config


def _scalar(annotation: Any) -> type | None:
    annotation = type(None) if annotation is None else annotation
    return annotation if isinstance(annotation, type) and annotation in _SCALARS else None


def _plain(annotation: Any) -> bool:
    """Whether JSON text and this annotation name the same values, so that pydantic has nothing to add."""
    if annotation in (Any, object, dict, list):
        return True
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is dict:
        return arguments[0] is str and _plain(arguments[1])
    return origin is list and _plain(arguments[0])


def _holds_secret(value: Any) -> bool:
    if isinstance(value, (SecretStr, SecretBytes, Secret)):
        return bool(value.get_secret_value())
    if isinstance(value, BaseModel):
        value = vars(value)
    elif is_dataclass(value):
        value = [getattr(value, field.name) for field in fields(value)]
    if isinstance(value, dict):
        value = value.values()
    return isinstance(value, (list, tuple, set, frozenset, ValuesView)) and any(map(_holds_secret, value))


def _why_not(error: Exception) -> str:
    text = str(error)
    if "Out of range float" in text:
        return "JSON has no NaN and no infinity: pass None, or a string"
    if isinstance(error, RecursionError) or "Circular reference" in text:
        return f"JSON nested deeper than {MAX_JSON_DEPTH}: flatten it"
    if "Exceeds the limit" in text:
        return f"an integer of more than {MAX_INTEGER_DIGITS} digits: pass it as a string"
    if "codec can't decode" in text:
        return (
            "bytes of a model or dataclass that are no UTF-8: have it write them as base64, with ConfigDict("
            'ser_json_bytes="base64", val_json_bytes="base64")'
        )
    if "UnexpectedValue" in text:
        return text.split("UnexpectedValue", 1)[1].strip("()\n ")
    if "JSON has no" in text:
        return f"{text}: annotate it with a type that says how to write it, or pass a JSON type"
    return text


def _misfit(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])


ANY: Final[Codec[Any]] = Codec(Any)
