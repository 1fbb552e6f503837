"""Workers, the versions they carry, and the runs that wait for someone to carry them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from aiki_server.model.workers import Assigned, Build, Drawn, PoolRow, Registration, WorkerRow
from aiki_server.store.connections import Db
from aiki_server.store.statements import SQL

ROWS_A_SLICE = 500
"""Some two milliseconds."""


async def state(db: Db) -> dict[str, frozenset[tuple[Any, ...]]]:
    """For each namespace something that is another as soon as its registrations, builds or pools are others."""
    found: dict[str, set[tuple[Any, ...]]] = {}
    for namespace, *of in await db.fetch(SQL["registry.state"]):
        found.setdefault(namespace, set()).add(tuple(of))
    return {namespace: frozenset(of) for namespace, of in found.items()}


async def registrations(db: Db, namespaces: Collection[str]) -> list[Registration]:
    """What every build of these namespaces carries; read in slices, because ten thousand rows at once hold the loop."""
    async with db.transaction():
        return [Registration(*record) async for record in db.cursor(SQL["registry.registrations"], namespaces, prefetch=ROWS_A_SLICE)]


async def builds(db: Db, namespaces: Collection[str]) -> list[Build]:
    """All builds of these namespaces."""
    return [Build(*record) for record in await db.fetch(SQL["registry.builds"], namespaces)]


async def pools(db: Db, namespaces: Collection[str]) -> list[PoolRow]:
    """The pools of these namespaces with settings."""
    return [PoolRow(*record) for record in await db.fetch(SQL["registry.pools"], namespaces)]


async def workers(db: Db) -> list[WorkerRow]:
    """All workers, heard of lately or not."""
    return [WorkerRow(*record) for record in await db.fetch(SQL["registry.workers"])]


async def register(
    db: Db,
    *,
    namespace: str,
    worker: str,
    pool: str,
    build: str | None,
    pod: str | None,
    concurrency: int,
    versions: Sequence[tuple[str, str]],
    number: int,
) -> None:
    """Remember a worker, its build and what it carries."""
    await db.execute(
        SQL["registry.register_worker"],
        namespace,
        worker,
        pool,
        build,
        pod,
        concurrency,
        [f"{workflow}@{version}" for workflow, version in versions],
        number,
    )
    if build is not None:
        await db.execute(SQL["registry.register_build"], namespace, pool, build)
    await db.execute(SQL["registry.register_versions"], namespace, pool, build or "", *zip(*sorted(versions), strict=True))


async def registered_no(db: Db, *, namespace: str, worker: str) -> int:
    """The number of a worker's last registration; 0 where it is not known, or counts none."""
    return int(await db.fetchval(SQL["registry.registered_no"], namespace, worker) or 0)


async def is_registered(db: Db, *, namespace: str, worker: str) -> bool:
    """Whether a worker is known."""
    return await db.fetchval(SQL["registry.registered_no"], namespace, worker) is not None


async def heartbeat(db: Db, *, namespace: str, worker: str, active: int) -> bool | None:
    """Whether the worker is draining; None where it is not known."""
    draining: bool | None = await db.fetchval(SQL["registry.heartbeat"], namespace, worker, active)
    return draining


async def inbox_pending(db: Db, *, namespace: str, worker: str) -> list[UUID]:
    """The worker's runs about which it has something to fetch."""
    return [record[0] for record in await db.fetch(SQL["registry.inbox_pending"], namespace, worker)]


async def drain(db: Db, *, namespace: str, worker: str, drain: bool) -> bool:
    """Let a worker claim no more (or again); whether it is known."""
    return await db.fetchval(SQL["registry.drain"], namespace, worker, drain) is not None


async def remove_worker(db: Db, *, namespace: str, worker: str, until: int | None = None) -> bool:
    """Forget a worker, unless its registration has a number that is larger than `until`; whether it was known."""
    return await db.fetchval(SQL["registry.remove_worker"], namespace, worker, until) is not None


async def remove_pod(db: Db, *, namespace: str, pod: str) -> list[str]:
    """Forget all workers of a pod; which they were."""
    return [record[0] for record in await db.fetch(SQL["registry.remove_pod"], namespace, pod)]


async def just_registered(db: Db, *, seconds: float) -> set[tuple[str, str]]:
    """Namespace and name of workflows of which a version was registered so short a time ago, at whichever server."""
    return {(record[0], record[1]) for record in await db.fetch(SQL["registry.just_registered"], seconds)}


async def unassigned(db: Db, namespace: str | None, workflows: Collection[str]) -> list[tuple[str, str]]:
    """Namespace and workflow of runs without a version that somebody serves: of these workflows, or where no namespace is given of any."""
    return [(record[0], record[1]) for record in await db.fetch(SQL["registry.unassigned"], namespace, workflows)]


async def assign(
    db: Db, *, namespace: str, workflow: str, version: str, pool: str, build: str | None, limit: int, drawn: Drawn | None
) -> list[Assigned]:
    """Give a version and a pool to runs that have no version and may run there, so many at most."""
    arguments = namespace, workflow, version, pool, build, limit, *(drawn or (None, None))
    return [Assigned(*record) for record in await db.fetch(SQL["registry.assign"], *arguments)]


async def poolless(db: Db, namespace: str | None, workflows: Collection[str]) -> list[tuple[str, str, str]]:
    """Namespace, workflow and version of runs without a pool that somebody serves; as `unassigned`."""
    return [(record[0], record[1], record[2]) for record in await db.fetch(SQL["registry.poolless"], namespace, workflows)]


async def assign_pool(
    db: Db, *, namespace: str, workflow: str, version: str, pool: str, build: str | None, limit: int, drawn: Drawn | None
) -> list[Assigned]:
    """Give a pool to runs of a version that have none, so many at most."""
    arguments = namespace, workflow, version, pool, build, limit, *(drawn or (None, None))
    return [Assigned(*record) for record in await db.fetch(SQL["registry.assign_pool"], *arguments)]
