"""A run's history, folded into what a person asks: what ran where, how often, how long, and what was only replayed.

Pure: history in, timeline out. Each epoch that wrote something is one activation; calls that had ended before it are what
it replayed. A call begins at the latest instant on record before it, since code only goes on when a record is handed back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from aiki.cli.output.format import payload, readable
from aiki.protocol import END_KINDS, SERVER_KINDS, EntryKind, HistoryEntry, QueuedBy
from aiki.values.duration import instant


class StepKind(StrEnum):
    """What happened to a call."""

    DONE = "done"
    TIMED_OUT = "timed out"
    RETRIED = "attempt failed"
    FAILED = "failed"
    CANCEL_REQUESTED = "cancel requested"
    CANCEL = "cancel delivered"


@dataclass(frozen=True, slots=True)
class TimelineStep:
    """Something that was recorded: the end of a call, or of an attempt that is followed by another, or that the cancellation of a child was requested."""

    kind: StepKind
    label: str
    at: datetime
    took: timedelta | None = None
    attempt: int | None = None
    detail: str = ""
    next_in: timedelta | None = None


@dataclass(slots=True)
class OpenCall:
    """A call of the workflow's code: a task, a wait, a sleep, a child."""

    kind: str
    label: str
    began_at: datetime
    due_at: datetime | None
    failures: int = 0


@dataclass(slots=True)
class TimelineActivation:
    """One stay of the run on a worker: what it took over, what it added, how it ended."""

    epoch: int
    worker: str | None
    began_at: datetime
    replayed: list[str]
    steps: list[TimelineStep] = field(default_factory=list)
    ended: str | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """The activations in the order of time, and the calls that have not ended."""

    activations: list[TimelineActivation]
    open: list[OpenCall]


def fold(entries: Sequence[HistoryEntry], *, created_at: datetime) -> Timeline:
    """Read the history once, in order."""
    folding = _Folding(now=created_at)
    for entry in entries:
        folding.read(entry)
    return Timeline(activations=folding.activations, open=list(folding.open.values()))


@dataclass(slots=True)
class _Folding:
    """The state of one reading."""

    now: datetime
    open: dict[int, OpenCall] = field(default_factory=dict)
    cancelled_children: dict[int, OpenCall] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    activations: list[TimelineActivation] = field(default_factory=list)

    def read(self, entry: HistoryEntry) -> None:
        data = entry.data
        if entry.kind not in _WITHOUT_INSTANT:
            self.now = max(self.now, entry.at)
        match entry.kind:
            case EntryKind.BEGAN:
                self._activation(entry)
            case EntryKind.CALL:
                self._activation(entry)
                self.open[data["c"]] = OpenCall(data["a"].partition(":")[0], readable(data["l"]), self.now, _due(data))
            case EntryKind.CHILD_CANCEL_REQUESTED:
                self._cancel_child(entry)
            case EntryKind.DONE | EntryKind.FAILED:
                self._end_call(entry)
            case EntryKind.ATTEMPT:
                self._fail_attempt(entry)
            case EntryKind.CANCEL:
                self._activation(entry).steps.append(TimelineStep(StepKind.CANCEL, "cancel", self.now, detail=data.get("reason") or ""))
            case kind if kind in SERVER_KINDS:
                self._leave(_ENDINGS.get(data.get("by", ""), entry.kind))
            case kind if kind in _STATUS:
                self._leave(_STATUS[kind])
            case _:
                return  # a kind of a later release: the rest of the timeline still holds

    def _end_call(self, entry: HistoryEntry) -> None:
        activation, data = self._activation(entry), entry.data
        call = self.open.pop(data["c"], None) or self.cancelled_children[data["c"]]
        if entry.kind == EntryKind.FAILED:
            kind, detail = StepKind.FAILED, _error(data["e"])
        else:
            kind, detail = StepKind.TIMED_OUT if data.get("timeout") else StepKind.DONE, payload(data.get("v"))
        attempt = call.failures + 1 if call.failures else None
        activation.steps.append(TimelineStep(kind, call.label, self.now, took=self.now - call.began_at, attempt=attempt, detail=detail))
        self.ended.append(call.label)

    def _cancel_child(self, entry: HistoryEntry) -> None:
        call = self.cancelled_children[entry.data["c"]] = self.open.pop(entry.data["c"])
        step = TimelineStep(
            StepKind.CANCEL_REQUESTED,
            call.label,
            self.now,
            took=self.now - call.began_at,
            detail="is to be cancelled: the code stopped waiting for it",
        )
        self._activation(entry).steps.append(step)

    def _fail_attempt(self, entry: HistoryEntry) -> None:
        data, call, due = entry.data, self.open[entry.data["c"]], _due(entry.data)
        call.failures = data["n"]
        call.due_at = due
        next_in = due - self.now if due else None
        step = TimelineStep(StepKind.RETRIED, call.label, self.now, attempt=data["n"], detail=_error(data["e"]), next_in=next_in)
        self._activation(entry).steps.append(step)

    def _leave(self, how: str) -> None:
        if self.activations and self.activations[-1].ended is None:
            self.activations[-1].ended, self.activations[-1].ended_at = how, self.now

    def _activation(self, entry: HistoryEntry) -> TimelineActivation:
        if not self.activations or self.activations[-1].epoch != entry.epoch:
            self.activations.append(TimelineActivation(entry.epoch, entry.worker, self.now, replayed=list(self.ended)))
        return self.activations[-1]


_ENDINGS = {QueuedBy.LOST: "worker lost", QueuedBy.RELEASED: "handed back"}
_STATUS = {kind.value: status.value for status, kind in END_KINDS.items()}
_WITHOUT_INSTANT = frozenset({EntryKind.CALL, EntryKind.CHILD_CANCEL_REQUESTED})
"""They have no instant of their own, only that of the commit they went out with."""


def _due(data: dict[str, Any]) -> datetime | None:
    return instant(data["due"]) if data.get("due") is not None else None


def _error(error: dict[str, Any]) -> str:
    return f"{error['type']}: {error['message']}"
