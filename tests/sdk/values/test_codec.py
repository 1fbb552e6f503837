"""What goes into JSON comes back as annotated; what JSON cannot hold is refused by name."""

from __future__ import annotations

import json
import math
import sys
from collections import deque
from collections.abc import Collection, Container, Iterable, Reversible, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, StrEnum
from ipaddress import IPv6Address, IPv6Network
from typing import Annotated, Any, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_serializer, model_validator

from aiki import PayloadError
from aiki.protocol import MAX_INTEGER_DIGITS, MAX_JSON_DEPTH, MAX_PAYLOAD_BYTES
from aiki.values.codec import ANY, Codec, canonical, dumps, loads


class Colour(Enum):
    RED = "r"


class Level(StrEnum):
    HIGH = "high"


class Address(BaseModel):
    street: str
    number: int = 1


class Customer(BaseModel):
    name: str
    home: Address
    tags: list[str] = Field(default_factory=list)


@dataclass
class Point:
    x: int
    y: float = 0.0
    seen: list[datetime] = field(default_factory=list)


class Secret(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    data: bytes


BERLIN = ZoneInfo("Europe/Berlin")
WALL = datetime(2026, 10, 25, 2, 30, fold=1)  # noqa: DTZ001  in an hour that some zones have twice, and of no zone
NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)

ROUND_TRIPS: list[tuple[Any, Any]] = [
    (int, 5),
    (Collection[int], [1]),
    (Iterable[UUID], [UUID(int=5)]),
    (Container[Address] | None, [Address(street="a")]),
    (Annotated[Reversible[Iterable[date]], Field(max_length=3)], [[date(2026, 1, 1)]]),
    (dict[str, Collection[tuple[Iterable[int], str]]], {"a": [([1], "b")]}),
    (Iterable, ["a"]),
    (Iterable[Any], [None, {"a": 1}]),
    (int, 10**999),
    (float, 1.5),
    (float, -0.0),
    (float, 1e300),
    (str, "ann \u0000 \ud800 ünï"),
    (bool, True),
    (None, None),
    (bytes, b"\x00\xff"),
    (datetime, NOON),
    (date, date(2026, 3, 1)),
    (timedelta, timedelta(days=1, microseconds=3)),
    (UUID, UUID(int=7)),
    (Decimal, Decimal("1.10")),
    (Colour, Colour.RED),
    (Level, Level.HIGH),
    (Customer, Customer(name="Ann", home=Address(street="Elm"))),
    (Point, Point(1, 2.5, [NOON])),
    (Secret, Secret(data=b"\xff\x00")),
    (list[Customer], [Customer(name="Ann", home=Address(street="Elm", number=3))]),
    (list[bytes], [b"\xff"]),
    (dict[str, Point], {"a": Point(1)}),
    (dict[int, str], {1: "one"}),
    (tuple[int, str], (1, "a")),
    (set[int], {1, 2}),
    (Customer | None, None),
    (int | str, "5"),
    (Any, {"a": [1, None, True, "x", 1.5]}),
    (dict, {"a": {"b": []}}),
    (list, [1, "a"]),
    (dict[str, Any], {"a": 1}),
]


@pytest.mark.parametrize(("annotation", "value"), ROUND_TRIPS, ids=range(len(ROUND_TRIPS)))
def test_value_comes_back_as_annotated(annotation: Any, value: Any) -> None:
    codec: Codec[Any] = Codec(annotation)
    text, live = codec.returned(value)
    replayed = codec.decode(json.loads(text))
    for back in (live, replayed, codec.decode_text(text)):
        assert back == value
        assert type(back) is type(value)
        assert str(back).replace("TzInfo(0)", "datetime.timezone.utc") == str(value)


def test_what_the_code_gets_is_a_copy() -> None:
    value = {"a": [1]}
    _, live = Codec[Any](dict).returned(value)
    assert live == value
    assert live is not value
    assert live["a"] is not value["a"]


REFUSED: list[tuple[Any, Any, str]] = [
    (Any, math.nan, "NaN"),
    (Any, {"a": [math.inf]}, "NaN"),
    (float, -math.inf, "NaN"),
    (Point, Point(1, math.nan), "NaN"),
    (list[float], [math.nan], "NaN"),
    (Any, {1, 2}, "set"),
    (Any, [{1, 2}], "set"),
    (Any, b"x", "bytes"),
    (Any, object(), "object"),
    (dict, {"a": object()}, "object"),
    (int, "12", "int"),
    (str, None, "annotation says str, and this is None"),
    (Customer, None, r"pass Customer\(…\): the annotation says Customer, and this is None"),
    (Customer, Point(1, 2), r"pass Customer\(…\): the annotation says Customer, and this is of type Point"),
    (list[Customer], None, r"pass a value of type list\[Customer\]: .* this is None"),
    (dict[str, Customer], [], r"type dict\[str, Customer\]: .* this is of type list"),
    (Colour, "red", r"pass Colour\(…\): the annotation says Colour, and this is of type str"),
    (UUID, "x", r"pass UUID\(…\)"),
    (Customer | None, 5, r"pass Customer\(…\)"),
    (None, 5, "none"),
    (Customer, {"name": "Ann"}, "Customer"),
    (Customer, object(), "object"),
    (list[int], ("a",), "list"),
    (Any, 10**MAX_INTEGER_DIGITS, "digits"),
    (list[int], [-(10**MAX_INTEGER_DIGITS)], "digits"),
    (str, "x" * MAX_PAYLOAD_BYTES, "bytes of JSON"),
]


@pytest.mark.parametrize(("annotation", "value", "why"), REFUSED, ids=range(len(REFUSED)))
def test_what_json_cannot_hold_is_refused_by_name(annotation: Any, value: Any, why: str) -> None:
    with pytest.raises(PayloadError, match=why):
        Codec(annotation).encode(value)


class Sent(TypedDict):
    a: int


class Animal(BaseModel):
    name: str


class Hound(Animal):
    breed: str


@pytest.mark.parametrize(
    ("annotation", "value", "why"),
    [
        (Customer, {"name": "Ann"}, r"^pass Customer\(…\): the annotation says Customer, and this is of type dict(\n|$)"),
        (Point, {"x": 1}, r"^pass Point\(…\): the annotation says Point, and this is of type dict(\n|$)"),
        (list[Customer], [{"name": "Ann"}], r"pass Customer\(…\)"),
        (
            Animal,
            Hound(name="Rex", breed="collie"),
            "^a Hound comes back as Animal, without what Animal does not have: annotate with Hound",
        ),
        (list[Animal], [Hound(name="Rex", breed="collie")], "^0: a Hound comes back as Animal"),
        (
            Colour | str,
            Colour.RED,
            "^a Colour comes back as str: annotate with Colour alone, or give a union of such types a discriminator",
        ),
        (str, Level.HIGH, "^a Level comes back as str"),
        (dict, {"a": {1: "x"}}, "^a key of type int comes back as a str"),
        (dict[frozenset[str], int], {frozenset("ab"): 1}, "frozenset"),
        (Sequence[int], (1, 2), "^a tuple comes back as list: annotate with tuple alone, .*or pass a list"),
        (Collection[int], (1, 2), r"^pass a value of type list\[int\]"),
        (Iterable[int], (n for n in (1, 2)), r"^pass a value of type list\[int\]"),
        (Sequence[int], iter([1]), "^a list_iterator can be gone through only once: annotate with list, and pass list"),
        (Sequence[int], range(2), "^JSON has no range: .*or pass a JSON type"),
        (deque[int], deque([1], maxlen=2), "^a deque with maxlen=2 comes back without it: pass a list"),
        (dict[str, datetime], {"at": WALL}, "^at: a datetime with fold=1 and no time zone comes back with fold=0: give it its time zone"),
        (time, WALL.time(), "^a time with fold=1 and no time zone"),
        (dict[datetime, set[int]], {WALL.replace(tzinfo=BERLIN): {True}}, "^2026-10-25 02:30:00.01:00: a set does not come back"),
    ],
    ids=range(18),
)
def test_value_that_would_come_back_as_another_says_what_to_write(annotation: Any, value: Any, why: str) -> None:
    with pytest.raises(PayloadError, match=why):
        Codec(annotation).encode(value)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="from 3.12 on pydantic takes the TypedDict of typing")
@pytest.mark.parametrize("annotation", [Sent, list[Sent], Sent | None])
def test_typed_dict_of_typing_says_where_to_import_it_from(annotation: Any) -> None:
    with pytest.raises(PayloadError, match="import TypedDict from typing_extensions"):
        Codec(annotation).encode({"a": 1})


def test_texts_of_values_are_for_ever() -> None:
    """They are in addresses: another version of Python or of pydantic must not write them otherwise."""
    tz = timezone(timedelta(hours=5, minutes=30))
    values = {
        "set": {"b", "a", "c"},
        "instant": NOON,
        "zoned": datetime(2026, 1, 2, 3, 4, 5, 120000, tzinfo=tz),
        "naive": datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001  people pass them
        "span": timedelta(days=400, hours=3, microseconds=10),
        "back": timedelta(seconds=-1.5),
        "time": time(1, 2, 3, 4, UTC),
        "price": Decimal("1E+2"),
        "mapped": IPv6Address("::ffff:1.2.3.4"),
        "net": IPv6Network("::ffff:1.2.3.0/120"),
        "data": b"\xff\xfe",
    }
    assert {name: Codec(set[str] if name == "set" else type(value)).encode(value) for name, value in values.items()} == {
        "set": '["a","b","c"]',
        "instant": '"2026-03-01T12:00:00.123456Z"',
        "zoned": '"2026-01-02T03:04:05.120000+05:30"',
        "naive": '"2026-01-02T03:04:05"',
        "span": '"P1Y35DT3H0.00001S"',
        "back": '"-PT1.5S"',
        "time": '"01:02:03.000004Z"',
        "price": '"1E+2"',
        "mapped": '"::ffff:102:304"',
        "net": '"::ffff:102:300/120"',
        "data": '"__4="',
    }


class Renamed(BaseModel):
    user_name: str = Field(alias="userName")
    zip_code: str = Field(validation_alias="zipCode")


def test_model_with_aliases_reads_back_from_what_was_written_and_from_its_aliases() -> None:
    codec = Codec[Renamed](Renamed)
    value = Renamed(userName="ann", zipCode="1")
    assert codec.returned(value)[1] == value
    assert codec.decode_text('{"userName": "ann", "zipCode": "1"}') == value


class Login(BaseModel):
    name: str
    password: SecretStr


@pytest.mark.parametrize("annotation", [Login, Any, list[Login]])
def test_secret_that_would_be_written_as_asterisks_is_refused(annotation: Any) -> None:
    login = Login(name="ann", password=SecretStr("hunter2"))
    with pytest.raises(PayloadError, match="asterisks"):
        Codec(annotation).encode([login] if annotation == list[Login] else login)


def test_asterisks_that_are_no_secret_are_text() -> None:
    asked = Login(name="**********", password=SecretStr(""))
    assert Codec(Login).returned(asked)[1] == asked


class Fussy(BaseModel):
    x: int

    @model_validator(mode="before")
    @classmethod
    def _from_mine_only(cls, given: Any) -> Any:
        return {"x": given["mine"]}

    @field_serializer("x")
    def _written(self, x: int) -> int:
        return 1 // x


def test_error_of_a_validator_or_serializer_of_the_user_s_is_a_refusal() -> None:
    with pytest.raises(PayloadError, match="KeyError: 'mine'"):
        Codec(Fussy).returned(Fussy.model_validate({"mine": 1}))
    with pytest.raises(PayloadError, match="ZeroDivisionError"):
        Codec(Fussy).encode(Fussy.model_validate({"mine": 0}))


class Blob(BaseModel):
    data: bytes


def test_bytes_of_a_model_that_are_no_utf_8_are_refused_with_what_to_do() -> None:
    with pytest.raises(PayloadError, match="ser_json_bytes"):
        Codec(Blob).encode(Blob(data=b"\xff"))


def test_integer_that_python_itself_does_not_write_is_refused() -> None:
    with pytest.raises(PayloadError, match="digits"):
        dumps(10**5000)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_depth_at_the_limit_and_beyond() -> None:
    assert dumps(nested(MAX_JSON_DEPTH)).count("[") == MAX_JSON_DEPTH
    for depth in (MAX_JSON_DEPTH + 1, 500, 100_000):
        with pytest.raises(PayloadError, match="nested deeper"):
            dumps(nested(depth))


def test_integer_digits_at_the_limit() -> None:
    assert loads(dumps(10**MAX_INTEGER_DIGITS - 1)) == 10**MAX_INTEGER_DIGITS - 1


def test_payload_bytes_at_the_limit() -> None:
    assert len(dumps("x" * (MAX_PAYLOAD_BYTES - 2))) == MAX_PAYLOAD_BYTES
    assert len(dumps("ü" * (MAX_PAYLOAD_BYTES // 2 - 1)).encode()) == MAX_PAYLOAD_BYTES


def test_circular_value_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(PayloadError):
        dumps(value)


def test_lone_surrogates_travel_escaped() -> None:
    assert dumps(["\ud800"]) == '["\\ud800"]'
    assert dumps("ü") == '"ü"'


def test_input_that_does_not_fit_says_where() -> None:
    with pytest.raises(PayloadError, match=r"home\.street"):
        Codec(Customer).decode_text('{"name": "Ann", "home": {"street": 5}}')


@pytest.mark.parametrize("text", ["", "{", "nul", '{"a":1}x', "[" * 100_000], ids=range(5))
def test_text_that_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(PayloadError, match="not JSON"):
        loads(text)


def test_unannotated_models_and_dates_are_written() -> None:
    assert ANY.encode({"at": NOON, "who": Address(street="Elm"), "id": UUID(int=1)}) == (
        '{"at":"2026-03-01T12:00:00.123456Z","who":{"street":"Elm","number":1},"id":"00000000-0000-0000-0000-000000000001"}'
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_any_json_comes_back_the_same(value: Any) -> None:
    assert repr(loads(dumps(value))) == repr(value)


@given(json_values)
def test_canonical_text_is_what_json_writes_with_sorted_keys(value: Any) -> None:
    assert canonical(value) == json.dumps(value, sort_keys=True, separators=(",", ":"))


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_canonical_text_ignores_the_order_of_keys(value: dict[str, int]) -> None:
    assert canonical(value) == canonical(dict(reversed(value.items())))
