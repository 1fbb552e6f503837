"""What a sweep looks for: silent workers, orphaned runs, streams that lost entries, children to tell, runs to retire."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from aiki_server.model.instants import micros
from aiki_server.model.sweeps import Backlog, Closing, Held
from aiki_server.store.connections import Db
from aiki_server.store.statements import SQL


async def now(db: Db) -> int:
    """The database's clock, in microseconds."""
    return micros(await db.fetchval(SQL["sweeps.now"]))


async def forget_silent(db: Db, *, lease: float) -> list[tuple[str, str, int]]:
    """Forget the workers that were silent for longer than their lease; namespace and id of each, and how many runs it held."""
    return [(record[0], record[1], record[2]) for record in await db.fetch(SQL["sweeps.forget_silent"], lease)]


async def orphans(db: Db) -> list[Held]:
    """Runs whose worker is gone."""
    return [Held(*record) for record in await db.fetch(SQL["sweeps.orphans"])]


async def held(db: Db, *, namespace: str, workers: Sequence[str]) -> list[Held]:
    """Runs in the hands of these workers."""
    return [Held(*record) for record in await db.fetch(SQL["sweeps.held"], namespace, workers)]


async def queued(db: Db, *, seconds: float, unserved: int) -> list[Backlog]:
    """How many runs have been queued for longer than that, by stream; of those that nobody registered so many of each namespace."""
    return [Backlog(*record) for record in await db.fetch(SQL["sweeps.queued"], seconds, unserved)]


async def still_queued(db: Db, runs: Sequence[UUID]) -> list[tuple[str, str, str, str, str | None, UUID]]:
    """Stream and id of those that wait for a claim."""
    return [tuple(record) for record in await db.fetch(SQL["sweeps.still_queued"], runs)]


async def queued_ids(db: Db, place: tuple[str, str, str, str, str | None], *, seconds: float, limit: int) -> list[UUID]:
    """Which they are, oldest first."""
    return [record[0] for record in await db.fetch(SQL["sweeps.queued_ids"], *place, seconds, limit)]


async def closing(db: Db) -> list[Closing]:
    """Ended parents whose children have not all been told."""
    return [Closing(*record) for record in await db.fetch(SQL["sweeps.closing"])]


async def open_children(db: Db, parent: UUID) -> list[tuple[UUID, str]]:
    """Children that are to end with their parent."""
    return [(record[0], record[1]) for record in await db.fetch(SQL["sweeps.open_children"], parent)]


async def closed(db: Db, parent: UUID) -> bool:
    """All children of this parent were told; whether nobody had noted it before."""
    return await db.fetchval(SQL["sweeps.closed"], parent) is not None


async def child_cancellations(db: Db, *, limit: int) -> list[tuple[UUID, str | None]]:
    """Children that are to be cancelled and have not been asked to end; no namespace where they are not there any more."""
    return [(record[0], record[1]) for record in await db.fetch(SQL["sweeps.child_cancellations"], limit)]


async def forget_child_cancellations(db: Db, children: Sequence[UUID]) -> None:
    """These children were asked to end."""
    await db.execute(SQL["sweeps.forget_child_cancellations"], children)


async def unheard(db: Db, *, seconds: float) -> list[tuple[UUID, str, str, str, str, str | None, int, float]]:
    """Runs that are to be cancelled and have been queued for so long: id, namespace, workflow, version, pool, build, epoch, seconds."""
    return [tuple(record) for record in await db.fetch(SQL["sweeps.unheard"], seconds)]


async def retire(db: Db, *, namespace: str, status: str, days: float, limit: int) -> int:
    """Delete old ended runs with everything that belongs to them; how many."""
    return int(await db.fetchval(SQL["sweeps.retire"], namespace, days, status, limit))


async def namespaces(db: Db) -> list[str]:
    """The namespaces that have runs."""
    return [record[0] for record in await db.fetch(SQL["sweeps.namespaces"])]
