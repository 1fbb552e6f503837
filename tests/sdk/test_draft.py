"""What is written of a run in one part is bounded."""

from __future__ import annotations

from aiki.execution.draft import PART_CHILDREN, Writer
from aiki.protocol import ChildStart


def test_a_part_has_so_many_children_and_no_more():
    writer = Writer()
    for number in range(2 * PART_CHILDREN + 1):
        writer.call(number, "child:flow", label="flow", due=None, child=ChildStart(id=f"{number:032x}", workflow="flow", input="1"))
    taken = [writer.take(1_000_000) for _ in range(3)]
    assert [len(draft.children) for draft in taken if draft is not None] == [PART_CHILDREN, PART_CHILDREN, 1]
    assert writer.take(1_000_000) is None
