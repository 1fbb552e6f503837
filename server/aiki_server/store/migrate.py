"""Brings the schema up to date: numbered files, each applied once, in order, in a transaction of its own.

An advisory lock lets several servers try at once. A migration that is killed midway leaves nothing behind and is done by the
next one who tries. Migrations are only ever added, and each must be safe for servers of the release before, and for no older ones: so each
is noted with its release, and whoever finds a schema of two releases ahead does nothing with it.
"""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

import asyncpg

from aiki_server.store.connections import CONNECT_SECONDS, Db, check_version
from aiki_server.store.incarnations import Incarnations
from aiki_server.store.reaching import reached

FOLDER = Path(__file__).with_name("migrations")
FIRST_OF_RELEASE = (1,)
"""The number of the first migration of each release, oldest first; whoever makes a release whose schema changes adds one."""
REACH_SECONDS = 30.0
"""How long a database that is not reached is tried: one that restarts, or a network that does not let a new pod through yet."""
_LOCK = 0x61696B69
"""'aiki', as the key of the advisory lock."""


class NewerDatabaseError(Exception):
    """The schema is of a release whose servers do not work beside those of this one."""


def release() -> int:
    """The number of this release, counted by those that changed the schema."""
    return len(FIRST_OF_RELEASE)


def migrations() -> list[tuple[int, str]]:
    """Number and text of every migration, in order."""
    return [(int(path.name.split("_")[0]), path.read_text()) for path in sorted(FOLDER.glob("*.sql"))]


async def migrate(url: str, *, reach_seconds: float = REACH_SECONDS) -> list[int]:
    """Apply what is missing; the numbers of what was applied. Raises what the last try did if the database is not reached in time."""
    # Network policies take hold of a new pod some seconds after it has begun, and a Job's pod asks at once.
    connection = await reached(lambda: asyncpg.connect(url, timeout=CONNECT_SECONDS), seconds=reach_seconds)
    try:
        await check_version(connection)
        await connection.execute("select pg_advisory_lock($1)", _LOCK)
        await check_release(connection)
        await connection.execute(
            "create table if not exists migrations (number integer primary key, applied_at timestamptz not null default now())"
        )
        await connection.execute("alter table migrations add column if not exists release integer not null default 1")
        done = await applied(connection)
        missing = [(number, text) for number, text in migrations() if number not in done]
        for number, text in missing:
            async with connection.transaction():
                await connection.execute(text)
                await connection.execute("insert into migrations (number, release) values ($1, $2)", number, _release_of(number))
        await Incarnations().enter(connection)
        return [number for number, _ in missing]
    finally:
        await connection.close()


async def restored(url: str) -> None:
    """Begin a new incarnation: somebody says that the data were restored."""
    await migrate(url)
    connection = await asyncpg.connect(url)
    try:
        await Incarnations().begin(connection, told=True)
    finally:
        await connection.close()


async def applied(db: Db) -> set[int]:
    """The numbers of the migrations that this database has; empty where there never was one."""
    if await db.fetchval("select to_regclass('migrations')") is None:
        return set()
    return {row["number"] for row in await db.fetch("select number from migrations")}


async def check_release(db: Db) -> None:
    """Raise NewerDatabaseError where the schema is of two releases ahead, or more."""
    if await db.fetchval("select to_regclass('migrations')") is None:
        return
    # A database that was migrated by a server which knew of no releases has no such column: it is of the first.
    there = await db.fetchval("select max(coalesce((to_jsonb(migrations) ->> 'release')::integer, 1)) from migrations") or 1
    if there > release() + 1:
        raise NewerDatabaseError(
            f"The database has the schema of release {there}, and this is release {release()}: only the release before works with it. "
            f"Start servers of release {there} or {there - 1}, or restore a backup from before the upgrade into another database."
        )


async def up_to_date(db: Db) -> bool:
    """Whether every migration of this release was applied."""
    return {number for number, _ in migrations()} <= await applied(db)


def _release_of(number: int) -> int:
    """The release that a migration came with."""
    return bisect_right(FIRST_OF_RELEASE, number)
