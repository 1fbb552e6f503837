"""Registrations, builds and settings of pools that nobody needs any more."""

from __future__ import annotations

from collections.abc import Collection

from aiki_server.store.connections import Db
from aiki_server.store.queries.pools import Place
from aiki_server.store.statements import SQL


async def stale(db: Db, *, days: float) -> list[str]:
    """The namespaces with registrations of which nobody has said for so long that they are used."""
    return [record[0] for record in await db.fetch(SQL["unused.stale"], days)]


async def use(db: Db, namespace: str, places: Collection[Place], *, days: float) -> None:
    """Note which registrations workers carry, or runs at these places need, where that was last noted so many days ago."""
    pools, workflows, versions, builds = zip(*places, strict=True) if places else ((), (), (), ())
    await db.execute(SQL["unused.use"], namespace, pools, workflows, versions, builds, days)


async def forget(db: Db, *, days: float) -> int:
    """Delete what nobody has used for so long; how many registrations. Within a transaction."""
    gone = int(await db.fetchval(SQL["unused.forget_registrations"], days))
    if empty := await db.fetch(SQL["unused.lock_builds"], days):
        await db.execute(SQL["unused.forget_builds"], *zip(*map(tuple, empty), strict=True))
    await db.execute(SQL["unused.forget_pools"], days)
    return gone
