"""Brings the schema up to date: numbered files, each applied once, in order, in a transaction of its own.

An advisory lock lets several servers try at once. A migration that is killed midway leaves nothing behind and is done by the
next one who tries. Migrations are only ever added, and each must be safe for servers of the release before.
"""

from __future__ import annotations

from pathlib import Path

import asyncpg

from aiki_server.store.database import Db, check_version

FOLDER = Path(__file__).with_name("migrations")
_LOCK = 0x61696B69
"""'aiki', as the key of the advisory lock."""


def migrations() -> list[tuple[int, str]]:
    """Number and text of every migration, in order."""
    return [(int(path.name.split("_")[0]), path.read_text()) for path in sorted(FOLDER.glob("*.sql"))]


async def migrate(url: str) -> list[int]:
    """Apply what is missing; the numbers of what was applied."""
    connection = await asyncpg.connect(url)
    try:
        await check_version(connection)
        await connection.execute("select pg_advisory_lock($1)", _LOCK)
        await connection.execute(
            "create table if not exists migrations (number integer primary key, applied_at timestamptz not null default now())"
        )
        done = await applied(connection)
        missing = [(number, text) for number, text in migrations() if number not in done]
        for number, text in missing:
            async with connection.transaction():
                await connection.execute(text)
                await connection.execute("insert into migrations (number) values ($1)", number)
        return [number for number, _ in missing]
    finally:
        await connection.close()


async def applied(db: Db) -> set[int]:
    """The numbers of the migrations that this database has; empty where there never was one."""
    if await db.fetchval("select to_regclass('migrations')") is None:
        return set()
    return {row["number"] for row in await db.fetch("select number from migrations")}


async def up_to_date(db: Db) -> bool:
    """Whether every migration of this release was applied."""
    return {number for number, _ in migrations()} <= await applied(db)
