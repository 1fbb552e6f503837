"""Reading runs: one, a page, how they ended, what they did."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from asyncpg import Record

from aiki.protocol import Status
from aiki_server.model.keys import RunKey
from aiki_server.model.listings import Filter, Listed, Page, StoredChunk, Undelivered
from aiki_server.model.rows import Ended
from aiki_server.store.connections import Db
from aiki_server.store.statements import SQL

LOOKED_AT = 5_000
"""How many runs of each status, or children of a run, a page looks at to find those that its filters let through."""
_NEWEST, _OLDEST = UUID(int=2**128 - 1), UUID(int=0)


_ANYTHING = Filter(None, None, None, None)


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
) -> Page:
    """A page of runs, newest first, of these statuses and before this id.

    There is no index for every filter: a page that is narrowed looks at so many runs and no more, and the following one goes on where it ended.
    """
    start, stop = before or _NEWEST, None
    if parent is not None:
        if wanted != _ANYTHING or len(statuses) < len(Status):
            stop = await db.fetchval(SQL["runs.children_reach"], namespace, parent, start, LOOKED_AT)
        records = await db.fetch(SQL["runs.children"], namespace, parent, statuses, start, *wanted, limit, stop or _OLDEST)
    elif wanted.ref is not None:
        records = await db.fetch(SQL["runs.of_ref"], namespace, wanted.ref, statuses, start, wanted.workflow, wanted.version, wanted.pool)
    else:
        if wanted != _ANYTHING:
            stop = await db.fetchval(SQL["runs.reach"], namespace, statuses, start, LOOKED_AT)
        records = await db.fetch(SQL["runs.list"], namespace, statuses, start, *wanted[:3], limit, stop or _OLDEST)
    found = [Listed(*record) for record in records]
    return Page(found, found[-1].id if len(found) == limit else stop)


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
