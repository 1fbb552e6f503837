"""What a worker tells of an event's payload refuses nothing that a sender in Python writes, and what plainly does not fit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum, IntFlag
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, NotRequired

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, RootModel
from typing_extensions import TypedDict

from aiki.errors import PayloadError
from aiki.values.codec import Codec, loads
from aiki.values.payload_schema import MAX_NODES, schema_text
from support.sdk.typed_values import faithful, strange


class Colour(Enum):
    RED = "red"
    TWO = 2


class Right(IntFlag):
    READ = 1
    WRITE = 2


class Person(BaseModel):
    name: str
    age: int = 0
    born: datetime | None = None


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(alias="called")
    also: int = Field(default=1, validation_alias=AliasChoices("also", "too"))
    anything: Annotated[int, BeforeValidator(int)] = 3


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


@dataclass
class Point:
    x: int
    y: float = 0.0


class Options(TypedDict):
    deep: bool
    level: NotRequired[int]


SAID = [
    (None, [None], [{}, [], 0, False, ""]),
    (int, [0, -5, 10**30, 5.0], ["5", "many", None, {}, 1.5, True]),
    (float, [1, 1.5], ["1.5", None, True]),
    (bool, [True], [0, "true", None]),
    (str, [""], [0, None, {}]),
    (dict, [{}, {"a": 1}], [[], None, 1]),
    (list, [[], [1, "a"]], [{}, None]),
    (dict[str, int], [{"a": 1}], [{"a": "1"}, {"a": None}]),
    (list[Person], [[{"name": "Ann"}]], [[{"name": "Ann"}, {"name": 3}], [{}]]),
    (tuple[int, ...], [[1, 2]], [[1, "2"]]),
    (tuple[int, str], [[1, "a"]], [{}]),
    (int | None, [1, None], ["1"]),
    (int | str, [1, "a"], [None, []]),
    (Colour, ["red", 2], ["blue", 2.5, True]),
    (Literal["a", 1], ["a", 1, 1.0], ["b", True]),
    (
        Person,
        [{"name": "Ann"}, {"name": "Ann", "age": 3, "more": []}, {"name": "A", "born": None}],
        [{}, {"name": 1}, {"name": "A", "age": "x"}],
    ),
    (Closed, [{"called": "Ann"}, {"name": "Ann", "too": 3}], [{"name": 1}, []]),
    (Point, [{"x": 1}, {"x": 1, "y": 2}], [{}, {"x": "1"}]),
    (Options, [{"deep": True}, {"deep": False, "level": 1}], [{}, {"deep": True, "level": "1"}]),
    (Tree, [{"value": 1, "children": [{"value": 2, "children": []}]}], [{"value": "1"}, {"value": 1, "children": {}}]),
    (RootModel[list[int]], [[1]], [["a"], {}]),
    (Decimal, ["1.5", 1.5], [{}, None]),
    (timedelta, ["PT1H", 60], [{}]),
]


@pytest.mark.parametrize(("annotation", "fits", "misfits"), SAID, ids=[str(said[0]) for said in SAID])
def test_a_schema_takes_what_fits_and_refuses_what_plainly_does_not(annotation: Any, fits: list[Any], misfits: list[Any]) -> None:
    text = schema_text(Codec(annotation))
    assert text is not None
    schema = jsonschema_rs.Draft202012Validator(loads(text))
    assert all(map(schema.is_valid, fits))
    assert not any(map(schema.is_valid, misfits))


@pytest.mark.parametrize(
    "annotation",
    [
        Any,
        object,
        Path,
        Right,
        Annotated[int, BeforeValidator(int)],
        Annotated[int, PlainSerializer(str)],
        int | Any,
        dict[str, Any] | list[Any] | Any,
    ],
)
def test_what_cannot_be_said_is_left_open(annotation: Any) -> None:
    assert schema_text(Codec(annotation)) is None


def test_a_schema_has_a_bounded_size() -> None:
    def nested(depth: int) -> Any:
        return int if depth == 0 else tuple[nested(depth - 1), ...]  # type: ignore[misc]  # an annotation that is made while this runs

    wide = TypedDict("wide", {f"field{number}": dict[str, int] for number in range(2 * MAX_NODES)})  # type: ignore[misc]  # as above
    text = schema_text(Codec(wide))
    assert text is not None
    assert text.count('"integer"') < MAX_NODES
    assert schema_text(Codec(nested(20))) is not None


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**6), st.booleans())
def test_nothing_is_refused_that_a_sender_in_python_writes(seed: int, odd: bool) -> None:
    """The law, over random annotations and values of theirs."""
    annotation, value = (strange if odd else faithful)(Random(seed))
    codec: Codec[Any] = Codec(annotation)
    try:
        written = codec.encode(value)
    except PayloadError:
        return
    text = schema_text(codec)
    if text is not None:
        assert jsonschema_rs.is_valid(loads(text), loads(written)), (annotation, text, written)
