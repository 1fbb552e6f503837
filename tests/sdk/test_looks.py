"""Which events were awaited when a timer fired, against a list for each timer: S24. And a cancel instead of what cannot be handed over."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiki.execution.arrivals import Arrivals, Came
from aiki.execution.looks import Looks
from aiki.protocol import InboxItem

NAMES = ("a", "b")
steps = st.tuples(st.sampled_from(["opened", "closed", "note"]), st.sampled_from(NAMES), st.integers(1, 2))


@settings(deadline=None)
@given(st.lists(steps, max_size=25))
def test_looks_are_what_a_list_for_each_timer_would_say(given: list[tuple[str, str, int]]) -> None:
    looks, awaited, lists = Looks(), set[tuple[str, int]](), dict[int, set[str]]()
    for what, name, call in given:
        if what == "note":
            number = len(lists)
            looks.note(number)
            lists[number] = {one for one, _ in awaited}
        elif what == "opened":
            looks.opened(name, call)
            awaited.add((name, call))
        else:
            looks.closed(name, call)
            awaited.discard((name, call))
    assert {number: {name for name in NAMES if name in look} for number, look in looks.fired.items()} == lists
    assert {number: bool(look) for number, look in looks.fired.items()} == {number: bool(names) for number, names in lists.items()}


def test_what_fired_is_forgotten_and_what_is_awaited_is_not() -> None:
    looks = Looks()
    looks.opened("a", 1)
    looks.opened("b", 2)
    looks.note(3)
    looks.closed("b", 2)
    look = looks.fired[3]
    assert None not in look
    assert ("a" in look, "b" in look) == (True, True)
    looks.clear()
    assert looks.fired == {}
    assert ("a" in look, "b" in look) == (True, False)
    looks.note(4)
    assert list(looks.fired) == [4]


def test_an_event_that_is_awaited_again_and_again_was_awaited_at_each_timer_between() -> None:
    looks = Looks()
    for number in range(3):
        looks.opened("a", number)
        looks.note(2 * number)
        looks.closed("a", number)
        looks.note(2 * number + 1)
    assert ["a" in look for look in looks.fired.values()] == [True, False] * 3


def item(seq: int, kind: str, **more: str) -> InboxItem:
    return InboxItem.model_validate({"seq": seq, "kind": kind, "at": seq, **more})


EVENT, ENDED, CANCEL = item(1, "event", name="go"), item(2, "child", child="0" * 32, status="completed"), item(3, "cancel")


@pytest.mark.parametrize("taken", [EVENT, ENDED])
def test_a_cancel_comes_instead_of_what_cannot_be_handed_over_and_only_once(taken: InboxItem) -> None:
    others = [item(4, "event", name="go")]
    arrivals = Arrivals([CANCEL, *others], 4, Looks())
    assert arrivals.cancel_before(taken) == Came(None, CANCEL)
    assert arrivals.cancel_before(taken) is None
    events = [EVENT, *others] if taken is EVENT else others
    assert list(arrivals._events["go"]) == events
    assert arrivals._ended == ({} if taken is EVENT else {"0" * 32: ENDED})


def test_nothing_comes_instead_where_nobody_cancels() -> None:
    arrivals = Arrivals([], 0, Looks())
    assert arrivals.cancel_before(EVENT) is None
    assert arrivals.unread() == set()
