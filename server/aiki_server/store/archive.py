"""Whether Postgres can hand on its log, without which a restore ends at the last backup and the disk fills in the end."""

from __future__ import annotations

from aiki_server.store.connections import Db
from aiki_server.store.statements import SQL


async def failing(db: Db) -> bool:
    """Whether the last try failed."""
    return bool(await db.fetchval(SQL["archive.failing"]))
