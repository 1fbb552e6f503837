"""The tasks of a run that wait for another attempt, by when it is due."""

from __future__ import annotations

from heapq import heappop, heappush

from aiki.execution.call import TaskCall


class Delayed:
    """Told of each change of a task that has a `not_before`; looks only at what is due first."""

    __slots__ = ("_calls", "_dues")

    def __init__(self) -> None:
        self._calls: dict[int, TaskCall] = {}
        self._dues: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._calls)

    def note(self, call: TaskCall) -> None:
        """It waits until its `not_before`, or it is closed and waits no more."""
        if call.open and call.not_before is not None:
            self._calls[call.number] = call
            heappush(self._dues, (call.not_before, call.number))
        else:
            self._calls.pop(call.number, None)

    def first(self) -> int | None:
        """When the first of them is due."""
        while self._dues:
            due, number = self._dues[0]
            call = self._calls.get(number)
            if call is not None and call.not_before == due:
                return due
            heappop(self._dues)
        return None
