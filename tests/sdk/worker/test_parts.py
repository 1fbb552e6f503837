"""Cutting a commit: the texts stay as they are, and what belongs to an entry stays with it."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from aiki.execution.draft import Draft
from aiki.protocol import ChildStart
from aiki.worker.parts import first_part

CHILD = ChildStart(id="00" + "1" * 30, workflow="w", input="1")
ENTRIES = [
    f'{{"k":"call","c":0,"a":"child:w@:1","l":"w(1)","run":"{CHILD.id}"}}',
    '{"k":"done","c":1,"at":1,"v":1.0e2}',
    '{"k":"done","c":2,"at":2,"v":"\\u0041 ] } ,","i":7}',
    '{"k":"call","c":3,"a":"task:t:1","l":"t()"}',
]
DRAFT = Draft(f"[{','.join(ENTRIES)}]", 4, 2, [7], [CHILD], '{"x":1}')


def test_small_commit_is_left_alone() -> None:
    assert first_part(DRAFT, 10_000) == (DRAFT, None)


def test_child_goes_with_its_reservation_and_state_with_the_last_part() -> None:
    first, rest = first_part(DRAFT, 1)
    assert first == Draft(f"[{ENTRIES[0]}]", 1, 1, [], [CHILD], None)
    assert rest == Draft(f"[{','.join(ENTRIES[1:])}]", 3, 1, [7], [], '{"x":1}')


@given(sizes=st.lists(st.integers(0, 300), min_size=1, max_size=20), limit=st.integers(1, 1_000))
def test_parts_together_are_the_whole(sizes: list[int], limit: int) -> None:
    texts = [json.dumps({"k": "done", "c": number, "at": 1, "v": '"\\]' * size}) for number, size in enumerate(sizes)]
    rest: Draft | None = Draft(f"[{','.join(texts)}]", len(texts), 0, [], [], None)
    parts: list[Draft] = []
    while rest is not None:
        part, rest = first_part(rest, limit)
        parts.append(part)
        assert part.count >= 1
    assert f"[{','.join(part.entries[1:-1] for part in parts)}]" == f"[{','.join(texts)}]"
    assert sum(part.count for part in parts) == len(texts)
