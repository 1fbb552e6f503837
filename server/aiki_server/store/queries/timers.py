"""What is due."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from aiki_server.store.connections import Db
from aiki_server.store.statements import SQL


class Queued(NamedTuple):
    """A run that may be claimed, and where."""

    namespace: str
    pool: str | None
    workflow: str
    version: str | None
    build: str | None
    id: UUID


async def fire(db: Db, *, limit: int, entry: tuple[str, str]) -> list[Queued]:
    """Queue up to `limit` runs that are due by the database's clock. `entry` is the text of the history entry before and behind its instant."""
    return [Queued(*record) for record in await db.fetch(SQL["timers.fire"], limit, *entry)]


async def next_due(db: Db) -> float | None:
    """Seconds until the next run is due; negative where one is late."""
    seconds: float | None = await db.fetchval(SQL["timers.next"])
    return seconds
