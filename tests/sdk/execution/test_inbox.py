"""What comes for a run, in which order, and what is on offer again after something was taken, closed or put back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aiki.execution.calls.call import Call, ChildCall, Wait
from aiki.execution.calls.inbox import Inbox, InboxDelivery, TimerFired
from aiki.execution.calls.looks import Looks
from aiki.protocol import ChildStart, InboxItem, Status
from aiki.values.codec import ANY

CHILD = "0" * 32
NOW = 200


def event(seq: int, at: int, name: str = "go") -> InboxItem:
    return InboxItem(seq=seq, kind="event", name=name, at=at)


def ended(seq: int, at: int) -> InboxItem:
    return InboxItem(seq=seq, kind="child", child=CHILD, status=Status.COMPLETED, at=at)


def cancel(seq: int, at: int) -> InboxItem:
    return InboxItem(seq=seq, kind="cancel", at=at)


def wait(number: int, *, due: int | None = None, known: int | None = None, name: str = "go") -> Wait:
    call = Wait(f"event:{name}", ANY, name, limited=due is not None)
    call.number, call.due = number, due
    if known is not None:
        call.known = known
    return call


def child(number: int) -> ChildCall:
    call = ChildCall("child:sub", ANY, ChildStart(id=CHILD, workflow="sub", input="1"), text="1")
    call.number, call.id = number, CHILD
    return call


def close(inbox: Inbox, call: Call) -> None:
    """As when the code gets its end, or gives it up."""
    call.open = False
    inbox.closed(call)


def order(inbox: Inbox, now: int) -> list[tuple[int | None, int | None]]:
    """All that comes up to now: by the number of the call, none for a cancellation, and of the item, none for a timer."""
    came: list[tuple[int | None, int | None]] = []
    while (delivery := inbox.next(now)) is not None:
        item = delivery.item.seq if isinstance(delivery, InboxDelivery) else None
        came.append((None if delivery.call is None else delivery.call.number, item))
        if delivery.call is not None:
            close(inbox, delivery.call)
    return came


@pytest.mark.parametrize(
    ("items", "calls", "expected"),
    [
        pytest.param([event(1, 100)], lambda: [wait(0, due=50)], [(0, None)], id="a deadline before the event"),
        pytest.param([event(1, 100)], lambda: [wait(0, due=100)], [(0, 1)], id="an event at the deadline"),
        pytest.param([event(1, 100)], lambda: [wait(0, due=NOW)], [(0, 1)], id="an event before the deadline"),
        pytest.param([], lambda: [wait(0, due=NOW)], [(0, None)], id="a deadline now"),
        pytest.param([], lambda: [wait(0, due=NOW + 1)], [], id="a deadline to come"),
        pytest.param([event(1, 100)], lambda: [wait(0, due=50, known=1)], [(0, 1)], id="an event that was there before the wait"),
        pytest.param([event(1, 100)], lambda: [wait(0, due=0, known=1)], [(0, 1)], id="such an event, however early the deadline"),
        pytest.param([event(2, 100)], lambda: [wait(0, due=50, known=1)], [(0, None)], id="an event behind those that were there"),
        pytest.param(
            [event(1, 5), cancel(2, 5)], lambda: [wait(0)], [(None, 2), (0, 1)], id="a cancellation before an event of its instant"
        ),
        pytest.param([event(1, 5), cancel(2, 6)], lambda: [wait(0)], [(0, 1), (None, 2)], id="a cancellation after an earlier event"),
        pytest.param([cancel(1, 5), cancel(2, 6)], list, [(None, 1)], id="one cancellation"),
        pytest.param([cancel(1, 5)], lambda: [wait(0, due=4)], [(0, None), (None, 1)], id="a cancellation after an earlier deadline"),
        pytest.param(
            [ended(1, 5), event(2, 5)], lambda: [wait(0), child(1)], [(1, 1), (0, 2)], id="a child before an event of its instant"
        ),
        pytest.param(
            [event(1, 5), ended(2, 5)], lambda: [child(0), wait(1)], [(1, 1), (0, 2)], id="an event before a child of its instant"
        ),
        pytest.param([event(1, 5), event(2, 6)], lambda: [wait(0), wait(1)], [(0, 1), (1, 2)], id="waits of one name, one event each"),
        pytest.param(
            [event(1, 100)], lambda: [wait(0, due=50), wait(1, known=1)], [(0, None), (1, 1)], id="to the next wait after a deadline"
        ),
        pytest.param([event(1, 5), event(2, 6, "no")], lambda: [wait(0, name="no")], [(0, 2)], id="no wait of its name"),
    ],
)
def test_what_came_first_is_handed_over_first(
    items: list[InboxItem], calls: Callable[[], list[Wait | ChildCall]], expected: list[tuple[int | None, int | None]]
) -> None:
    inbox = Inbox(items, 0, Looks())
    for call in calls():
        inbox.expect(call)
    assert order(inbox, NOW) == expected
    assert inbox.next(NOW) is None


@pytest.mark.parametrize(("call", "item"), [(wait(0), event(1, 5)), (child(0), ended(1, 5))], ids=["event", "child"])
def test_what_is_taken_comes_no_more_and_an_event_makes_room_for_the_next(call: Wait | ChildCall, item: InboxItem) -> None:
    inbox = Inbox([item, event(2, 6)], 0, Looks())
    inbox.expect(call)
    assert inbox.next(NOW) == InboxDelivery(call, item)
    assert inbox.next(NOW) == (InboxDelivery(call, event(2, 6)) if isinstance(call, Wait) else None)
    assert inbox.next(NOW) is None


@pytest.mark.parametrize("first", ["call", "item"])
@pytest.mark.parametrize(("kind", "item"), [(wait, event(1, 5)), (child, ended(1, 5))], ids=["event", "child"])
def test_a_cancellation_comes_instead_of_what_was_taken_and_that_comes_again(
    kind: Callable[[int], Wait | ChildCall], item: InboxItem, first: str
) -> None:
    call, stop = kind(0), cancel(3, 6)
    inbox = Inbox([], 0, Looks())
    news = [item, event(2, 6), stop]
    if first == "item":
        inbox.receive(news, 3)
    inbox.expect(call)
    inbox.receive(news, 3)
    assert inbox.next(NOW) == InboxDelivery(call, item)
    assert inbox.cancel_before(item) == InboxDelivery(None, stop)
    assert inbox.cancel_before(item) is None
    assert inbox.next(NOW) == InboxDelivery(call, item)


@pytest.mark.parametrize(("call", "item"), [(wait(0), event(1, 5)), (child(0), ended(1, 5))], ids=["event", "child"])
def test_what_is_put_back_is_on_offer_even_where_it_never_was(call: Wait | ChildCall, item: InboxItem) -> None:
    stop = cancel(2, 6)
    inbox = Inbox([stop], 2, Looks())
    inbox.expect(call)
    assert inbox.cancel_before(item) == InboxDelivery(None, stop)
    assert inbox.next(NOW) == InboxDelivery(call, item)
    assert inbox.next(NOW) is None


def test_nothing_comes_instead_where_nobody_cancels() -> None:
    inbox = Inbox([], 0, Looks())
    assert inbox.cancel_before(event(1, 5)) is None
    assert inbox.unread() == set()


def test_nothing_comes_for_a_child_that_is_closed() -> None:
    inbox, call = Inbox([], 0, Looks()), child(0)
    inbox.expect(call)
    inbox.closed(call)
    inbox.receive([ended(1, 5)], 1)
    assert inbox.next(NOW) is None


def test_an_event_is_awaited_until_the_last_wait_for_it_is_closed() -> None:
    looks = Looks()
    inbox, first, second = Inbox([], 0, looks), wait(0), wait(1)
    names: list[list[str]] = [inbox.event_names()]
    for number, change in enumerate(
        [lambda: inbox.expect(first), lambda: inbox.expect(second), lambda: close(inbox, first), lambda: close(inbox, second)]
    ):
        change()
        names.append(inbox.event_names())
        looks.note(number)
    assert names == [[], ["go"], ["go"], ["go"], []]
    assert ["go" in look for look in looks.fired.values()] == [True, True, True, False]


def test_a_timer_comes_once_and_one_that_was_given_up_never() -> None:
    inbox, given_up, kept = Inbox([], 0, Looks()), wait(0, due=10), wait(1, due=20)
    inbox.expect(given_up)
    inbox.expect(kept)
    assert inbox.next_due() == 10
    close(inbox, given_up)
    assert inbox.next_due() == 20
    assert inbox.next(NOW) == TimerFired(kept)
    assert inbox.next_due() is None
