"""Bodies of the worker protocol: register, heartbeat, claim, replay, commit, inbox, deregister."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from aiki.protocol.errors import ErrorInfo
from aiki.protocol.limits import (
    MAX_AWAITED_EVENTS,
    MAX_BATCH,
    MAX_CANCEL_CHILDREN,
    MAX_CHILDREN,
    MAX_CONCURRENCY,
    MAX_CONSUMED,
    MAX_COUNT,
    MAX_EVENT_SCHEMA,
    MAX_EVENT_SCHEMAS,
    MAX_OPS,
    MAX_WAITS,
)
from aiki.protocol.names import JsonText, Micros, Name, RunIdText
from aiki.protocol.runs import Status
from aiki.protocol.wire import Wire, WireAnswer


class WorkflowVersion(Wire):
    """A version that a worker carries."""

    workflow: Name
    version: Name


class EventSchema(Wire):
    """Which payloads an event takes, in the code of this version: JSON Schema, as text. docs/internals/protocol.md has the words that are heeded."""

    workflow: Name
    version: Name
    event: Name
    payload_schema: Annotated[JsonText, StringConstraints(max_length=MAX_EVENT_SCHEMA)]


class RegisterRequest(Wire):
    """POST /api/v1/worker/register: also the way back in after the server answered that a worker is unknown."""

    worker: Name
    pool: Name
    build: Name | None = None
    pod: Name | None = None
    concurrency: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)]
    workflows: Annotated[list[WorkflowVersion], Field(fail_fast=True, min_length=1, max_length=1_000)]
    events: Annotated[list[EventSchema], Field(fail_fast=True, max_length=MAX_EVENT_SCHEMAS)] = Field(default_factory=list)
    """Of these versions, as far as the worker knows. An event that is not named takes anything."""
    number: Annotated[int, Field(ge=0, le=MAX_COUNT)] = 0
    """Counts the registrations of this worker from 1: an older one that arrives late has no effect. 0: is not counted."""


class Assignment(WireAnswer):
    """What a worker serves now: the streams it reads, and whether it may claim at all."""

    streams: list[str]
    drain: bool
    poll: bool = False
    """The server cannot ring now (Redis is away, silent, or takes no writes): ask for runs by claims instead of waiting at the streams."""


class Registered(WireAnswer):
    """The server's answer; `redis_url` is null where the server itself has none (the worker then polls)."""

    now: Micros
    lease_seconds: float
    heartbeat_seconds: float
    redis_url: str | None = Field(repr=False)
    inbox_channel: str
    assignment: Assignment


class HeartbeatRequest(Wire):
    """POST /api/v1/worker/heartbeat."""

    worker: Name
    active: Annotated[int, Field(ge=0)]


class Heartbeat(WireAnswer):
    """Answer: `known` false means that the lease lapsed: drop every run and register again.

    `inbox_pending` lists the runs of this worker that have something to fetch by /worker/inbox.
    """

    now: Micros
    known: bool
    redis_url: str | None = Field(default=None, repr=False)
    """As `register` answers it. It changes when the tokens of the namespace do."""
    assignment: Assignment
    inbox_pending: list[str]


class ClaimRequest(Wire):
    """POST /api/v1/worker/claim: `runs` from the stream; without them any queued runs of the worker's streams, up to `limit`."""

    worker: Name
    runs: Annotated[list[RunIdText], Field(fail_fast=True, max_length=MAX_BATCH)] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_BATCH)] = MAX_BATCH
    held: Annotated[list[RunIdText], Field(fail_fast=True, max_length=2 * MAX_CONCURRENCY)] | None = None
    """Only after the answer to a claim was lost: every run that the worker knows to be its own. What else is `running` in
    its name was granted by the lost answer, and is granted again (epoch + 1), besides what this claim asks for."""

    carries: Annotated[list[WorkflowVersion], Field(fail_fast=True, max_length=1_000)] | None = None
    """With `runs` absent: only runs of these versions. Workers of one pool without builds may carry different workflows."""


class InboxItem(WireAnswer):
    """Something that came to a run from outside, numbered per run from 1 by the server."""

    seq: int
    kind: Literal["event", "child", "cancel"]
    name: str | None = None
    payload: JsonText | None = None
    child: str | None = None
    status: Status | None = None
    error: ErrorInfo | None = None
    at: Micros


class ClaimedRun(WireAnswer):
    """A run that is now this worker's, until its lease lapses or a write is answered `stale`."""

    id: str
    workflow: str
    version: str
    epoch: int
    deliveries: int
    parent: str | None
    created_at: Micros
    claimed_at: Micros
    """No later than the claim: what comes in after it has a later instant."""
    input: JsonText
    history: list[JsonText]
    """Chunks, in order: each the text of a JSON array of entries."""
    inbox: list[InboxItem]
    """What came in and was not consumed, in order."""
    inbox_seq: int
    """The number of the newest inbox item, consumed or not."""
    pause: bool
    more: bool = False
    """History and inbox are too large to come with the claim: both are empty here, and to be asked for by /worker/replay before the run goes on."""


class Claimed(WireAnswer):
    """The runs that could be claimed, of those asked for."""

    now: Micros
    runs: list[ClaimedRun]
    remaining: list[str] = Field(default_factory=list)
    """Of the runs asked for, those that may still be queued because the answer had no room: to be claimed again."""
    more: bool = False
    """Of what a lost answer had granted there is more than this answer had room for: ask again with `held`."""


class ReplayRequest(Wire):
    """POST /api/v1/worker/replay: what a run that was claimed with `more` is replayed from, a page at a time."""

    worker: Name
    run: RunIdText
    epoch: int
    chunk: Annotated[int, Field(ge=0)] = 0
    item: Annotated[int, Field(ge=0)] = 0
    """`chunk` and `item` as the last page answered them, at first 0."""
    inbox_seq: Annotated[int, Field(ge=0)]
    """As the claim answered it."""


class ReplayPage(WireAnswer):
    """A page: history comes before the inbox. `stale` means that the run is not this worker's any more."""

    now: Micros
    stale: bool
    history: list[JsonText]
    inbox: list[InboxItem]
    chunk: int
    item: int
    more: bool


class ChildStart(Wire):
    """A child to create in the commit that records its reservation. The worker chooses the id, so a repeated commit creates it once."""

    id: RunIdText
    workflow: Name
    version: Name | None = None
    pool: Name | None = None
    input: JsonText
    on_parent_close: Literal["cancel", "abandon"] = "cancel"


class Park(Wire):
    """Give the run back until something it waits for happens, unless the inbox goes beyond `inbox_seen` already."""

    inbox_seen: int
    """Up to which inbox item the worker has read."""
    due_at: Micros | None
    events: Annotated[list[Name], Field(fail_fast=True, max_length=MAX_AWAITED_EVENTS)]
    children: bool
    waits: Annotated[list[dict[str, Any]], Field(fail_fast=True, max_length=MAX_WAITS)]


class CommitOp(Wire):
    """What one run has to say in one commit.

    `number` counts the commits of this epoch from 1: a repeated one is answered as the first was and changes nothing.
    """

    run: RunIdText
    epoch: int
    number: int
    entries: JsonText = "[]"
    count: int = 0
    steps: int = 0
    consumed: Annotated[list[int], Field(fail_fast=True, max_length=MAX_CONSUMED)] = Field(default_factory=list)
    children: Annotated[list[ChildStart], Field(fail_fast=True, max_length=MAX_CHILDREN)] = Field(default_factory=list)
    cancel_children: Annotated[list[RunIdText], Field(fail_fast=True, max_length=MAX_CANCEL_CHILDREN)] = Field(default_factory=list)
    """Children of this run that its code stopped waiting for: they are cancelled, unless they were started to be abandoned."""
    state: JsonText | None = None
    park: Park | None = None
    release: bool = False
    rewound: bool = False
    """With `release`: a finish was answered `inbox_pending`, and what led to it was taken back. Who replays the run hands over what is in its inbox before any timer."""
    stop: ErrorInfo | None = None
    """Pause the run with this error, resumable: a divergence, or code that blocks the loop."""
    finish: Finish | None = None


class Finish(Wire):
    """The end of a run. With `inbox_seen` nothing is written if the inbox goes beyond it: the answer is `inbox_pending`, and the code looks again."""

    status: Literal[Status.COMPLETED, Status.FAILED, Status.CANCELLED]
    output: JsonText | None = None
    error: ErrorInfo | None = None
    inbox_seen: int | None = None


class CommitRequest(Wire):
    """POST /api/v1/worker/commit."""

    worker: Name
    ops: Annotated[list[CommitOp], Field(fail_fast=True, min_length=1, max_length=MAX_OPS)]


class CommitOutcome(StrEnum):
    """OK: written. PARKED: written and given back. INBOX_PENDING: written, not parked, and to be read before anything starts: `inbox`, `pause`.

    STALE: nothing written, the run is not this worker's any more. REFUSED: nothing written, `detail` says why.
    """

    OK = "ok"
    PARKED = "parked"
    INBOX_PENDING = "inbox_pending"
    STALE = "stale"
    REFUSED = "refused"


class CommitAnswer(WireAnswer):
    """The answer to one op."""

    outcome: CommitOutcome
    inbox: list[InboxItem] = Field(default_factory=list)
    pause: bool = False
    """Somebody wants the run to rest: start nothing more."""
    detail: str | None = None


class Committed(WireAnswer):
    """Answers in the order of the ops; `now` was read from the database within the transaction."""

    now: Micros
    answers: list[CommitAnswer]


class InboxQuery(Wire):
    """One run of an InboxRequest: what has come in after `inbox_seen`?"""

    run: RunIdText
    epoch: int
    inbox_seen: int


class InboxRequest(Wire):
    """POST /api/v1/worker/inbox."""

    worker: Name
    runs: Annotated[list[InboxQuery], Field(fail_fast=True, min_length=1, max_length=MAX_BATCH)]


class InboxUpdate(WireAnswer):
    """What came in for one run; `stale` means that it is not this worker's any more."""

    run: str
    stale: bool
    pause: bool
    inbox: list[InboxItem]


class InboxUpdates(WireAnswer):
    """Answer of /worker/inbox."""

    now: Micros
    runs: list[InboxUpdate]
    more: bool = False
    """More came in than an answer may hold: ask again, with what was read."""


class DeregisterRequest(Wire):
    """POST /api/v1/worker/deregister: a clean end; what the worker still holds goes back to the queue at once."""

    worker: Name
    number: Annotated[int, Field(ge=0, le=MAX_COUNT)] = 0
    """That of the registration which ends: if the worker has registered since, this has no effect. 0: whichever it is."""
