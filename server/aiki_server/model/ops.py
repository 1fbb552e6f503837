"""What can be asked of one run, and what is answered: the closed unions that lanes carry.

Every op changes at most one run (and tells its parent). Answers are tuples, made by the hundred for one commit request; the
API turns them into wire bodies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple
from uuid import UUID

from aiki.protocol import CommitOp, QueuedBy
from aiki_server.model.payload_schema import Misfit
from aiki_server.model.rows import Item, Row

Departure = Literal[QueuedBy.LOST, QueuedBy.RELEASED]
"""Why a worker does not hold its runs any more: it went silent, or it ended in order."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A worker's commit; what it carries was checked to be well-formed JSON."""

    run: UUID
    namespace: str
    worker: str
    op: CommitOp
    children: tuple[Child, ...] = ()
    waits: str = "[]"
    """Of a park, what it waits for, as JSON text for people."""
    cancel_children: tuple[UUID, ...] = ()
    """Children that are to end."""


class Child(NamedTuple):
    """A child to create, resolved to where it runs."""

    id: UUID
    workflow: str
    version: str | None
    pool: str | None
    build: str | None
    input: str
    on_parent_close: str
    trial: str | None = None
    """Where a roll-out drew the child for its build: how its pool treats builds."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """An event. `event_id` is never null, so that a repeated transaction stores it once."""

    run: UUID
    namespace: str
    name: str
    payload: str
    event_id: str
    misfits: Mapping[tuple[str, str], Misfit] | None = None
    """The workflow versions whose event does not take this payload, and why."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Someone wants the run to end. `reason` is JSON text. `force`: at once, without telling its code."""

    run: UUID
    namespace: str
    reason: str | None
    force: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Someone wants the run to rest. With an `id`, only the first of its repetitions counts."""

    run: UUID
    namespace: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """Someone wants a paused run to go on. With an `id`, only the first of its repetitions counts."""

    run: UUID
    namespace: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """Someone wants a run that stopped, or that waits for a retry, to go on now. With an `id`, only the first of its repetitions counts."""

    run: UUID
    namespace: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Lose:
    """The worker that holds the run in this epoch is gone."""

    run: UUID
    namespace: str
    epoch: int
    by: Departure


@dataclass(frozen=True, slots=True)
class GiveUpTelling:
    """The run is to be cancelled, and there is nobody who could tell its code."""

    run: UUID
    namespace: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Poison:
    """The run was delivered again and again without progress."""

    run: UUID
    namespace: str


Op = Commit | Deliver | Cancel | Pause | Resume | Retry | Lose | GiveUpTelling | Poison


@dataclass(frozen=True, slots=True)
class ChildEnded:
    """A child of the run ended; made within the transaction that ends the child."""

    child: UUID
    status: str
    output: str | None
    error: str | None


# ---- answers --------------------------------------------------------------------------------------------------------


class Written(NamedTuple):
    """The commit was written. `parked`: and the run given back."""

    parked: bool


class InboxPending(NamedTuple):
    """The commit was written, the run not parked: something came in after `inbox_seen`, or somebody wants it to rest (`pause`)."""

    inbox_seen: int
    items: tuple[Item, ...] = ()
    pause: bool = False


class Stale(NamedTuple):
    """Nothing was written: the run is not this worker's (any more)."""


class Refused(NamedTuple):
    """Nothing was written, for this reason."""

    detail: str


class Accepted(NamedTuple):
    """The event has this number; it was there before unless `created`."""

    seq: int
    created: bool


class Changed(NamedTuple):
    """The run as it is now."""

    row: Row


class Missing(NamedTuple):
    """There is no such run in this namespace."""


class Conflict(NamedTuple):
    """The state of the run does not allow it."""

    detail: str


class Full(NamedTuple):
    """The run has too many events that nobody consumed."""


class Unfit(NamedTuple):
    """The event of the run's workflow version does not take the payload."""

    workflow: str
    version: str
    misfit: Misfit


Answer = Written | InboxPending | Stale | Refused | Accepted | Changed | Missing | Conflict | Full | Unfit
