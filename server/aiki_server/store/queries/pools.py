"""Pools and builds, as the operator asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from aiki_server.store.connections import Db
from aiki_server.store.statements import SQL


class Place(NamedTuple):
    """Where runs run."""

    pool: str
    workflow: str
    version: str | None
    build: str | None


class Queued(NamedTuple):
    """Runs of a place that wait for a claim."""

    runs: int
    oldest_seconds: float
    since: datetime


class Open(NamedTuple):
    """Runs of a place that have not ended."""

    runs: int
    next_due_at: datetime | None


class Hands(NamedTuple):
    """The runs that a worker has."""

    pool: str
    build: str | None
    worker: str
    runs: int


async def queued(db: Db, namespace: str, *, pool: str | None) -> dict[Place, Queued]:
    """How many runs are queued, by place; without a version, those that wait for somebody to register their workflow in the pool."""
    return {Place(*record[:4]): Queued(*record[4:]) for record in map(tuple, await db.fetch(SQL["pools.queued"], namespace, pool))}


async def running(db: Db, namespace: str, *, pool: str | None) -> list[Hands]:
    """How many runs are in workers' hands."""
    return [Hands(*record) for record in await db.fetch(SQL["pools.running"], namespace, pool)]


async def due_soon(db: Db, namespace: str, *, pools: Sequence[str], seconds: float, limit: int) -> dict[str, list[datetime]]:
    """When runs are due, earliest first, at most `limit` of each pool; pools without any are left out."""
    found: dict[str, list[datetime]] = {}
    for pool, due_at in map(tuple, await db.fetch(SQL["pools.due_soon"], namespace, pools, seconds, limit)):
        found.setdefault(pool, []).append(due_at)
    return found


async def open_runs(db: Db, namespace: str) -> dict[Place, Open]:
    """The runs that have not ended, by place."""
    return {Place(*record[:4]): Open(*record[4:]) for record in map(tuple, await db.fetch(SQL["pools.open"], namespace))}


async def configure(db: Db, namespace: str, pool: str, *, versioning: str) -> None:
    """Set how a pool treats builds."""
    await db.execute(SQL["pools.configure"], namespace, pool, versioning)


async def kept(db: Db, namespace: str, *, days: float) -> frozenset[str]:
    """The pools of a namespace that somebody has set within so many days."""
    return frozenset(record[0] for record in await db.fetch(SQL["pools.kept"], namespace, days))


async def promote(db: Db, namespace: str, pool: str, build: str) -> bool:
    """Let a build take over; whether there is one."""
    return await db.fetchval(SQL["pools.promote"], namespace, pool, build) is not None


async def delete_build(db: Db, namespace: str, pool: str, build: str) -> bool:
    """Forget a build and what it carried; whether there was one."""
    gone = await db.fetchval(SQL["pools.delete_build"], namespace, pool, build) is not None
    await db.execute(SQL["pools.delete_registrations"], namespace, pool, build)
    return gone
