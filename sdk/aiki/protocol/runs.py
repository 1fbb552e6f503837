"""Bodies for applications: start runs, read them, send them events, steer them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints

from aiki.protocol.errors import ErrorInfo
from aiki.protocol.limits import MAX_BATCH
from aiki.protocol.names import Name
from aiki.protocol.wire import Wire, WireAnswer


class Status(StrEnum):
    """The states of a run; the last three are terminal and never change."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether the run has ended for good."""
        return self in TERMINAL


TERMINAL: Final[frozenset[str]] = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
"""Statuses that never change again; a set of texts, for rows of the database have their status as text."""


class Conflict(StrEnum):
    """What a start does when its `ref` is taken: answer with that run, or refuse with 409."""

    EXISTING = "existing"
    REJECT = "reject"


class StartRequest(Wire):
    """POST /api/v1/runs."""

    workflow: Name
    version: Name | None = None
    pool: Name | None = None
    input: Any = None
    ref: Name | None = Field(default=None, description="Idempotency key: at most one run per namespace has it.")
    on_conflict: Conflict = Conflict.EXISTING
    start_at: datetime | None = Field(default=None, description="Not before this instant (RFC 3339, with an offset).")


class StartBatchRequest(Wire):
    """POST /api/v1/runs:batch."""

    runs: Annotated[list[StartRequest], Field(fail_fast=True, min_length=1, max_length=MAX_BATCH)]


class StartedRun(WireAnswer):
    """Answer to a start. `created` is false where `ref` named a run that was there already."""

    id: str
    created: bool
    status: Status
    version: str | None = None
    pool: str | None = None
    notice: str | None = Field(default=None, description="Said when no worker has registered the workflow yet.")


class StartedBatch(WireAnswer):
    """Answer to a batch start, in the order of the request."""

    runs: list[StartedRun]


class WaitInfo(WireAnswer):
    """One thing a waiting run waits for."""

    kind: Literal["sleep", "event", "child", "retry"]
    name: str | None = None
    child: str | None = None
    attempt: int | None = None
    due_at: datetime | None = None


class RunInfo(WireAnswer):
    """A run as the public API shows it."""

    id: str
    workflow: str
    version: str | None
    pool: str | None
    build: str | None
    status: Status
    ref: str | None
    parent: str | None
    input: Any
    output: Any = None
    error: ErrorInfo | None = None
    state: dict[str, Any]
    waits: list[WaitInfo]
    worker: str | None
    epoch: int
    steps: int
    cancel_requested: bool
    pause_requested: bool
    notice: str | None
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None
    due_at: datetime | None


class RunSummary(WireAnswer):
    """A run in a listing: no payloads."""

    id: str
    workflow: str
    version: str | None
    pool: str | None
    status: Status
    ref: str | None
    parent: str | None
    steps: int
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    due_at: datetime | None


class RunList(WireAnswer):
    """A page of runs, newest first; `next` is the cursor of the following page, which may be there after a page that is not full."""

    runs: list[RunSummary]
    next: str | None = None


class RunResult(WireAnswer):
    """Answer of GET /runs/{id}/result: 200 once terminal, 202 while not (then only `status` means anything)."""

    id: str
    status: Status
    output: Any = None
    error: ErrorInfo | None = None


class HistoryEntry(WireAnswer):
    """One entry of a run's history, numbered 1..n without gaps; `data` has the members that docs/internals/protocol.md lists for its kind."""

    seq: int
    kind: str
    at: datetime
    epoch: int
    worker: str | None
    data: dict[str, Any]


class History(WireAnswer):
    """A page of a run's history, with the events that no code has consumed."""

    entries: list[HistoryEntry]
    undelivered: list[UndeliveredEvent]
    next: int | None = None


class UndeliveredEvent(WireAnswer):
    """An event that was acknowledged and that no wait has taken yet."""

    seq: int
    name: str
    payload: Any
    received_at: datetime


class EventRequest(Wire):
    """POST /api/v1/runs/{id}/events. `id` makes a retry safe: one run takes an id once."""

    name: Name
    payload: Any = None
    id: Name | None = None


class EventAccepted(WireAnswer):
    """The event is stored; `seq` is its number among all that came in for the run."""

    seq: int
    created: bool


class OrderRequest(Wire):
    """POST /api/v1/runs/{id}/pause, resume and retry; the body may be left out. With an `id`, only the first of its repetitions has an effect."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None


class CancelRequest(Wire):
    """POST /api/v1/runs/{id}/cancel."""

    reason: Annotated[str, StringConstraints(max_length=1024)] | None = None
    force: bool = False
    """End the run at once, whatever state it is in, without telling its code: nothing is cleaned up or compensated."""
