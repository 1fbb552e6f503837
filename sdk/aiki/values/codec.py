"""Typed values to JSON text and back.

Annotations decide: pydantic writes and reads what they name; plain JSON types take a shorter way to the same text. What JSON
cannot hold (NaN, sets, objects, 1,000 digits, depth beyond 64) is refused when it is written, never changed in silence.
A value is handed on as it reads back, so code sees the same live and in replay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Container, Iterable, Reversible, ValuesView
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from types import UnionType
from typing import Annotated, Any, Final, Generic, Literal, TypeVar, Union, get_args, get_origin, is_typeddict
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
from aiki.values.likeness import difference, same
from aiki.values.ordering import has_serializers, needs_order, ordered

T = TypeVar("T")

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_BYTES_AS_BASE64: Final = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")
_MASK: Final = "*" * 10
"""What pydantic writes in place of a secret."""
_ARRAYS: Final = (Collection, Container, Iterable, Reversible)
_KNOWN: Final = (BaseModel, datetime, date, time, timedelta, Decimal, Enum, UUID)


class Codec(Generic[T]):
    """Writes and reads the values of one annotation."""

    __slots__ = ("_adapter", "_holds", "_ordering", "_serializers", "annotation", "plain", "scalar")

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        concrete = _concrete(annotation)
        self.scalar: type | None = _scalar(concrete)
        self.plain: bool = self.scalar is None and _plain(concrete)
        self._holds = _holding(concrete) if self.plain else None
        self._adapter: TypeAdapter[T] | None = None
        self._ordering = False
        self._serializers = False

    def jsonable(self, value: Any) -> Any:
        """The value in JSON's own types; of plain containers this is the value itself.

        Fields go by their names and computed ones are left out, so that what is written can be read; sets are in canonical order.
        """
        if type(value) is self.scalar or self.plain:
            return value
        if value is None:
            self._read_own("null", None)  # pydantic would write it for any type
        adapter = self.adapter
        try:
            written = adapter.dump_python(value, mode="json", round_trip=True, by_alias=False, warnings="error")
            return written if not self._ordering else self._ordered(value, written)
        except (PydanticSerializationError, UnicodeDecodeError, ValueError, TypeError, RecursionError) as error:
            raise PayloadError(self._of_another_type(value) or _why_not(error)) from error

    def encode(self, value: Any) -> str:
        """The value as JSON text, which reads back as the value."""
        return self.returned(value)[0]

    def decode(self, parsed: Any) -> T:
        """The value of what a JSON document holds, once parsed."""
        if type(parsed) is self.scalar or self.plain:
            return parsed  # type: ignore[no-any-return]  # the annotation says that it is a T
        return self._read(dumps(parsed))

    def decode_strange(self, parsed: Any) -> T:
        """The same of what no code with this annotation has written: nothing is taken on trust, not even that a `dict` is one."""
        return self.decode(parsed) if self._holds is None or self._holds(parsed) else self._read(dumps(parsed))

    def decode_text(self, text: str) -> T:
        """The value of a JSON document that came from elsewhere: an input, an event, the result of a child."""
        return self.decode_strange(loads(text))

    def returned(self, value: Any) -> tuple[str, T]:
        """The text of a value, and the value as it reads back from that text. PayloadError where that is not the value."""
        if type(value) is self.scalar:
            return dumps(value), value  # type: ignore[return-value]  # the annotation says that it is a T
        return self.read_back(value, self.jsonable(value))

    def read_back(self, value: Any, written: Any) -> tuple[str, T]:
        """The same, of a value that `jsonable` has written."""
        text = dumps(written)
        if _MASK in text and _holds_secret(value):
            raise PayloadError(
                "a secret is written as asterisks, and lost: pass the name of where it is kept, or a str if it may be stored"
            )
        if type(value) is self.scalar or (self.plain and type(value) in _SCALARS):
            return text, value
        if self.plain:
            parsed = loads(text)
            if parsed != value:
                _check_keys(value)
            return text, parsed
        back = self._read_own(text, value)
        try:
            if same(value, back):
                return text, back
        except Exception as error:  # user code: an `__eq__`
            raise PayloadError(f"{type(error).__name__}: {error}") from error
        raise PayloadError(difference(value, back))

    @property
    def adapter(self) -> TypeAdapter[T]:
        """Made at first use: a definition may name classes that are defined below it."""
        if self._adapter is None:
            self._adapter = _adapter(_concrete(self.annotation))
            schema = self._adapter.core_schema
            self._ordering = needs_order(schema)
            self._serializers = self._ordering and has_serializers(schema)
        return self._adapter

    def _read(self, text: str) -> T:
        try:
            # Fields are written by their names; what services send names them by their aliases.
            return self.adapter.validate_json(text, by_alias=True, by_name=True)
        except ValidationError as error:
            raise PayloadError(_misfit(error)) from error
        except Exception as error:  # user code: a validator
            raise PayloadError(f"{type(error).__name__}: {error}") from error

    def _read_own(self, text: str, value: Any) -> T:
        """What was written of a value."""
        try:
            return self._read(text)
        except PayloadError as error:
            if (told := self._of_another_type(value)) is None:
                raise
            raise PayloadError(told) from error

    def _of_another_type(self, value: Any) -> str | None:
        """What to say of a value that cannot be written, if it is none of the annotation's type at all."""
        kind: Any = self.annotation
        shape = get_origin(kind) or kind
        if not isinstance(shape, type) or shape is UnionType or is_typeddict(shape) or isinstance(value, shape):
            return None
        name = kind.__name__ if kind is shape else _MODULES.sub("", str(kind))
        return _pass_instead(name, None if value is None else type(value).__qualname__)

    def _ordered(self, value: Any, written: Any) -> Any:
        if self._serializers:
            # What a serializer answers is seen as it is in Python's own types only. Without hashes for its parts it holds no set.
            with suppress(TypeError):
                seen = self.adapter.dump_python(value, mode="python", round_trip=True, by_alias=False, warnings=False)
                written = ordered(seen, written)
        return ordered(value, written)


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
        kind: Any = type(value)
        return _codec_of(kind).jsonable(value)
    raise TypeError(f"JSON has no {type(value).__name__}")


@lru_cache(maxsize=1024)
def _codec_of(kind: Any) -> Codec[Any]:
    """Of a class of the user's, or Python's: made once, because pydantic takes longer for it than for many values."""
    return Codec(kind)


_encode: Final[Callable[[Any], str]] = json.JSONEncoder(
    allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_plain_object
).encode
_encode_canonical: Final[Callable[[Any], str]] = json.JSONEncoder(
    allow_nan=False, ensure_ascii=True, sort_keys=True, separators=(",", ":"), default=_plain_object
).encode


def _check_keys(value: Any) -> None:
    """JSON would make strings of other keys, and two of them perhaps the same one."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if type(key) is not str:
                raise PayloadError(
                    f"a key of type {type(key).__name__} comes back as a str: annotate it, as in dict[{type(key).__name__}, …], or pass str(key)"
                )
            _check_keys(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_keys(inner)


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


def _concrete(annotation: Any) -> Any:
    """The annotation with `list` for the abstract collections that pydantic has no class for: what JSON has of them is an array."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _ARRAYS or origin in _ARRAYS:
        return list[_concrete(arguments[0])] if arguments else list  # type: ignore[misc]  # an annotation that is made while this runs
    if origin is Literal or not arguments:
        return annotation
    inner = arguments[:1] if origin is Annotated else arguments
    made = tuple(map(_concrete, inner))
    if made == inner:
        return annotation
    if origin is Annotated:
        return Annotated[made[0], *arguments[1:]]
    return Union[made] if origin in (Union, UnionType) else origin[made]  # noqa: UP007  of a tuple


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation, config=_BYTES_AS_BASE64)
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise PayloadError(_no_type(annotation, error)) from error
    try:
        return TypeAdapter(annotation)  # models, dataclasses and typed dicts bring their own config
    except PydanticUserError as error:
        raise PayloadError(_no_type(annotation, error)) from error


def _no_type(annotation: Any, error: PydanticUserError) -> str:
    if isinstance(error, PydanticSchemaGenerationError):
        return f"{annotation!r} is no type that JSON can hold: annotate with a pydantic model, a dataclass or a JSON type"
    if error.code == "typed-dict-version":
        return (
            f"{annotation!r} has a TypedDict of typing, which Python before 3.12 does not describe: import TypedDict from typing_extensions"
        )
    return f"{annotation!r} cannot be written: {str(error).partition(chr(10))[0]}"


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


def _holding(annotation: Any) -> Callable[[Any], bool] | None:
    """Whether a JSON value is one of a plain annotation; None where all are."""
    if annotation in (Any, object):
        return None
    kind, arguments = get_origin(annotation) or annotation, get_args(annotation)
    inner = _holding(arguments[-1]) if arguments else None
    if inner is None:
        return lambda value: type(value) is kind
    return lambda value: type(value) is kind and all(map(inner, value.values() if kind is dict else value))


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
    unknown = _UNKNOWN.search(text)
    if unknown is not None:
        text = f"JSON has no {unknown[1]}"
    elif "UnexpectedValue" in text:
        return _unexpected(text)
    if "JSON has no" in text:
        return f"{text}: annotate it with a type that says how to write it, or pass a JSON type"
    return text


def _unexpected(text: str) -> str:
    """What pydantic says of a value of another type, without the value."""
    told = text.split("UnexpectedValue", 1)[1].strip("()\n ")
    expected, found, field = (match[1] if match else None for match in (pattern.search(told) for pattern in _TOLD))
    if expected is None or found is None:
        return told.partition("input_value")[0].rstrip(" [,")
    where = f"{field}: " if field is not None else ""
    return where + _pass_instead(expected, found)


def _pass_instead(expected: str, found: str | None) -> str:
    what = f"{expected}(…)" if expected.isidentifier() and expected[:1].isupper() else f"a value of type {expected}"
    return f"pass {what}: the annotation says {expected}, and this is {'None' if found is None else f'of type {found}'}"


_MODULES: Final = re.compile(r"\b(?:\w+\.)+(?=\w)")


_UNKNOWN: Final = re.compile(r"Unable to serialize unknown type: <class '(?:.*\.)?([^.']+)'>")
_TOLD: Final = tuple(
    re.compile(pattern) for pattern in (r"(?i:expected) `([^`]+)`", r"input_type=([^\s\])]+)", r"field_name=['\"]?([^'\",\]]+)")
)


def _misfit(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])


ANY: Final[Codec[Any]] = Codec(Any)
