"""The statements of a lane's transaction: lock, look, write."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from aiki_server.store.database import Db
from aiki_server.store.rows import Chunk, Item, NewChild, NewItem, Row
from aiki_server.store.statements import SQL

_LOCK = SQL["lanes.lock"]
_WRITE = SQL["lanes.write"]


class Locked(NamedTuple):
    """What `lock` found: rows by id, and the instant after the last lock was taken."""

    rows: dict[UUID, Row]
    now: datetime


class Progress(NamedTuple):
    """A run that goes on where it is: the columns that a commit changes most often."""

    place: tuple[int, int]
    commit_no: int
    history_len: int
    steps: int
    state: str | None
    has_children: bool


class Change(NamedTuple):
    """A run whose state changes: every column that can."""

    place: tuple[int, int]
    status: str
    epoch: int
    commit_no: int
    deliveries: int
    history_len: int
    steps: int
    news: int
    output: str | None
    error: str | None
    state: str | None
    waits: str | None
    waits_events: str | None
    waits_children: bool
    waits_retry: bool
    due_at: datetime | None
    has_children: bool
    closes_children: bool
    cancel_requested: bool
    pause_requested: bool
    finished_at: datetime | None


class Writes(NamedTuple):
    """What one transaction writes."""

    progress: Sequence[Progress]
    changes: Sequence[Change]
    chunks: Sequence[Chunk]
    items: Sequence[NewItem]
    consumed: Sequence[tuple[UUID, int]]
    children: Sequence[NewChild]


class LostRowError(Exception):
    """A locked row was not updated: a bug, and the transaction must not be committed."""


async def lock(db: Db, ids: Collection[UUID], *, ending: Collection[UUID]) -> Locked:
    """Lock these runs, and the parents of those that may end."""
    records = await db.fetch(_LOCK, ids, ending)
    if not records:
        return Locked({}, await db.fetchval("select clock_timestamp()"))
    return Locked({record[0]: Row(*record) for record in records}, records[-1]["now"])


async def known_events(db: Db, events: Sequence[tuple[UUID, str]]) -> dict[tuple[UUID, str], int]:
    """The numbers of those events that a run has already."""
    records = await db.fetch(SQL["lanes.known_events"], *zip(*events, strict=True))
    return {(record[0], record[1]): record[2] for record in records}


async def open_events(db: Db, runs: Collection[UUID]) -> dict[UUID, int]:
    """How many events of these runs nobody has consumed."""
    return {record[0]: record[1] for record in await db.fetch(SQL["lanes.open_events"], runs)}


async def write(db: Db, writes: Writes) -> None:
    """Write everything in one statement."""
    arguments = [
        *_columns(writes.progress, len(Progress._fields)),
        *_columns(writes.changes, len(Change._fields)),
        *_columns(writes.chunks, len(Chunk._fields)),
        *_columns(writes.items, len(NewItem._fields)),
        *_columns(writes.consumed, 2),
        *_columns(writes.children, len(NewChild._fields)),
    ]
    written = await db.fetchval(_WRITE, *arguments)
    if written != len(writes.progress) + len(writes.changes):
        raise LostRowError(f"{written} of {len(writes.progress) + len(writes.changes)} locked runs were written")


async def news(db: Db, seen: Sequence[tuple[UUID, int]]) -> dict[UUID, list[Item]]:
    """What came in for each run after the number it has seen."""
    found: dict[UUID, list[Item]] = {}
    for record in await db.fetch(SQL["lanes.news"], *zip(*seen, strict=True)):
        found.setdefault(record[0], []).append(Item(*record))
    return found


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> Sequence[Sequence[Any]]:
    return list(zip(*rows, strict=True)) if rows else [()] * width
