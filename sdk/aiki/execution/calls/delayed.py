"""The tasks of a run that wait for another attempt, by when it is due."""

from __future__ import annotations

from heapq import heappop, heappush

from aiki.execution.calls.call import TaskCall


class Delayed:
    """`calls` has them by number: who closes a call takes it out. Looks only at what is due first."""

    __slots__ = ("_dues", "calls")

    def __init__(self) -> None:
        self.calls: dict[int, TaskCall] = {}
        self._dues: list[tuple[int, int]] = []

    def note(self, call: TaskCall) -> None:
        """It waits until its `not_before`."""
        assert call.not_before is not None
        self.calls[call.number] = call
        heappush(self._dues, (call.not_before, call.number))

    def first(self) -> int | None:
        """When the first of them is due."""
        while self._dues:
            due, number = self._dues[0]
            call = self.calls.get(number)
            if call is not None and call.not_before == due:
                return due
            heappop(self._dues)
        return None
