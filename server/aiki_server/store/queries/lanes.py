"""The statements of a lane's transaction: lock, look, write."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple, get_type_hints
from uuid import UUID

import asyncpg

from aiki.protocol import MAX_ANSWER_BYTES
from aiki_server.model.rows import Chunk, Item, NewChild, NewItem, Place, Row
from aiki_server.store.connections import Db
from aiki_server.store.statements import SQL

_LOCK = SQL["lanes.lock"]
_WRITE = SQL["lanes.write"]
_ADVANCE = SQL["lanes.advance"]


class Known(NamedTuple):
    """Rows by id, where each lies, and what time it is."""

    rows: dict[UUID, Row]
    places: dict[UUID, Place]
    now: datetime


class Written(NamedTuple):
    """Where the written rows lie now, and when that was."""

    places: dict[UUID, Place]
    now: datetime


class At(NamedTuple):
    """Which version of which run is to be written: nothing is, unless all of it is as it was. The first columns of what is written."""

    ctid: tuple[int, int]
    xmin: int
    id: UUID
    epoch: int
    history_len: int


class Progress(NamedTuple):
    """A run that goes on where it is: the columns that a commit changes most often."""

    ctid: tuple[int, int]
    xmin: int
    id: UUID
    was_epoch: int
    was_len: int
    commit_no: int
    history_len: int
    steps: int
    state: str | None
    has_children: bool


class Change(NamedTuple):
    """A run whose state changes: every column that can."""

    ctid: tuple[int, int]
    xmin: int
    id: UUID
    was_epoch: int
    was_len: int
    status: str
    epoch: int
    commit_no: int
    deliveries: int
    history_len: int
    steps: int
    inbox_seq: int
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
    child_cancellations: Sequence[tuple[UUID, UUID]]
    """Child and parent: for `note_child_cancellations`, behind `write` in the same transaction."""


class Arrived(NamedTuple):
    """What came in for runs; `cut` where there is more than an answer may hold: the rest is asked for by what was read."""

    of: dict[UUID, list[Item]]
    cut: bool


def _as_text(row: type[tuple[Any, ...]]) -> tuple[bool, ...]:
    """Which columns of such rows go as text: numbers, truth values and ids, none of them null.

    The driver asks twice of each element of an array that is no text whether it is an array itself.
    """
    return tuple(kind in (int, bool, UUID) for kind in get_type_hints(row).values())


_PROGRESS = _as_text(Progress)
_CHANGE = _as_text(Change)
_CHUNK = _as_text(Chunk)
_ITEM = _as_text(NewItem)
_CHILD = _as_text(NewChild)
_CONSUMED = (False, True)


class ChangedMeanwhileError(Exception):
    """A row is not any more what it was when the batch was decided; nothing was written."""


async def lock(db: Db, ids: Collection[UUID], *, ending: Collection[UUID]) -> Known:
    """Lock these runs, and the parents of those that may end."""
    records = await db.fetch(_LOCK, ids, ending)
    if not records:
        return Known({}, {}, await db.fetchval(SQL["sweeps.now"]))
    rows: dict[UUID, Row] = {}
    places: dict[UUID, Place] = {}
    for *columns, ctid, xmin, _ in records:
        row = Row(*columns)
        rows[row.id], places[row.id] = row, Place(ctid, xmin)
    return Known(rows, places, records[-1]["now"])


async def known_events(db: Db, events: Sequence[tuple[UUID, str]]) -> dict[tuple[UUID, str], int]:
    """The numbers of those events that a run has already."""
    records = await db.fetch(SQL["lanes.known_events"], *zip(*events, strict=True))
    return {(record[0], record[1]): record[2] for record in records}


async def open_events(db: Db, runs: Collection[UUID]) -> dict[UUID, int]:
    """How many events of these runs nobody has consumed."""
    return {record[0]: record[1] for record in await db.fetch(SQL["lanes.open_events"], runs)}


async def left(db: Db, runs: Collection[UUID]) -> dict[UUID, tuple[str | None, list[str]]]:
    """Of runs that end without their code: the reason of their cancel, as JSON text, and the chunks of their history."""
    found: dict[UUID, tuple[str | None, list[str]]] = {run: (None, []) for run in runs}
    for run, seq, text in await db.fetch(SQL["lanes.left"], runs):
        if seq == 0:
            found[run] = text, found[run][1]
        else:
            found[run][1].append(text)
    return found


async def write(db: Db, writes: Writes) -> Written:
    """Write everything in one statement, or nothing where a row was changed since it was read."""
    arguments = [*_columns(writes.progress, _PROGRESS), *_columns(writes.chunks, _CHUNK)]
    statement = _ADVANCE
    if writes.changes or writes.items or writes.consumed or writes.children:
        statement = _WRITE
        arguments[len(_PROGRESS) : len(_PROGRESS)] = _columns(writes.changes, _CHANGE)
        arguments += [*_columns(writes.items, _ITEM), *_columns(writes.consumed, _CONSUMED), *_columns(writes.children, _CHILD)]
    try:
        records = await db.fetch(statement, *arguments)
    except (asyncpg.DivisionByZeroError, asyncpg.UniqueViolationError) as error:
        raise ChangedMeanwhileError("a run was changed by somebody else") from error
    return Written({record[0]: Place(record[1], record[2]) for record in records}, records[-1]["now"])


async def known_orders(db: Db, asked: Sequence[tuple[UUID, str]]) -> frozenset[tuple[UUID, str]]:
    """Those of these orders, by run and id, that were carried out before."""
    return frozenset((record[0], record[1]) for record in await db.fetch(SQL["lanes.known_orders"], *zip(*asked, strict=True)))


async def note_orders(db: Db, orders: Sequence[tuple[UUID, str]]) -> None:
    """Remember that these orders were carried out."""
    await db.execute(SQL["lanes.note_orders"], *zip(*orders, strict=True))


async def note_child_cancellations(db: Db, children: Sequence[tuple[UUID, UUID]]) -> None:
    """Note that these children, each with its parent, are to be cancelled."""
    await db.execute(SQL["lanes.note_child_cancellations"], *zip(*children, strict=True))


async def inbox_after(db: Db, inbox_seen: Sequence[tuple[UUID, int, str]]) -> Arrived:
    """What came in for each run after the number up to which it was read, with the namespace of each, of which it may be the beginning only."""
    found: dict[UUID, list[Item]] = {}
    records = await db.fetch(SQL["lanes.inbox_after"], *zip(*inbox_seen, strict=True), MAX_ANSWER_BYTES)
    for *item, _ in records:
        found.setdefault(item[0], []).append(Item(*item))
    return Arrived(found, cut=bool(records) and len(records) < records[0]["total"])


def _columns(rows: Sequence[tuple[Any, ...]], as_text: Sequence[bool]) -> list[Sequence[Any] | str]:
    """The rows as columns, those that go as text as the texts of arrays."""
    if not rows:
        return ["{}" if text else () for text in as_text]
    return [
        "{" + ",".join(map(str, column)) + "}" if text else column for column, text in zip(zip(*rows, strict=True), as_text, strict=True)
    ]
