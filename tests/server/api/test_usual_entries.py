"""What the quick reader of entries finds, the strict one finds as well: whatever a worker writes, it is judged the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiki.execution.batch import JournalWriter
from aiki.protocol import MAX_JSON_DEPTH, CommitOp, EntryKind, ErrorInfo
from aiki_server.api.http.strict_json import InvalidJsonError, check
from aiki_server.api.worker import checks
from aiki_server.api.worker.entries import TERMINAL_ENTRIES, entry_refusal
from aiki_server.api.worker.usual_entries import Entries, usual_entries

ERROR = ErrorInfo(type="ValueError", message="no", stack="")
RUN = "0" * 32
numbers = st.one_of(st.sampled_from([0, 1, -1, 2**31 - 1, 2**31, 999_999_999, 10**9, 10**18 - 1, 10**18, 2**63]), st.integers(0, 2**31))
texts = st.one_of(
    st.text(max_size=12), st.sampled_from(["a" * 1_024, "a" * 1_025, 'a","b', "\\", "\x00", "\x1f", "\x7f", "é", "\U0001f600", "\ud800"])
)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
PIECES = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    '"',
    "\\",
    " ",
    "\n",
    "0",
    "-",
    "1e400",
    "NaN",
    '"k":"done"',
    ',"i":1',
    ',"i":01',
    ',"v":1',
    '{"k":"began","at":1}',
    "\ud800",
    "é",
]


@st.composite
def written(draw: st.DrawFn) -> str:
    """Entries by the SDK's writer, and what may have become of them."""
    writer = JournalWriter()
    for _ in range(draw(st.integers(1, 4))):
        match draw(st.integers(0, 5)):
            case 0:
                writer.began(draw(numbers))
            case 1:
                writer.call(draw(numbers), draw(texts), label=draw(texts), due=draw(st.none() | numbers), child=None)
            case 2:
                writer.done(
                    draw(numbers),
                    draw(numbers),
                    json.dumps(draw(values), ensure_ascii=draw(st.booleans())),
                    item=draw(st.none() | numbers),
                    timeout=draw(st.booleans()),
                )
            case 3:
                writer.failed(draw(numbers), draw(numbers), ERROR)
            case 4:
                writer.ended(EntryKind.COMPLETED, draw(numbers), None)
            case _:
                writer.ended(EntryKind.FAILED_RUN, draw(numbers), ERROR)
    draft = writer.take(None)
    assert draft is not None
    text = draft.entries
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(PIECES)) + text[at + draw(st.integers(0, 2)) :]
    return text


def strictly(text: str) -> Entries | None:
    """The same, from the value: None where the entries are refused."""
    try:
        entries: Any = check(text)
    except InvalidJsonError:
        return None
    if not isinstance(entries, list) or any(entry_refusal(entry) is not None for entry in entries):
        return None
    ends = [entry["k"] for entry in entries if entry["k"] in TERMINAL_ENTRIES]
    return Entries(len(entries), ends == ["completed"] and entries[-1]["k"] == "completed")


@given(written())
@example('[{"k":"done","c":0,"at":1,"v":{"a":1,"a":2}}]')
@example('[{"k":"done","c":0,"at":1,"v":NaN}]')
@example('[{"k":"done","c":0,"at":1,"v":1}]]')
@example('[{"k":"completed","at":1},{"k":"began","at":1}]')
@example('[{"k":"call","c":0,"a":"a","l":"b","run":"' + RUN + '"}]')
@example('[{"k":"done","c":٣,"at":1,"v":1}]')
def test_what_is_found_quickly_is_found_strictly(text: str) -> None:
    try:
        found = usual_entries(text)
    except InvalidJsonError:
        assert strictly(text) is None
        return
    if found is not None:
        assert found == strictly(text)


@pytest.mark.parametrize("value", ["1", "null", '"text"', '"\\u00e9"', '{"a":[1,2]}', "[" * 20 + "]" * 20])
def test_what_the_sdk_writes_most_is_of_the_usual_form(value: str) -> None:
    writer = JournalWriter()
    writer.began(1)
    writer.call(0, "task:t:1", label="one", due=None, child=None)
    writer.call(1, "sleep", label="nap", due=10**15, child=None)
    writer.done(0, 1764300000000000, value)
    writer.done(1, 1764300000000000, value, item=3)
    writer.ended(EntryKind.COMPLETED, 1764300000000001, None)
    draft = writer.take(None)
    assert draft is not None
    assert usual_entries(draft.entries) == Entries(6, True)


def test_a_result_may_be_as_deep_as_a_payload_and_no_deeper() -> None:
    def op(depth: int) -> CommitOp:
        value = "[" * depth + "]" * depth
        return CommitOp(run=RUN, epoch=1, number=1, entries=f'[{{"k":"done","c":0,"at":1,"v":{value}}}]', count=1)

    assert checks.refusal(op(MAX_JSON_DEPTH)) is None
    assert checks.refusal(op(MAX_JSON_DEPTH + 1)) is not None
