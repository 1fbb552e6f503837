"""What is accepted as JSON, and that the text of payloads survives."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiki_server.api.http.strict_json import InvalidJsonError, check, check_depth, read_array, read_members, read_object, text_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=5), st.sampled_from([None, 0, 1]), st.booleans())
def test_members_have_their_value_and_their_text(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    found = read_object(text)
    assert {name: member.value for name, member in found.items()} == value
    assert all(json.loads(member.raw) == value[name] for name, member in found.items())


@given(VALUES)
def test_what_is_json_is_accepted(value):
    assert check(json.dumps(value)) == value


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1,]", '{"a":1,}', "{'a':1}", '{"a" 1}', "NaN", "[Infinity]", "-Infinity", "1e400", "[1] 2", "nul", '"\x00"', '"\n"', "01", "+1", ".5", "1.", '{"a":1,"a":2}', '[{"b":{"a":1,"a":1}}]', '"\\x"', "\ufeff1", "[" * 100_000, "{" * 100],
)  # fmt: skip
def test_what_is_not_json_is_refused(text):
    with pytest.raises(InvalidJsonError):
        check(text)


@pytest.mark.parametrize("text", ['{"a"}', '{"a":}', '{"a":1 "b":2}', '{"a":1,"a":2}', "[]", '"a"', '{"a":1}x', "{1:2}", ""])
def test_what_is_no_object_is_refused(text):
    with pytest.raises(InvalidJsonError):
        read_object(text)


def test_oddities_survive_to_the_byte():
    raw = '{"nul":"\\u0000","half":"\\ud800","n":1.0,"e":1E+2,"big":' + "9" * 1000 + "}"
    assert read_object(f' {{ "input" : {raw} }} ')["input"].raw == raw


@pytest.mark.parametrize(("digits", "accepted"), [(1000, True), (1001, False)])
@pytest.mark.parametrize("sign", ["", "-"])
def test_integers_have_up_to_1000_digits(digits, accepted, sign):
    text = f"[{sign}{'7' * digits}]"
    if accepted:
        check(text)
    else:
        with pytest.raises(InvalidJsonError):
            check(text)


@pytest.mark.parametrize("shape", [("[", "]"), ('{"a":', "}")])
def test_nesting_goes_down_64_levels(shape):
    deep = shape[0] * 64 + "1" + shape[1] * 64
    check(deep)
    with pytest.raises(InvalidJsonError):
        check(shape[0] + deep + shape[1])


def test_many_brackets_side_by_side_are_not_deep():
    value: list[list[object]] = [[] for _ in range(1000)]
    check_depth(json.dumps(value), value)


def test_bytes_are_utf_8():
    with pytest.raises(InvalidJsonError):
        text_of(b'"\xff"')
    with pytest.raises(InvalidJsonError):
        text_of(b'"\xed\xa0\x80"')


def test_an_array_of_objects_keeps_the_texts_within():
    read = read_array(read_members)
    found, end = read('[{"a": 1.0}, {"a":[ 2 ]}]', 0)
    assert [one["a"].raw for one in found] == ["1.0", "[ 2 ]"]
    assert end == 25
