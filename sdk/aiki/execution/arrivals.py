"""What has come for a run from outside, and which of it can be handed over next: inbox items and timers, in the order of time.

An event that arrived before a deadline wins over it, however late the run wakes; so does one that was there before the wait
began. Events wait for their wait, per name and in order; the ends of children and a cancellation wait for nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush

from aiki.execution.call import Call, ChildCall, Wait
from aiki.protocol import InboxItem


@dataclass(frozen=True, slots=True)
class Came:
    """An inbox item for a call; a cancellation is for none."""

    call: Wait | ChildCall | None
    item: InboxItem


@dataclass(frozen=True, slots=True)
class Due:
    """A timer, or the deadline of a wait."""

    call: Call


_Key = tuple[int, int, int]


class Arrivals:
    """The inbox and the timers of one activation."""

    __slots__ = ("_cancel", "_children", "_ended", "_events", "_timers", "_waits", "seen")

    def __init__(self, items: Iterable[InboxItem], seen: int) -> None:
        self.seen: int = 0
        self._cancel: InboxItem | None = None
        self._events: dict[str, deque[InboxItem]] = {}
        self._ended: dict[str, InboxItem] = {}
        self._children: dict[str, ChildCall] = {}
        self._waits: dict[str, deque[Wait]] = {}
        self._timers: list[tuple[int, int, Call]] = []
        self.receive(items, seen)

    def receive(self, items: Iterable[InboxItem], seen: int) -> None:
        """Takes in what is new, in order; items that came before are known already."""
        for item in items:
            if item.seq > self.seen:
                self._sort_in(item)
                self.seen = item.seq
        self.seen = max(self.seen, seen)

    def expect(self, call: Call) -> None:
        """The call waits from now on."""
        if call.due is not None:
            heappush(self._timers, (call.due, call.number, call))
        if isinstance(call, Wait):
            self._waits.setdefault(call.event, deque()).append(call)
        elif isinstance(call, ChildCall):
            self._children[call.id] = call

    def next(self, now: int) -> Came | Due | None:
        """Takes the earliest that a call waits for, up to now; where something came in later than that, it is later already."""
        key, call, item = self._earliest_item()
        timer = self._earliest_timer()
        if timer is not None and timer[0] < (key[0] if key is not None else now + 1):
            heappop(self._timers)
            return Due(timer[2])
        if item is None:
            return None
        self._remove(item)
        return Came(call, item)

    def cancel_before(self, item: InboxItem) -> Came | None:
        """Takes a cancellation where there is one, and puts back what was taken instead: it could not be handed over."""
        if self._cancel is None:
            return None
        if item.kind == "event":
            self._events.setdefault(str(item.name), deque()).appendleft(item)
        else:
            self._ended[str(item.child)] = item
        cancel, self._cancel = self._cancel, None
        return Came(None, cancel)

    def next_due(self) -> int | None:
        """When the earliest timer fires."""
        timer = self._earliest_timer()
        return None if timer is None else timer[0]

    def event_names(self) -> list[str]:
        """The events that some call waits for."""
        return [name for name in list(self._waits) if self._first_wait(name) is not None]

    def _sort_in(self, item: InboxItem) -> None:
        match item.kind:
            case "event":
                self._events.setdefault(str(item.name), deque()).append(item)
            case "child":
                self._ended[str(item.child)] = item
            case "cancel":
                self._cancel = self._cancel or item

    def _earliest_item(self) -> tuple[_Key | None, Wait | ChildCall | None, InboxItem | None]:
        best: tuple[_Key | None, Wait | ChildCall | None, InboxItem | None] = (None, None, None)
        if self._cancel is not None:
            best = ((self._cancel.at, 0, self._cancel.seq), None, self._cancel)
        for name in list(self._waits) if self._events else ():
            items, wait = self._events.get(name), self._first_wait(name)
            if items and wait is not None:
                item = items[0]
                key = (0 if item.seq <= wait.known else item.at, 1, item.seq)
                best = best if best[0] is not None and best[0] <= key else (key, wait, item)
        for item in self._ended.values():
            child = self._children.get(str(item.child))
            if child is not None and child.open:
                key = (item.at, 1, item.seq)
                best = best if best[0] is not None and best[0] <= key else (key, child, item)
                break
        return best

    def _first_wait(self, name: str) -> Wait | None:
        waits = self._waits[name]
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
            case "child":
                del self._ended[str(item.child)]
            case "cancel":
                self._cancel = None
