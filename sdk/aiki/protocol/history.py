"""What is recorded of a run: the kinds of entries, and the members that each kind has."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, Literal, NotRequired, TypedDict

from aiki.protocol.names import Micros
from aiki.protocol.runs import Status


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
