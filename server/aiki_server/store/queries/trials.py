"""The share of new runs that a build has before it takes over, and the runs that were drawn for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from aiki_server.model.workers import Assigned
from aiki_server.store.connections import Db
from aiki_server.store.statements import SQL


class Trial(NamedTuple):
    """A run that was drawn for a build, and how its pool treated builds then; in the order of `trials.note`."""

    run: UUID
    namespace: str
    pool: str
    build: str
    versioning: str


class Figures(NamedTuple):
    """Runs that were drawn for a build: how many, those that have completed, and those that fail."""

    runs: int
    completed: int
    failing: int


async def share(db: Db, namespace: str, pool: str, build: str, *, percent: int) -> bool:
    """Give a build its share of the new runs; whether there is such a build that has not taken over."""
    return await db.fetchval(SQL["trials.share"], namespace, pool, build, percent) is not None


async def unshare(db: Db, namespace: str, pool: str, build: str) -> None:
    """Give a build no share any more."""
    await db.execute(SQL["trials.unshare"], namespace, pool, build)


async def note(db: Db, drawn: Iterable[Trial]) -> None:
    """Remember runs that are drawn, within the transaction that makes them."""
    await db.execute(SQL["trials.note"], *zip(*drawn, strict=True))


async def let_go(db: Db, *, limit: int) -> tuple[int, list[Assigned]]:
    """Forget runs of roll-outs that are over; how many, and those that may go to any build now."""
    records = await db.fetch(SQL["trials.let_go"], limit)
    return records[0][0], [Assigned(*record[1:]) for record in map(tuple, records) if record[6] is not None]


async def figures(db: Db, namespace: str, pool: str, build: str, *, newest: int) -> Figures:
    """How the newest of them fare."""
    return Figures(*(await db.fetch(SQL["trials.figures"], namespace, pool, build, newest))[0])
