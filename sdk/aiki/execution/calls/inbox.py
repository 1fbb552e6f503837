"""What has come for a run from outside, and which of it can be handed over next: inbox items and timers, in the order of time.

An event that arrived before a deadline wins over it, however late the run wakes; so does one that was there before the wait
began. Events wait for their wait, per name and in order; the ends of children and a cancellation wait for nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush

from aiki.execution.calls.call import Call, ChildCall, Wait
from aiki.execution.calls.looks import Looks
from aiki.protocol import InboxItem


@dataclass(frozen=True, slots=True)
class InboxDelivery:
    """An inbox item for a call; a cancellation is for none."""

    call: Wait | ChildCall | None
    item: InboxItem


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer, or the deadline of a wait."""

    call: Call


_Key = tuple[int, int, int]
_Pair = tuple[_Key, Wait | ChildCall, InboxItem]


class Inbox:
    """The inbox and the timers of one activation."""

    __slots__ = ("_cancel", "_children", "_earliest", "_ended", "_events", "_looks", "_names", "_timers", "_waits", "inbox_seen")

    def __init__(self, items: Iterable[InboxItem], inbox_seen: int, looks: Looks) -> None:
        self.inbox_seen: int = 0
        self._looks = looks
        self._cancel: InboxItem | None = None
        self._events: dict[str, deque[InboxItem]] = {}
        self._ended: dict[str, InboxItem] = {}
        self._children: dict[str, ChildCall] = {}
        self._waits: dict[str, deque[Wait]] = {}
        self._timers: list[tuple[int, int, Call]] = []
        self._earliest: list[
            tuple[_Key, str, bool]
        ] = []  # of pairs of a call and an item, by event (else child), and of some that are no more
        self._names: list[str] | None = None
        self.receive(items, inbox_seen)

    def receive(self, items: Iterable[InboxItem], inbox_seen: int) -> None:
        """Takes in what is new, in order; items that came before are known already."""
        for item in items:
            if item.seq > self.inbox_seen:
                self._sort_in(item)
                self.inbox_seen = item.seq
        self.inbox_seen = max(self.inbox_seen, inbox_seen)

    def expect(self, call: Call) -> None:
        """The call waits from now on."""
        if call.due is not None:
            heappush(self._timers, (call.due, call.number, call))
        if isinstance(call, Wait):
            self._waits.setdefault(call.event, deque()).append(call)
            self._looks.opened(call.event, call.number)
            self._names = None
            self._offer(call.event, event=True)
        elif isinstance(call, ChildCall):
            self._children[call.id] = call
            self._offer(call.id, event=False)

    def closed(self, call: Call) -> None:
        """The call waits no more: the next wait for such an event may have been there before the event was."""
        if isinstance(call, Wait):
            self._looks.closed(call.event, call.number)
            self._names = None
            self._offer(call.event, event=True)
        elif isinstance(call, ChildCall):
            self._children.pop(call.id, None)

    def next(self, now: int) -> InboxDelivery | TimerFired | None:
        """Takes the earliest that a call waits for, up to now; where something came in later than that, it is later already."""
        key, call, item = self._earliest_item()
        timer = self._earliest_timer()
        if timer is not None and timer[0] < (key[0] if key is not None else now + 1):
            heappop(self._timers)
            return TimerFired(timer[2])
        if item is None:
            return None
        self._remove(item)
        return InboxDelivery(call, item)

    def cancel_before(self, item: InboxItem) -> InboxDelivery | None:
        """Takes a cancellation where there is one, and puts back what was taken instead: it could not be handed over."""
        if self._cancel is None:
            return None
        if item.kind == "event":
            self._events.setdefault(str(item.name), deque()).appendleft(item)
            self._offer(str(item.name), event=True)
        else:
            self._ended[str(item.child)] = item
            self._offer(str(item.child), event=False)
        cancel, self._cancel = self._cancel, None
        return InboxDelivery(None, cancel)

    def next_due(self) -> int | None:
        """When the earliest timer fires."""
        timer = self._earliest_timer()
        return None if timer is None else timer[0]

    def unread(self) -> set[str]:
        """The names of the events that are here and that no wait has taken."""
        return {name for name, items in self._events.items() if items}

    def event_names(self) -> list[str]:
        """The events that some call waits for."""
        if self._names is None:
            self._names = [name for name in list(self._waits) if self._first_wait(name) is not None]
        return self._names

    def _sort_in(self, item: InboxItem) -> None:
        match item.kind:
            case "event":
                self._events.setdefault(str(item.name), deque()).append(item)
                self._offer(str(item.name), event=True)
            case "child":
                self._ended[str(item.child)] = item
                self._offer(str(item.child), event=False)
            case "cancel":
                self._cancel = self._cancel or item

    def _earliest_item(self) -> tuple[_Key | None, Wait | ChildCall | None, InboxItem | None]:
        pair = self._earliest_pair()
        if self._cancel is not None:
            key = (self._cancel.at, 0, self._cancel.seq)
            if pair is None or key < pair[0]:
                return key, None, self._cancel
        return pair or (None, None, None)

    def _earliest_pair(self) -> _Pair | None:
        while self._earliest:
            key, name, event = self._earliest[0]
            pair = self._pair(name, event=event)
            if pair is not None and pair[0] == key:
                return pair
            heappop(self._earliest)
        return None

    def _offer(self, name: str, *, event: bool) -> None:
        """Something became of an event's, or a child's, items or calls."""
        pair = self._pair(name, event=event)
        if pair is not None:
            heappush(self._earliest, (pair[0], name, event))

    def _pair(self, name: str, *, event: bool) -> _Pair | None:
        if not event:
            child, ended = self._children.get(name), self._ended.get(name)
            return ((ended.at, 1, ended.seq), child, ended) if child is not None and child.open and ended is not None else None
        items, wait = self._events.get(name), self._first_wait(name)
        if not items or wait is None:
            return None
        return (0 if items[0].seq <= wait.known else items[0].at, 1, items[0].seq), wait, items[0]

    def _first_wait(self, name: str) -> Wait | None:
        waits = self._waits.get(name)
        if waits is None:
            return None
        while waits and not waits[0].open:
            waits.popleft()
        if not waits:
            del self._waits[name]
            return None
        return waits[0]

    def _earliest_timer(self) -> tuple[int, int, Call] | None:
        timers = self._timers
        while timers and not timers[0][2].open:
            heappop(timers)
        return timers[0] if timers else None

    def _remove(self, item: InboxItem) -> None:
        match item.kind:
            case "event":
                self._events[str(item.name)].popleft()
                self._offer(str(item.name), event=True)
            case "child":
                del self._ended[str(item.child)]
            case "cancel":
                self._cancel = None
