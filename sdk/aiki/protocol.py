"""The wire: every body that crosses HTTP between client, worker, operator and server.

Payloads (inputs, outputs, events, state) are opaque JSON. On the public API they are plain JSON members; in the
worker protocol they are *JSON text inside a string*, so that the server stores and hands back the exact text that
was written, whatever a JSON library in between would have made of it. Instants in the worker protocol and in the
history are integers: microseconds since the Unix epoch by Postgres's clock. On the public API they are RFC 3339.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, NewType, NotRequired, TypedDict

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

RunId = NewType("RunId", str)
"""32 lower-case hex digits: 2 of shard, 12 of creation time in milliseconds, 18 of randomness."""
WorkerId = NewType("WorkerId", str)
JsonText = str
"""A JSON document, as text."""
Micros = int
"""Microseconds since the Unix epoch, by the database's clock."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,254}$"
RUN_ID_PATTERN = r"^[0-9a-f]{32}$"
DEFAULT_PORT = 8080
DEFAULT_URL = f"http://127.0.0.1:{DEFAULT_PORT}"
"""Where a server answers that was told nothing else, and where clients look for one."""
DOCUMENTS_URL = "https://aiki.dev"
"""Where the documents are read; an error links to its section there. Whoever has no network opens `site/` of `make docs`, which has the same paths."""
CONSUMER_GROUP = "workers"
"""The consumer group of every stream: its consumers are the workers that read it, and each entry goes to one of them."""

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
RunIdText = Annotated[str, StringConstraints(pattern=RUN_ID_PATTERN)]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""The hosts that are this machine."""
MAX_COUNT = 2**31 - 1
"""The largest number of whatever is counted: the database keeps it in four bytes."""

MAX_REQUEST_BYTES = 4 * 1024 * 1024
MAX_COMMIT_BYTES = 3 * MAX_REQUEST_BYTES
"""Of a worker's commit: an output and a state, as text inside of JSON, where quotes and backslashes are escaped once more."""
MAX_PAYLOAD_BYTES = 2 * 1024 * 1024
MAX_JSON_DEPTH = 64
MAX_INTEGER_DIGITS = 1_000
MAX_ERROR_MESSAGE_BYTES = 8 * 1024
MAX_ERROR_STACK_BYTES = 64 * 1024
MAX_STEPS = 50_000
MAX_OPEN_EVENTS = 10_000
MAX_OPEN_EVENT_BYTES = 32 * 1024 * 1024
"""Of the events of a run that nobody has consumed: a worker reads them all before it goes on."""
MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Of what the runs of a claim bring together, or of what came in for the runs of a commit or of a question after inboxes; one item at least."""
MAX_BATCH = 1_000
MAX_DELIVERIES = 10
MAX_CONCURRENCY = 10_000
MAX_OPS = 2_000
MAX_CHILDREN = 1_000
"""Children that all ops of one commit start together."""
MAX_CANCEL_CHILDREN = 10_000
"""Children that all ops of one commit cancel together."""
MAX_CONSUMED = 60_000
"""Inbox items that all ops of one commit consume together."""
MAX_AWAITED_EVENTS = 10_000
MAX_WAITS = 1_000
MAX_ERROR_TYPE = 1_024

MAX_EVENT_SCHEMA = 4 * 1024
"""Characters of the schema of an event's payload; what is larger is not sent, and the payload not checked before the run is there."""
MAX_EVENT_SCHEMAS = 500
MAX_EVENT_SCHEMAS_TOGETHER = 128 * 1024
"""How many schemas one worker registers, and their characters."""

MIN_TOKEN_LENGTH = 8
"""A shorter token is a mistake: what was left of a variable, a name, a word to try it with."""
GOOD_TOKEN_LENGTH = 16
"""A shorter one might be guessed."""

LEASE_SECONDS = 15.0
HEARTBEAT_SECONDS = 5.0
IN_PLACE_SECONDS = 5.0
"""Retry delays up to this are waited in the worker; longer ones park the run."""


_is_run_id = re.compile(RUN_ID_PATTERN.removesuffix("$")).fullmatch


def is_run_id(text: str) -> bool:
    """Whether a text is the id of a run, as servers write them."""
    return _is_run_id(text) is not None


def explained_at(kind: str) -> str:
    """The section of the documents that explains an error of this kind: an exception's class, the type of a run's error, or the end of a problem's type."""
    return f"{DOCUMENTS_URL}/operate/troubleshooting.html#{kind.lower()}"


def least_token_length(namespace: str) -> int:
    """Of the token of a namespace: a short one that is shorter than the name before it may well be the name, and the name the token."""
    return max(MIN_TOKEN_LENGTH, min(GOOD_TOKEN_LENGTH, len(namespace)))


def figures_token(token: str) -> str:
    """The token that reads the figures of workers which have `token`, and does nothing else: it can be made of that one, and not the other way round."""
    return hashlib.sha256(f"figures:{token}".encode()).hexdigest()


class Wire(BaseModel):
    """Base of the wire models: immutable, unknown members refused; each is built when it is first used, for most programs use few."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class WireAnswer(Wire):
    """What a server answers: a later release may say more, and whoever is of this one goes on without it."""

    model_config = ConfigDict(extra="ignore")


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


class ErrorInfo(Wire):
    """A failure as it travels and is stored: cut to MAX_ERROR_MESSAGE_BYTES and MAX_ERROR_STACK_BYTES, with a mark."""

    type: Annotated[str, StringConstraints(max_length=MAX_ERROR_TYPE)]
    message: Annotated[str, StringConstraints(max_length=MAX_ERROR_MESSAGE_BYTES)]
    stack: Annotated[str, StringConstraints(max_length=MAX_ERROR_STACK_BYTES)] | None = None
    retryable: bool = True


# ---- public API -------------------------------------------------------------------------------------------------


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


class Problem(BaseModel):
    """RFC 9457 problem document; `application/problem+json`."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = None


# ---- the history of a run ---------------------------------------------------------------------------------------


class EntryKind(StrEnum):
    """The kinds of history entries: what an entry has as `k`, and the public API as `kind`. Below, one class for each says what it has besides.

    Workers write `began` to `cancelled`, and replay them. The server writes `parked`, `queued` and `paused`, and the end of a run that ends
    without its code; replay passes over what the server wrote.
    """

    BEGAN = "began"
    CALL = "call"
    CHILD_CANCEL_REQUESTED = "child_cancel_requested"
    DONE = "done"
    FAILED = "failed"
    ATTEMPT = "attempt"
    CANCEL = "cancel"
    COMPLETED = "completed"
    FAILED_RUN = "failed_run"
    CANCELLED = "cancelled"
    PARKED = "parked"
    QUEUED = "queued"
    PAUSED = "paused"


SERVER_KINDS: Final[frozenset[str]] = frozenset({EntryKind.PARKED, EntryKind.QUEUED, EntryKind.PAUSED})
"""The kinds that only the server writes."""
END_KINDS: Final[dict[Status, EntryKind]] = {
    Status.COMPLETED: EntryKind.COMPLETED,
    Status.FAILED: EntryKind.FAILED_RUN,
    Status.CANCELLED: EntryKind.CANCELLED,
}
"""The entry that ends a run, by the status in which the run ends."""


class QueuedBy(StrEnum):
    """Why a run was queued again: what a `queued` entry has as `by`."""

    TIMER = "timer"
    EVENT = "event"
    CHILD = "child"
    CANCEL = "cancel"
    LOST = "lost"
    RELEASED = "released"
    REWOUND = "rewound"
    RESUME = "resume"
    RETRY = "retry"


# The keys have one letter because each is stored once for every entry of every run.


class BeganEntry(TypedDict):
    """A worker has the run in its hands for the first time."""

    k: Literal[EntryKind.BEGAN]
    at: NotRequired[Micros]


class CallEntry(TypedDict):
    """The code made a call: a task, a child, a wait, a sleep or a timer. Calls are numbered from 0 in the order in which the code makes them."""

    k: Literal[EntryKind.CALL]
    c: int
    """The number of the call."""
    a: str
    """Its address: the kind, the name, and a hash of the input."""
    l: NotRequired[str]  # noqa: E741
    """For people: `charge(amount=10)`."""
    due: NotRequired[Micros]
    """When the timer fires, or the time of a wait is up."""
    run: NotRequired[str]
    """The id of the child."""
    at: NotRequired[Micros]


class ChildCancelRequestedEntry(TypedDict):
    """The code stopped waiting for a child: the commit of this entry names it in `cancel_children`."""

    k: Literal[EntryKind.CHILD_CANCEL_REQUESTED]
    c: int
    at: NotRequired[Micros]


class DoneEntry(TypedDict):
    """A call ended well."""

    k: Literal[EntryKind.DONE]
    c: int
    v: Any
    """The result."""
    i: NotRequired[int]
    """The number of the inbox item that brought it."""
    timeout: NotRequired[bool]
    """True if a wait ended because its time was up."""
    at: NotRequired[Micros]


class FailedEntry(TypedDict):
    """A task or a child failed, and nothing more is tried."""

    k: Literal[EntryKind.FAILED]
    c: int
    e: Any
    """An ErrorInfo."""
    i: NotRequired[int]
    at: NotRequired[Micros]


class AttemptEntry(TypedDict):
    """An attempt of a task failed; another follows."""

    k: Literal[EntryKind.ATTEMPT]
    c: int
    n: int
    """The number of the attempt, from 1."""
    e: Any
    due: NotRequired[Micros]
    """When the next attempt may start."""
    at: NotRequired[Micros]


class CancelEntry(TypedDict):
    """A cancellation was delivered into the code."""

    k: Literal[EntryKind.CANCEL]
    i: int
    reason: NotRequired[str]
    at: NotRequired[Micros]


class EndEntry(TypedDict):
    """The run ended: `completed`, `failed_run` or `cancelled`."""

    k: Literal[EntryKind.COMPLETED, EntryKind.FAILED_RUN, EntryKind.CANCELLED]
    e: NotRequired[Any]
    at: NotRequired[Micros]


class ParkedEntry(TypedDict):
    """The run waits for something outside."""

    k: Literal[EntryKind.PARKED]
    at: Micros
    on: list[dict[str, Any]]
    """What it waits for."""


class QueuedEntry(TypedDict):
    """The run may be claimed again."""

    k: Literal[EntryKind.QUEUED]
    at: Micros
    by: QueuedBy


class PausedEntry(TypedDict):
    """The run rests until somebody resumes or retries it."""

    k: Literal[EntryKind.PAUSED]
    at: Micros
    e: NotRequired[Any]
    """What stopped it; absent if a person paused it."""


Entry = (
    BeganEntry
    | CallEntry
    | ChildCancelRequestedEntry
    | DoneEntry
    | FailedEntry
    | AttemptEntry
    | CancelEntry
    | EndEntry
    | ParkedEntry
    | QueuedEntry
    | PausedEntry
)
"""One entry of a history, as it is stored."""


# ---- worker protocol --------------------------------------------------------------------------------------------


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


# ---- operator and people: workers, pools, builds -----------------------------------------------------------------


class WorkerInfo(WireAnswer):
    """A registered worker."""

    id: str
    pool: str
    build: str | None
    pod: str | None
    concurrency: int
    active: int
    draining: bool
    registered_at: datetime
    heartbeat_at: datetime


class WorkerList(WireAnswer):
    """The workers whose lease holds."""

    workers: list[WorkerInfo]


class BuildInfo(WireAnswer):
    """A build of a pool: the versions it carries, those it serves now, and how many runs it is needed for."""

    name: str
    promoted: bool
    registered_at: datetime
    carries: list[WorkflowVersion]
    serves: list[WorkflowVersion]
    queued: int
    running: int
    open_runs: int
    """Runs that are not terminal and that this build alone can serve (its versions, or pinned to it)."""
    next_due_at: datetime | None
    busy_workers: int
    workers: int
    promoted_at: datetime | None = None
    """When it last took over; null where it never did."""


class UnservedRuns(WireAnswer):
    """Queued runs of one kind that no live worker of their pool serves. A pool at zero has them for a moment; one that has them for long is in trouble."""

    workflow: str
    version: str | None
    """Null where the run named none and nobody has registered its workflow in the pool."""
    build: str | None
    """The build that the runs stay on, where they stay on one."""
    runs: int
    oldest_seconds: float
    """For how long the oldest of them has been queued."""
    servable: bool
    """Whether a worker that comes back as it was would serve them; if not, nobody ever will, as things are."""
    builds: list[str]
    """The builds whose workers would: none, or one; empty as well where workers without a build would."""


class BuildTrial(WireAnswer):
    """A build that has a share of its pool's new runs before it takes over, and how the newest 10,000 runs fare that were drawn for it."""

    build: str
    percent: int
    runs: int
    completed: int
    failing: int
    """Runs that have failed, have stopped with an error, wait for a retry, or have taken three workers with them. A run that was cancelled is none of them."""


class PoolLoad(WireAnswer):
    """What the autoscaler needs to know of one pool, from Postgres and Redis in one reading."""

    pool: str
    versioning: Literal["ByVersion", "Pinned"]
    now: datetime
    queued: int
    running: int
    due_soon: list[datetime]
    """The next due times of waiting runs, at most 1,000, within the coming ten minutes."""
    stream_lag: int | None
    """Entries no worker has been given yet, over all streams of the pool; null when Redis does not answer."""
    arrivals_per_second: float
    """Mean over the last 60 s of runs becoming queued (starts and wakes)."""
    service_seconds: float | None
    """Mean seconds that an activation occupied a slot, over the last 5 minutes; null when none ended."""
    builds: list[BuildInfo]
    workers: list[WorkerInfo]
    unserved: list[UnservedRuns] = Field(default_factory=list)
    oldest_queued_at: datetime | None = None
    """Since when the run that has waited longest is queued; null where none is."""
    kept: bool = True
    """Whether the server will keep the pool's builds though nobody uses them; where not, PUT /pools/{pool} makes it do so."""
    trial: BuildTrial | None = None
    """The build that has a share of the new runs and has not taken over, where there is one."""


class PoolLoads(WireAnswer):
    """GET /api/v1/pools/load."""

    pools: list[PoolLoad]


class PoolSettings(Wire):
    """PUT /api/v1/pools/{pool}."""

    versioning: Literal["ByVersion", "Pinned"] = "ByVersion"


class BuildShare(Wire):
    """PUT /api/v1/pools/{pool}/builds/{build}/share: how many of a hundred new runs go to a build that has not taken over."""

    percent: int = Field(ge=0, le=100)


class Wakes(WireAnswer):
    """GET /api/v1/pools/wake?timeout=s: the pools at which work arrived while no slot was free; empty at the deadline."""

    pools: list[str]


class Drain(Wire):
    """POST /api/v1/workers/{worker}/drain."""

    drain: bool


class Moved(WireAnswer):
    """How many runs went back to the queue."""

    runs: int


class WorkflowInfo(WireAnswer):
    """A workflow version that was registered, and where it is served."""

    workflow: str
    version: str
    pool: str
    builds: list[str]
    workers: int


class WorkflowList(WireAnswer):
    """GET /api/v1/workflows."""

    workflows: list[WorkflowInfo]


History.model_rebuild()
CommitOp.model_rebuild()
