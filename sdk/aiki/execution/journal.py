"""What was recorded of a run, in the form in which replay asks for it.

Reservations are found by address, first in, first out; records (ends of calls, and the delivery of a cancellation) are handed
back each time the earliest that can be. The server's own entries are none of replay's business and are skipped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import Any, Final

from aiki.protocol import EntryKind, QueuedBy
from aiki.values.codec import loads

# Looked up once: a member of an enumeration costs as much as five comparisons, and each entry of each replay comes by here.
_BEGAN: Final = EntryKind.BEGAN
_CALL: Final = EntryKind.CALL
_CHILD_CANCEL_REQUESTED: Final = EntryKind.CHILD_CANCEL_REQUESTED
_ENDS: Final = frozenset({EntryKind.DONE, EntryKind.FAILED})
_ATTEMPT: Final = EntryKind.ATTEMPT
_CANCEL: Final = EntryKind.CANCEL
_RESTS: Final = frozenset({EntryKind.QUEUED, EntryKind.PAUSED})

Record = dict[str, Any]
"""A `done`, `failed` or `cancel` entry, as docs/internals/protocol.md has it."""


class Reservation:
    """A recorded call: what it was given, how its attempts went, and whether the code asked for its cancellation."""

    __slots__ = ("address", "attempt", "cancel_requested", "child", "due", "label", "not_before", "number", "record")

    def __init__(self, entry: dict[str, Any]) -> None:
        self.number: int = entry["c"]
        self.address: str = entry["a"]
        self.label: str = entry["l"]
        self.due: int | None = entry.get("due")
        self.child: str | None = entry.get("run")
        self.attempt = 0
        self.not_before: int | None = None
        self.cancel_requested = False
        self.record: Record | None = None


class Journal:
    """The worker's entries of a history. `began` is None where the run never was in a worker's hands.

    `rewound`: the run had ended but for an event that came before that was written; it is to get the event, whatever the clock says.
    """

    __slots__ = ("_by_address", "_expected", "_places", "_records", "_reservations", "began", "rewound", "size")

    def __init__(self, chunks: Sequence[str]) -> None:
        self.began: int | None = None
        self.rewound = False
        self._reservations: dict[int, Reservation] = {}
        self._by_address: dict[str, deque[Reservation]] = {}
        self._records: dict[int, Record] = {}  # by their place, in its order
        self._places: dict[int, int] = {}
        self._expected: list[int] = []
        for chunk in chunks:
            for entry in loads(chunk):
                self._add(entry)
        self.size = max(self._reservations, default=-1) + 1

    def take(self, address: str) -> Reservation | None:
        """The oldest reservation of this address that no call has taken."""
        queue = self._by_address.get(address)
        return queue.popleft() if queue else None

    def has_call(self, address: str) -> bool:
        """Whether `take` would give a reservation."""
        return bool(self._by_address.get(address))

    def has_end(self, address: str) -> bool:
        """Whether the reservation that `take` would give has a record."""
        queue = self._by_address.get(address)
        return queue[0].record is not None if queue else False

    def expect(self, call: Reservation) -> None:
        """A call waits for the record of this reservation."""
        heappush(self._expected, self._places[call.number])

    def next_record(self) -> Record | None:
        """Takes the earliest record that a call waits for; a cancellation is always waited for."""
        if not self._expected:
            return None
        return self._records.pop(heappop(self._expected))

    @property
    def exhausted(self) -> bool:
        """Whether every record was handed back."""
        return not self._records

    def leftovers(self, removed: Iterable[str]) -> list[Reservation]:
        """Calls with a record that no code asked for, but for those said to be removed (prefixes of addresses)."""
        gone = tuple(removed)
        left = (self._reservations[record["c"]] for record in self._records.values() if "c" in record)
        return [call for call in left if not (gone and call.address.startswith(gone))]

    def _add(self, entry: dict[str, Any]) -> None:
        kind = entry["k"]
        if kind in _RESTS:
            self.rewound = self.rewound or entry.get("by") == QueuedBy.REWOUND
            return
        self.rewound = False
        if kind == _CALL:
            call = Reservation(entry)
            self._reservations[call.number] = call
            self._by_address.setdefault(call.address, deque()).append(call)
        elif kind in _ENDS:
            self._reservations[entry["c"]].record = entry
            self._places[entry["c"]] = self._keep(entry)
        elif kind == _ATTEMPT:
            call = self._reservations[entry["c"]]
            call.attempt, call.not_before = entry["n"], entry["due"]
        elif kind == _CHILD_CANCEL_REQUESTED:
            self._reservations[entry["c"]].cancel_requested = True
        elif kind == _CANCEL:
            heappush(self._expected, self._keep(entry))
        elif kind == _BEGAN:
            self.began = entry["at"]

    def _keep(self, record: Record) -> int:
        """Where it is among the records."""
        place = len(self._records)
        self._records[place] = record
        return place
