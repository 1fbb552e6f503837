"""The rows that statements take and give: tuples in the order of their columns, so that nothing is copied by name."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID


class Row(NamedTuple):
    """A run without its payloads; in the order of `lanes.lock` and of the claims."""

    id: UUID
    namespace: str
    workflow: str
    version: str | None
    pool: str | None
    build: str | None
    status: str
    epoch: int
    worker: str | None
    commit_no: int
    deliveries: int
    history_len: int
    steps: int
    inbox_seq: int
    inbox_acked_seq: int
    error: str | None
    waits: str | None
    waits_events: str | None
    waits_children: bool
    waits_retry: bool
    due_at: datetime | None
    parent: UUID | None
    on_parent_close: str
    has_children: bool
    closes_children: bool
    cancel_requested: bool
    pause_requested: bool
    created_at: datetime
    started_at: datetime | None
    claimed_at: datetime | None
    finished_at: datetime | None
    ref: str | None


_PLACES = {name: place for place, name in enumerate(Row._fields)}


def changed(row: Row, **values: object) -> Row:
    """What `row._replace` gives, in half its time: each commit changes a few of the many columns."""
    columns: list[Any] = list(row)
    for name, value in values.items():
        columns[_PLACES[name]] = value
    return tuple.__new__(Row, columns)


class Place(NamedTuple):
    """Where a version of a row lies, and who wrote it: as long as both are the same, nobody has changed the row."""

    ctid: tuple[int, int]
    xmin: int


class Chunk(NamedTuple):
    """History entries to append; in the order of `lanes.write`."""

    run: UUID
    seq: int
    size: int
    entries: str
    epoch: int
    worker: str | None


class NewItem(NamedTuple):
    """An inbox item to store; in the order of `lanes.write`."""

    run: UUID
    seq: int
    kind: str
    name: str | None
    payload: str | None
    child: UUID | None
    status: str | None
    error: str | None
    event_id: str | None


class Item(NamedTuple):
    """A stored inbox item; in the order of the statements that read them."""

    run: UUID
    seq: int
    kind: str
    name: str | None
    payload: str | None
    child: UUID | None
    status: str | None
    error: str | None
    at: datetime


class NewRun(NamedTuple):
    """A run to create; in the order of `starts.insert`."""

    id: UUID
    namespace: str
    workflow: str
    version: str | None
    pool: str | None
    build: str | None
    status: str
    ref: str | None
    ref_hash: str | None
    input: str
    due_at: datetime | None
    trial: str | None = None
    """Behind what is inserted: where a roll-out drew the run for its build, how the pool treats builds."""


class NewChild(NamedTuple):
    """A child to create; in the order of `lanes.write`."""

    id: UUID
    namespace: str
    workflow: str
    version: str | None
    pool: str | None
    build: str | None
    input: str
    parent: UUID
    on_parent_close: str


class Existing(NamedTuple):
    """A run that stood in the way of a start."""

    id: UUID
    namespace: str
    ref: str | None
    ref_hash: str | None
    status: str
    version: str | None
    pool: str | None


class Brought(NamedTuple):
    """What comes with a claimed run: the chunks of its history, and what came in and was not consumed, both in order."""

    history: list[str]
    inbox: list[Item]


class ClaimedRow(NamedTuple):
    """A run that was just claimed; `brought` where it was read in the same statement."""

    row: Row
    input: str
    place: Place
    large: bool
    """It brings more than an answer should hold besides others: it is read in pages."""
    brought: Brought | None = None


class Granted(NamedTuple):
    """Runs that a worker was given, how many bytes they have with what they bring, and whether others have to wait for the next answer."""

    rows: list[ClaimedRow]
    spent: int
    cut: bool


class Ended(NamedTuple):
    """How a run ended, or that it has not."""

    id: UUID
    namespace: str
    status: str
    output: str | None
    error: str | None
