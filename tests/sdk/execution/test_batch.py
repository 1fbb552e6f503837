"""What is written of a run, to the letter; and what of it in one part, which is bounded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from aiki.execution.batch import PART_CHILDREN, JournalBatch, JournalWriter, short
from aiki.protocol import ChildStart, EntryKind, ErrorInfo


def test_a_part_has_so_many_children_and_no_more():
    writer = JournalWriter()
    for number in range(2 * PART_CHILDREN + 1):
        writer.call(number, "child:flow", label="flow", due=None, child=ChildStart(id=f"{number:032x}", workflow="flow", input="1"))
    taken = [writer.take(1_000_000) for _ in range(3)]
    assert [len(batch.children) for batch in taken if batch is not None] == [PART_CHILDREN, PART_CHILDREN, 1]
    assert writer.take(1_000_000) is None


ERROR = ErrorInfo(type="E", message="no")
SAID = ERROR.model_dump_json()
CHILD = ChildStart(id="0" * 32, workflow="flow", input="1")


@pytest.mark.parametrize(
    ("write", "entry"),
    [
        (lambda writer: writer.call(1, "a::1", label="l", due=None, child=None), '{"k":"call","c":1,"a":"a::1","l":"l"}'),
        (lambda writer: writer.call(1, "a::1", label="l", due=5, child=None), '{"k":"call","c":1,"a":"a::1","l":"l","due":5}'),
        (
            lambda writer: writer.call(1, "a::1", label="l", due=5, child=CHILD),
            f'{{"k":"call","c":1,"a":"a::1","l":"l","due":5,"run":"{CHILD.id}"}}',
        ),
        (lambda writer: writer.done(1, 2, "null"), '{"k":"done","c":1,"at":2,"v":null}'),
        (lambda writer: writer.done(1, 2, "null", item=0), '{"k":"done","c":1,"at":2,"v":null,"i":0}'),
        (lambda writer: writer.done(1, 2, "null", timeout=True), '{"k":"done","c":1,"at":2,"v":null,"timeout":true}'),
        (lambda writer: writer.done(1, 2, "null", item=3, timeout=True), '{"k":"done","c":1,"at":2,"v":null,"i":3,"timeout":true}'),
        (lambda writer: writer.failed(1, 2, ERROR, item=3), f'{{"k":"failed","c":1,"at":2,"e":{SAID},"i":3}}'),
        (lambda writer: writer.ended(EntryKind.COMPLETED, 2, None), '{"k":"completed","at":2}'),
        (lambda writer: writer.ended(EntryKind.FAILED_RUN, 2, ERROR), f'{{"k":"failed_run","at":2,"e":{SAID}}}'),
    ],
    ids=range(10),
)
def test_entries_are_written_to_the_letter(write: Callable[[JournalWriter], None], entry: str) -> None:
    writer = JournalWriter()
    write(writer)
    batch = writer.take(None)
    assert batch is not None
    assert batch.entries == f"[{entry}]"


@pytest.mark.parametrize(("taken", "stays"), [(0, 4), (1, 3), (4, 0), (5, 0)])
def test_what_is_forgotten_is_what_came_after_the_last_end_however_much_was_taken(taken: int, stays: int) -> None:
    writer = JournalWriter()
    writer.began(1)
    writer.done(0, 1, "null")
    writer.done(1, 1, "null")
    writer.done(2, 1, "null")
    writer.call(3, "a::1", label="l", due=None, child=None)
    sizes = [len(entry.text) + 1 for entry in writer._entries]
    if taken:
        writer.take(sum(sizes[:taken]))
    writer.call(4, "a::2", label="l", due=None, child=None)
    writer.roll_back()
    assert len(writer) == stays


@pytest.mark.parametrize(("less", "count"), [(0, 2), (1, 1)])
def test_a_part_has_as_many_characters_as_it_may_and_no_more(less: int, count: int) -> None:
    writer = JournalWriter()
    for number in range(3):
        writer.call(number, "child:flow", label="flow", due=None, child=CHILD)
    limit = 2 * (len(writer._entries[0].text) + len(",") + len(CHILD.input))
    batch = writer.take(limit - less)
    assert batch is not None
    assert batch.count == count


@pytest.mark.parametrize(("label", "shown"), [("", ""), ("x" * 200, "x" * 200), ("x" * 201, "x" * 199 + "…"), ("x" * 999, "x" * 199 + "…")])
def test_a_label_has_so_many_characters_and_no_more(label: str, shown: str) -> None:
    assert short(label) == shown


FIRST = JournalBatch('[{"k":"began","at":1}]', 1, 0, [1], [CHILD], ["a"], '{"a":1}')
LATER = JournalBatch('[{"k":"call","c":0,"a":"a::1","l":"l"},{"k":"done","c":0,"at":2,"v":null}]', 2, 1, [2], [], ["b"], None)


def test_two_batches_are_written_as_one_in_their_order() -> None:
    both = FIRST + LATER
    assert json.loads(both.entries) == [*json.loads(FIRST.entries), *json.loads(LATER.entries)]
    assert both == JournalBatch(both.entries, 3, 1, [1, 2], [CHILD], ["a", "b"], '{"a":1}')
    assert (FIRST + replace(LATER, state="{}")).state == "{}"


@pytest.mark.parametrize("batch", [FIRST, LATER, JournalBatch("[]", 0, 0, [], [], [], None)])
def test_a_batch_without_entries_adds_none(batch: JournalBatch) -> None:
    state_only = JournalBatch("[]", 0, 0, [], [], [], '{"b":2}')
    assert state_only + batch == replace(batch, state=batch.state or '{"b":2}')
    assert batch + state_only == replace(batch, state='{"b":2}')
