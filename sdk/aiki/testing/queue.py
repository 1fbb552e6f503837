"""The tasks of a simulated run that are to be run, in the order in which the code asked for them; those with a delay when it is over."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush

from aiki.execution.outcome import TaskAttempt

_Entry = tuple[int, int, TaskAttempt]


class TaskQueue:
    """Of one execution; whatever is done costs no more than the logarithm of how many there are."""

    def __init__(self) -> None:
        self._number = 0
        self._waiting: dict[int, int] = {}
        """The number of the attempt that waits, by its call; what has another number in a heap was forgotten."""
        self._ready: list[_Entry] = []
        self._delayed: list[tuple[int, _Entry]] = []

    def add(self, attempt: TaskAttempt) -> None:
        """Behind all others."""
        self._number += 1
        self._waiting[attempt.call] = self._number
        entry = (self._number, attempt.call, attempt)
        if attempt.not_before is None:
            heappush(self._ready, entry)
        else:
            heappush(self._delayed, (attempt.not_before, entry))

    def take(self, now: int) -> TaskAttempt | None:
        """The first that may run now."""
        while (due := self.next_due()) is not None and due <= now:
            heappush(self._ready, heappop(self._delayed)[1])
        while self._ready:
            entry = heappop(self._ready)
            if self._waits(entry):
                del self._waiting[entry[1]]
                return entry[2]
        return None

    def forget(self, calls: Iterable[int]) -> None:
        """Nobody waits for these any more."""
        for call in calls:
            self._waiting.pop(call, None)

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()
        self._ready.clear()
        self._delayed.clear()

    def next_due(self) -> int | None:
        """When the earliest delay is over."""
        while self._delayed and not self._waits(self._delayed[0][1]):
            heappop(self._delayed)
        return self._delayed[0][0] if self._delayed else None

    def _waits(self, entry: _Entry) -> bool:
        return self._waiting.get(entry[1]) == entry[0]
