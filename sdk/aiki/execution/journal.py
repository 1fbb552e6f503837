"""What was recorded of a run, in the form in which replay asks for it.

Reservations are found by address, first in, first out; records (ends of calls, and the delivery of a cancellation) are handed
back each time the earliest that can be. The server's own entries are none of replay's business and are skipped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from aiki.codec import loads

Record = dict[str, Any]
"""A `done`, `failed` or `cancel` entry, as docs/protocol.md has it."""


class Reservation:
    """A recorded call: what it was given, how its attempts went, and whether the code gave it up."""

    __slots__ = ("address", "attempt", "child", "due", "given_up", "label", "not_before", "number", "record")

    def __init__(self, entry: dict[str, Any]) -> None:
        self.number: int = entry["c"]
        self.address: str = entry["a"]
        self.label: str = entry["l"]
        self.due: int | None = entry.get("due")
        self.child: str | None = entry.get("run")
        self.attempt = 0
        self.not_before: int | None = None
        self.given_up = False
        self.record: Record | None = None


class Journal:
    """The worker's entries of a history. `began` is None where the run never was in a worker's hands.

    `rewound`: the run had ended but for an event that came before that was written; it is to get the event, whatever the clock says.
    """

    __slots__ = ("_by_address", "_first", "_records", "_reservations", "began", "rewound", "size")

    def __init__(self, chunks: Sequence[str]) -> None:
        self.began: int | None = None
        self.rewound = False
        self._reservations: dict[int, Reservation] = {}
        self._by_address: dict[str, deque[Reservation]] = {}
        self._records: list[Record | None] = []
        self._first = 0
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

    def next_record(self, awaited: Collection[int]) -> Record | None:
        """Takes the earliest record that one of the awaited calls waits for; a cancellation is always waited for."""
        records = self._records
        for index in range(self._first, len(records)):
            record = records[index]
            if record is not None and (record["k"] == "cancel" or record["c"] in awaited):
                records[index] = None
                self._skip()
                return record
        return None

    @property
    def exhausted(self) -> bool:
        """Whether every record was handed back."""
        return self._first == len(self._records)

    def leftovers(self, removed: Iterable[str]) -> list[Reservation]:
        """Calls with a record that no code asked for, but for those said to be removed (prefixes of addresses)."""
        gone = tuple(removed)
        left = (self._reservations[record["c"]] for record in self._records[self._first :] if record is not None and "c" in record)
        return [call for call in left if not (gone and call.address.startswith(gone))]

    def _add(self, entry: dict[str, Any]) -> None:
        if entry["k"] in ("queued", "paused"):
            self.rewound = self.rewound or entry.get("by") == "news"
            return
        self.rewound = False
        match entry["k"]:
            case "call":
                call = Reservation(entry)
                self._reservations[call.number] = call
                self._by_address.setdefault(call.address, deque()).append(call)
            case "done" | "failed":
                self._reservations[entry["c"]].record = entry
                self._records.append(entry)
            case "attempt":
                call = self._reservations[entry["c"]]
                call.attempt, call.not_before = entry["n"], entry["due"]
            case "given_up":
                self._reservations[entry["c"]].given_up = True
            case "cancel":
                self._records.append(entry)
            case "began":
                self.began = entry["at"]

    def _skip(self) -> None:
        records = self._records
        while self._first < len(records) and records[self._first] is None:
            self._first += 1
