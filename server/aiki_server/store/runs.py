"""Reading runs: one, a page, how they ended, what they did."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from asyncpg import Record

from aiki_server.store.database import Db
from aiki_server.store.keys import RunKey
from aiki_server.store.rows import Ended
from aiki_server.store.statements import SQL


class Filter(NamedTuple):
    """What a listing is narrowed to; None means anything."""

    workflow: str | None
    version: str | None
    pool: str | None
    ref: str | None


class Listed(NamedTuple):
    """A run in a listing."""

    id: UUID
    workflow: str
    version: str | None
    pool: str | None
    status: str
    ref: str | None
    parent: UUID | None
    steps: int
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    due_at: datetime | None


class StoredChunk(NamedTuple):
    """A chunk of history as it lies."""

    seq: int
    size: int
    entries: str
    epoch: int
    worker: str | None
    at: datetime


class Undelivered(NamedTuple):
    """An event that nobody has consumed."""

    seq: int
    name: str
    payload: str
    at: datetime


async def results(db: Db, runs: Collection[RunKey]) -> dict[RunKey, Ended]:
    """How each run ended, or what it does instead."""
    ends = [Ended(*record) for record in await db.fetch(SQL["runs.results"], *zip(*runs, strict=True))]
    return {RunKey(end.namespace, end.id): end for end in ends}


async def get(db: Db, run: UUID, *, namespace: str) -> Record | None:
    """The whole row of a run."""
    return await db.fetchrow(SQL["runs.get"], run, namespace)


async def by_ref(db: Db, ref: str, *, namespace: str) -> Record | None:
    """The whole row of the run that has this ref."""
    return await db.fetchrow(SQL["runs.by_ref"], namespace, ref)


async def page(
    db: Db, namespace: str, *, statuses: Sequence[str], before: UUID | None, parent: UUID | None, wanted: Filter, limit: int
) -> list[Listed]:
    """A page of runs, newest first, of these statuses and before this id."""
    if parent is None and wanted.ref is not None:
        records = await db.fetch(SQL["runs.of_ref"], namespace, wanted.ref, statuses, before, wanted.workflow, wanted.version, wanted.pool)
    elif parent is None:
        records = await db.fetch(SQL["runs.list"], namespace, statuses, before, wanted.workflow, wanted.version, wanted.pool, limit)
    else:
        records = await db.fetch(SQL["runs.children"], namespace, parent, statuses, before, *wanted, limit)
    return [Listed(*record) for record in records]


async def history(db: Db, run: UUID, *, after: int, until: int, size: int) -> list[StoredChunk]:
    """The chunks that hold the entries after `after`, up to number `until`, but no further one when they have `size` bytes."""
    return [StoredChunk(*record) for record in await db.fetch(SQL["runs.history"], run, after, until, size)]


async def undelivered(db: Db, run: UUID, *, size: int) -> list[Undelivered]:
    """The first events of a run that nobody has consumed, but no further one when they have `size` bytes."""
    return [Undelivered(*record) for record in await db.fetch(SQL["runs.undelivered"], run, size)]


async def open_event_bytes(db: Db, run: UUID, *, namespace: str) -> int:
    """How many bytes the events of a run have that nobody has consumed."""
    size: int = await db.fetchval(SQL["runs.open_event_bytes"], run, namespace)
    return size


async def count_open(db: Db, *, namespace: str, most: int) -> int:
    """How many runs of a namespace have not ended; counted up to `most`."""
    count: int = await db.fetchval(SQL["runs.count_open"], namespace, most)
    return count


async def counts(db: Db) -> list[tuple[str, str, int]]:
    """Namespace, status and number of the runs that have not ended."""
    return [(record[0], record[1], record[2]) for record in await db.fetch(SQL["runs.counts"])]
