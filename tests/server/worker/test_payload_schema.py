"""Payloads are held against schemas as a whole implementation would, in bounded time, whatever somebody registers."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiki_server.model.payload_schema import MAX_DEPTH, STEPS, Misfit, SchemaError, Steps, read

laws = settings(deadline=None, max_examples=300)  # a busy machine breaks no law
NAMES = st.sampled_from(["a", "b", "c"])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from([1.0, 1.5]), st.sampled_from(["", "a", "1"]))
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8)
TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])


def _schema(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.one_of(TYPES, st.lists(TYPES, min_size=1, max_size=3, unique=True)),
            "properties": st.dictionaries(NAMES, inner, max_size=3),
            "required": st.lists(NAMES, max_size=2, unique=True),
            "additionalProperties": inner,
            "items": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=3),
            "enum": st.lists(SCALARS, min_size=1, max_size=3, unique_by=lambda value: (isinstance(value, bool), value)),
            "const": SCALARS,
        },
    )


SCHEMAS: st.SearchStrategy[Any] = st.recursive(st.booleans() | st.just({}), _schema, max_leaves=6)


def misfit(schema: Any, value: Any, *, steps: int = STEPS) -> Misfit | None:
    return read(json.dumps(schema)).misfit(value, Steps(steps))


@laws
@given(SCHEMAS, VALUES)
def test_what_fits_is_what_a_whole_implementation_says(schema: Any, value: Any) -> None:
    assert (misfit(schema, value) is None) is jsonschema_rs.is_valid(schema, value), misfit(schema, value)


@laws
@given(SCHEMAS, VALUES, st.integers(0, 30))
def test_a_check_that_has_used_up_its_steps_refuses_nothing_else(schema: Any, value: Any, steps: int) -> None:
    if misfit(schema, value) is None:
        assert misfit(schema, value, steps=steps) is None


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        ({"type": "integer"}, "SECRET", "payload: an integer is expected here, and this is a string"),
        ({"type": "null"}, {"SECRET": 1}, "payload: null is expected here, and this is an object"),
        ({"type": ["string", "number"]}, None, "payload: a number or a string is expected here, and this is null"),
        (
            {"properties": {"to": {"items": {"type": "string"}}}},
            {"to": ["a", True]},
            "payload.to[1]: a string is expected here, and this is a boolean",
        ),
        ({"required": ["by"]}, {"SECRET": 1}, "payload: a member 'by' is expected here, and this is an object without it"),
        (
            {"additionalProperties": False},
            {"SECRET": 1},
            "payload: no member but those that the schema names is expected here, and this is an object with another one",
        ),
        ({"additionalProperties": {"type": "null"}}, {"SECRET": 1}, "payload.*: null is expected here, and this is an integer"),
        ({"enum": ["a", 1]}, "SECRET", "payload: one of the values that the schema lists is expected here, and this is another one"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 1.5, "payload: a string or null is expected here, and this is a number"),
        (
            {"anyOf": [{"type": "null"}, {"properties": {"n": {"type": "integer"}}}]},
            {"n": "SECRET"},
            "payload.n: an integer is expected here, and this is a string",
        ),
        (False, 1, "payload: one of the values that the schema lists is expected here, and this is another one"),
    ],
)
def test_a_misfit_says_where_and_nothing_of_the_payload(schema: Any, value: Any, said: str) -> None:
    found = misfit(schema, value)
    assert str(found) == said
    assert "SECRET" not in str(found)


@pytest.mark.parametrize(
    "schema",
    [
        {"pattern": "^(a+)+$"},
        {"$ref": "http://127.0.0.1:9/schema"},
        {"$ref": "#"},
        {"$defs": {"x": {"$ref": "#/$defs/x"}}, "$ref": "#/$defs/x"},
        {"not": {}},
        {"allOf": [False]},
        {"uniqueItems": True},
        {"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False},
        {"prefixItems": [{}], "items": False},
        {"items": [{"type": "null"}]},
        {"enum": [[1], {}]},
        {"format": "regex", "minLength": 10**9},
    ],
)
def test_words_that_are_not_heeded_refuse_nothing(schema: Any) -> None:
    for value in ("a" * 40 + "!", {"a" * 40 + "!": 1}, [1, 1], None):
        assert misfit(schema, value) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "7",
        "[]",
        "null",
        '{"type":"text"}',
        '{"type":5}',
        '{"type":[["null"]]}',
        '{"properties":[]}',
        '{"properties":{"a":1}}',
        '{"required":"a"}',
        '{"required":[1]}',
        '{"items":7}',
        '{"additionalProperties":[]}',
        '{"anyOf":{}}',
        '{"anyOf":[3]}',
        '{"enum":"a"}',
        "[" * 4_000,
        '{"items":' * (MAX_DEPTH + 1) + "{}" + "}" * (MAX_DEPTH + 1),
        '{"a":' * 1_000 + "1" + "}" * 1_000 + "x",
    ],
)
def test_what_is_no_schema_is_refused_when_it_is_read(text: str) -> None:
    with pytest.raises(SchemaError):
        read(text)


def _wide(depth: int) -> Any:
    return {} if depth == 0 else {"anyOf": [_wide(depth - 1), _wide(depth - 1)], "items": _wide(depth - 1)}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"anyOf": [{"items": {"type": "string"}}] * 200}, [["a"] * 1_000] * 200),
        ({"items": {"anyOf": [{"type": "string"}] * 300}}, [1] * 1_000_000),
        ({"additionalProperties": {"type": "integer"}}, {str(number): number for number in range(300_000)}),
        (
            {"required": [f"m{number}" for number in range(500)], "additionalProperties": False},
            dict.fromkeys((f"m{n}" for n in range(500)), 1),
        ),
        (_wide(5), [[[[[1] * 100] * 100] * 10] * 10] * 10),
        ({"enum": ["x" * 3_000]}, "x" * 2_000_000),
    ],
    ids=["choices of lists", "a long list", "many members", "many names", "a tree", "long text"],
)
def test_no_schema_takes_more_than_its_steps(schema: Any, value: Any) -> None:
    """A million values against hundreds of choices would be minutes; the bound is on steps, and a step is short."""
    steps = Steps()
    read(json.dumps(schema)).misfit(value, steps)
    assert -2_000 < steps.left < STEPS
