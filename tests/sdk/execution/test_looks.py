"""Which events were awaited when a timer fired, against a list for each timer: S24."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aiki.execution.calls.looks import Looks

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
