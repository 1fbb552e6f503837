"""A run's history, folded into what a person asks: what ran where, how often, how long, and what was only replayed.

Pure: history in, timeline out. A call begins at the latest instant on record before it, since code only goes on when
a record is handed back. Each epoch that wrote something is one activation; calls that ended in an earlier one are
what it replayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from aiki.cli.words import payload
from aiki.protocol import HistoryEntry

TERMINAL_KINDS = frozenset({"completed", "failed_run", "cancelled"})


class CallState(StrEnum):
    """How far a call has come."""

    OPEN = "open"
    DONE = "done"
    TIMED_OUT = "timed out"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A failed attempt of a task, and when the next may start."""

    number: int
    at: datetime
    error: str
    next_at: datetime | None
    epoch: int
    worker: str | None


@dataclass(slots=True)
class Call:
    """One call of the workflow's code: a task, a wait for an event, a sleep, a child."""

    number: int
    kind: str
    label: str
    began_at: datetime
    epoch: int
    worker: str | None
    state: CallState = CallState.OPEN
    ended_at: datetime | None = None
    ended_epoch: int | None = None
    ended_by: str | None = None
    due_at: datetime | None = None
    child: str | None = None
    detail: str | None = None
    failures: list[Attempt] = field(default_factory=list)

    @property
    def took(self) -> timedelta | None:
        """From the call to its record, waits and retries included; None while it is open."""
        return self.ended_at - self.began_at if self.ended_at else None

    @property
    def attempts(self) -> int | None:
        """How many attempts have ended; None for what is not a task."""
        if self.kind != "task":
            return None
        succeeded_or_last = self.state is not CallState.OPEN and not self._last_failure_is_the_end
        return len(self.failures) + succeeded_or_last

    @property
    def _last_failure_is_the_end(self) -> bool:
        return self.state is CallState.FAILED and bool(self.failures) and self.failures[-1].next_at is None


@dataclass(slots=True)
class Activation:
    """One stay of the run on a worker: what it took over from history, what it added, how it ended."""

    epoch: int
    worker: str | None
    began_at: datetime
    replayed: int
    ran: list[str] = field(default_factory=list)
    ended: str = "running"
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """The calls in the order of the code, and the activations in the order of time."""

    calls: list[Call]
    activations: list[Activation]


def instant(micros: int) -> datetime:
    """Microseconds since the epoch as an aware instant."""
    return datetime.fromtimestamp(0, tz=UTC) + timedelta(microseconds=micros)


def fold(entries: Sequence[HistoryEntry], *, created_at: datetime) -> Timeline:
    """Read the history once, in order."""
    folding = _Folding(now=created_at)
    for entry in entries:
        folding.read(entry)
    return Timeline(calls=list(folding.calls.values()), activations=folding.activations)


@dataclass(slots=True)
class _Folding:
    """The state of one reading."""

    now: datetime
    calls: dict[int, Call] = field(default_factory=dict)
    activations: list[Activation] = field(default_factory=list)

    def read(self, entry: HistoryEntry) -> None:
        data = entry.data
        if "at" in data:
            self.now = max(self.now, instant(data["at"]))
        match entry.kind:
            case "call":
                self._called(entry)
            case "done" | "failed":
                self._ended(entry)
            case "attempt":
                self._attempted(entry)
            case "parked" | "queued" | "paused":
                self._left(entry)
            case "began":
                self._activation(entry)
            case kind if kind in TERMINAL_KINDS:
                self._finished(entry)
            case "cancel":
                self._activation(entry).ran.append("cancellation delivered")
            case _:
                return  # a kind of a later release: the rest of the timeline still holds

    def _called(self, entry: HistoryEntry) -> None:
        data = entry.data
        self._activation(entry)
        self.calls[data["c"]] = Call(
            number=data["c"],
            kind=data["a"].partition(":")[0],
            label=data["l"],
            began_at=self.now,
            epoch=entry.epoch,
            worker=entry.worker,
            due_at=instant(data["due"]) if data.get("due") is not None else None,
            child=data.get("run"),
        )

    def _ended(self, entry: HistoryEntry) -> None:
        data, call = entry.data, self.calls[entry.data["c"]]
        self._activation(entry).ran.append(call.label)
        call.ended_at, call.ended_epoch, call.ended_by = self.now, entry.epoch, entry.worker
        if entry.kind == "failed":
            call.state, call.detail = CallState.FAILED, _error(data["e"])
        elif data.get("timeout"):
            call.state = CallState.TIMED_OUT
        else:
            call.state, call.detail = CallState.DONE, payload(data.get("v"))

    def _attempted(self, entry: HistoryEntry) -> None:
        data = entry.data
        due = data.get("due")
        call = self.calls[data["c"]]
        call.failures.append(
            Attempt(
                number=data["n"],
                at=self.now,
                error=_error(data["e"]),
                next_at=instant(due) if due is not None else None,
                epoch=entry.epoch,
                worker=entry.worker,
            )
        )
        self._activation(entry).ran.append(f"{call.label} attempt {data['n']}")

    def _left(self, entry: HistoryEntry) -> None:
        if not self.activations or self.activations[-1].ended != "running":
            return
        last = self.activations[-1]
        last.ended, last.ended_at = _ENDINGS.get(entry.data.get("by", ""), entry.kind), self.now

    def _finished(self, entry: HistoryEntry) -> None:
        if entry.worker is None and not self.activations:
            return  # ended by the server before it began
        last = self._activation(entry)
        last.ended, last.ended_at = "failed" if entry.kind == "failed_run" else entry.kind, self.now

    def _activation(self, entry: HistoryEntry) -> Activation:
        if not self.activations or self.activations[-1].epoch != entry.epoch:
            replayed = sum(call.state is not CallState.OPEN for call in self.calls.values())
            self.activations.append(Activation(epoch=entry.epoch, worker=entry.worker, began_at=self.now, replayed=replayed))
        return self.activations[-1]


_ENDINGS = {"lost": "worker lost", "released": "handed back"}


def _error(error: dict[str, Any]) -> str:
    return f"{error['type']}: {error['message']}"
