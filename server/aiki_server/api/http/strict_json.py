"""JSON as it comes in from outside: read strictly, once, and without losing the text.

Payloads are opaque: they are stored and given back as they were written, so what is needed of them is the verdict and the raw
text, not the value. Refused: bytes that are not UTF-8, duplicate keys, NaN and infinities (also by overflow), integers beyond
MAX_INTEGER_DIGITS, nesting beyond MAX_JSON_DEPTH. The scanner is the C one of the standard library.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]  # not in typeshed; the scanner itself uses it
from typing import Any, NamedTuple

from aiki.protocol import MAX_INTEGER_DIGITS, MAX_JSON_DEPTH

MAX_MEMBERS = 64
"""Of an object whose members are read one by one: no wire model has as many."""

_SPACE = re.compile(r"[ \t\n\r]*").match


class InvalidJsonError(Exception):
    """The text is no JSON that is accepted; the message says why and where."""


class TooLongError(InvalidJsonError):
    """A list has more elements than it may."""


class Member(NamedTuple):
    """A value and the text it was read from."""

    value: Any
    raw: str


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > MAX_INTEGER_DIGITS:
        raise InvalidJsonError(f"an integer has more than {MAX_INTEGER_DIGITS:,} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise InvalidJsonError(f"the number {text[:40]} is too large")
    return value


def _constant(text: str) -> Any:
    raise InvalidJsonError(f"{text} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidJsonError(f"the key {twice[:80]!a} occurs twice in one object")
    return value


def _scanner(parse_int: Callable[[str], int]) -> Callable[[str, int], tuple[Any, int]]:
    """What `raw_decode` calls, without its extra frame."""
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_int=parse_int, parse_float=_float, parse_constant=_constant)
    scan: Callable[[str, int], tuple[Any, int]] = decoder.scan_once  # type: ignore[attr-defined]
    return scan


_scan = _scanner(_integer)
_scan_short = _scanner(int)
"""For texts that have no room for too long an integer: the C scanner then reads integers without calling back."""

Reader = Callable[[str, int], tuple[Any, int]]
"""Reads the value that begins at an index; gives it and the index behind it."""


def text_of(body: bytes) -> str:
    """The body as text."""
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise InvalidJsonError(f"byte {error.start} is not UTF-8") from None


def check(text: str) -> Any:
    """The value of a whole document, if it is acceptable."""
    value, end = read_value(text, _SPACE(text, 0).end())  # type: ignore[union-attr]
    _expect_end(text, end)
    check_depth(text, value)
    return value


def read_object(text: str, readers: Mapping[str, Reader] | None = None) -> dict[str, Member]:
    """The members of the object that is the whole document; `readers` read the values of certain keys otherwise."""
    members, end = read_members(text, _space(text, 0), readers)
    _expect_end(text, end)
    return members


def read_members(
    text: str, index: int, readers: Mapping[str, Reader] | None = None, *, limit: int = MAX_MEMBERS
) -> tuple[dict[str, Member], int]:
    """The members of the object at `index`, each with its text, and the index behind it; `limit` is how many it may have."""
    if text[index : index + 1] != "{":
        raise InvalidJsonError("a JSON object is expected here" + _where(text, index))
    members: dict[str, Member] = {}
    index = _space(text, index + 1)
    if text[index : index + 1] == "}":
        return members, index + 1
    while True:
        key, index = _key(text, index)
        read = readers.get(key, read_value) if readers else read_value
        value, end = read(text, index)
        if key in members:
            raise InvalidJsonError(f"the key {key[:80]!a} occurs twice in one object")
        if len(members) == limit:
            raise InvalidJsonError(f"an object has more than {limit} members" + _where(text, index))
        members[key] = Member(value, text[index:end])
        index = _space(text, end)
        mark = text[index : index + 1]
        if mark == "}":
            return members, index + 1
        if mark != ",":
            raise InvalidJsonError("',' or '}' is expected here" + _where(text, index))
        index = _space(text, index + 1)


def read_array(element: Reader, *, limit: int | None = None) -> Reader:
    """A reader of arrays whose elements `element` reads, up to `limit` and one more; what is no array is read as it is."""

    def read(text: str, index: int) -> tuple[Any, int]:
        if text[index : index + 1] != "[":
            return read_value(text, index)
        values: list[Any] = []
        index = _space(text, index + 1)
        if text[index : index + 1] == "]":
            return values, index + 1
        while True:
            value, index = element(text, index)
            values.append(value)
            if limit is not None and len(values) > limit:
                raise TooLongError(f"a list has more than {limit:,} elements" + _where(text, index))
            index = _space(text, index)
            mark = text[index : index + 1]
            if mark == "]":
                return values, index + 1
            if mark != ",":
                raise InvalidJsonError("',' or ']' is expected here" + _where(text, index))
            index = _space(text, index + 1)

    return read


def read_value(text: str, index: int) -> tuple[Any, int]:
    """The value at `index`, and the index behind it."""
    try:
        return _scan_short(text, index) if len(text) <= MAX_INTEGER_DIGITS else _scan(text, index)
    except StopIteration as stop:
        raise InvalidJsonError("a JSON value is expected here" + _where(text, int(stop.value))) from None
    except json.JSONDecodeError as error:
        raise InvalidJsonError(error.msg + _where(text, error.pos)) from None
    except RecursionError:
        raise InvalidJsonError(f"nested deeper than {MAX_JSON_DEPTH} levels") from None


def check_depth(raw: str, value: Any, *, limit: int = MAX_JSON_DEPTH) -> None:
    """Refuse a value that is nested too deeply; `raw` is its text."""
    # Nearly every payload has too few brackets to be deep, and counting them costs next to nothing.
    if raw.count("[") + raw.count("{") > limit and _depth(value, limit) > limit:
        raise InvalidJsonError(f"nested deeper than {limit} levels")


def _depth(value: Any, limit: int) -> int:
    """How many containers are nested; not counted beyond `limit` + 1."""
    level, depth = [value] if isinstance(value, (dict, list)) else [], 0
    while level and depth <= limit:
        depth += 1
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
    return depth


def _key(text: str, index: int) -> tuple[str, int]:
    if text[index : index + 1] != '"':
        raise InvalidJsonError("a key in quotes is expected here" + _where(text, index))
    try:
        key, index = scanstring(text, index + 1, True)
    except json.JSONDecodeError as error:
        raise InvalidJsonError(error.msg + _where(text, error.pos)) from None
    index = _space(text, index)
    if text[index : index + 1] != ":":
        raise InvalidJsonError("':' is expected here" + _where(text, index))
    return key, _space(text, index + 1)


def _space(text: str, index: int) -> int:
    # Nearly always there is none, and a character that is none sorts behind it.
    return index if text[index : index + 1] > " " else _SPACE(text, index).end()  # type: ignore[union-attr]


def _expect_end(text: str, index: int) -> None:
    if _space(text, index) != len(text):
        raise InvalidJsonError("the document has ended before this" + _where(text, index))


def _where(text: str, index: int) -> str:
    return f" (line {text.count(chr(10), 0, index) + 1}, character {index + 1})"
