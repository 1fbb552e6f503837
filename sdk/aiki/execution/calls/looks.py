"""Which events the code was waiting for when a timer fired, kept in a form whose cost does not grow with how many it waits for.

A finish that was answered `inbox_pending` takes back what followed from a timer that fired while such an event was awaited (aiki/worker/runs/rewind.py).
A list of names for each timer would be quadratic where thousands of waits for different events time out together. So timers are numbered as
they fire, and of each name only those numbers are kept between which somebody waited for it.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final


class Look:
    """One timer that fired: contains the events that were awaited then, and is true if there were any."""

    __slots__ = ("_awaits", "_looks", "_moment")

    def __init__(self, looks: Looks, moment: int, *, awaits: bool) -> None:
        self._looks = looks
        self._moment = moment
        self._awaits = awaits

    def __contains__(self, name: object) -> bool:
        return self._looks.awaited(name, self._moment)

    def __bool__(self) -> bool:
        return self._awaits


class Looks:
    """Of one activation. `fired` has the timers by the number of their call, until `clear`."""

    def __init__(self) -> None:
        self.fired: Final[dict[int, Look]] = {}
        self._count = 0
        self._open: dict[str, tuple[int, set[int]]] = {}
        """Since which moment the event has been awaited, and by which calls."""
        self._closed: dict[str, list[tuple[int, int]]] = {}
        """Between which moments it was."""

    def opened(self, name: str, call: int) -> None:
        """The call waits for such an event from now on."""
        self._open.setdefault(name, (self._count, set()))[1].add(call)

    def closed(self, name: str, call: int) -> None:
        """The call waits no more, if it did."""
        since, calls = self._open.get(name, (0, set()))
        calls.discard(call)
        if calls or name not in self._open:
            return
        del self._open[name]
        if since < self._count:  # else no timer fired meanwhile, and nobody will ask
            self._closed.setdefault(name, []).append((since, self._count))

    def note(self, call: int) -> None:
        """A timer fires."""
        self.fired[call] = Look(self, self._count, awaits=bool(self._open))
        self._count += 1

    def clear(self) -> None:
        """What fired is written: forget it."""
        if self.fired:
            self.fired.clear()
            self._closed = {}

    def awaited(self, name: object, moment: int) -> bool:
        """Whether somebody waited for such an event at that moment."""
        if not isinstance(name, str):
            return False
        if name in self._open and self._open[name][0] <= moment:
            return True
        spans = self._closed.get(name, [])
        before = bisect_right(spans, moment, key=lambda span: span[0])
        return before > 0 and moment < spans[before - 1][1]
