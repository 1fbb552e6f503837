"""What people and dashboards look at: runs, listings, histories, counts. Each method is one look into Postgres.

Looks go over few connections of their own, on which no statement lasts long, so that whoever lists keeps nobody from working. A look is
repeated if its connection is lost, but not if it took too long: the same look would take as long again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar
from uuid import UUID

from asyncpg import QueryCanceledError, Record

from aiki_server.engine.runtime.retry import repeated
from aiki_server.model.keys import RunKey
from aiki_server.model.listings import Filter, Page, StoredChunk, Undelivered
from aiki_server.store.connections import Db, Pool
from aiki_server.store.queries import runs

Found = TypeVar("Found")


class History(NamedTuple):
    """A run, chunks of what it did, and the events that its code has not consumed."""

    run: Record
    chunks: list[StoredChunk]
    undelivered: list[Undelivered]


class Reads:
    """Made by the engine, lives as long as it does. `reads` are the connections for looks, `pool` is the one for work."""

    def __init__(self, reads: Pool, pool: Pool) -> None:
        self._reads = reads
        self._pool = pool

    async def run(self, run: RunKey) -> Record | None:
        """The whole row of a run; None if the namespace has no such run."""
        return await self._look(lambda db: runs.get(db, run.run, namespace=run.namespace))

    async def run_of_ref(self, namespace: str, ref: str) -> Record | None:
        """The whole row of the run that has this ref; None if there is none."""
        return await self._look(lambda db: runs.by_ref(db, ref, namespace=namespace))

    async def page(
        self, namespace: str, *, statuses: Sequence[str], before: UUID | None, parent: UUID | None, wanted: Filter, limit: int
    ) -> Page:
        """A page of runs, newest first; `queries/runs.py` says how many runs it looks at."""
        return await self._look(
            lambda db: runs.page(db, namespace, statuses=statuses, before=before, parent=parent, wanted=wanted, limit=limit)
        )

    async def history(self, run: RunKey, *, after: int, until: int, size: int) -> History | None:
        """The entries after `after`, up to number `until`, and undelivered events: no further ones once there are `size` bytes of either."""

        async def look(db: Db) -> History | None:
            found = await runs.get(db, run.run, namespace=run.namespace)
            if found is None:
                return None
            chunks = await runs.history(db, run.run, after=after, until=until, size=size)
            return History(found, chunks, await runs.undelivered(db, run.run, size=size))

        return await self._look(look)

    async def open_event_bytes(self, run: RunKey) -> int:
        """How many bytes the events of a run have that nobody has consumed."""
        async with self._reads.acquire() as db:
            return await runs.open_event_bytes(db, run.run, namespace=run.namespace)

    async def open_runs(self, namespace: str, *, most: int) -> int:
        """How many runs of a namespace have not ended, counted up to `most`."""
        # Not over the connections for looks: a start asks for it, and would wait for whoever lists.
        async with self._pool.acquire() as db:
            return await runs.count_open(db, namespace=namespace, most=most)

    async def counts(self) -> list[tuple[str, str, int]]:
        """Namespace, status and number of the runs that have not ended."""
        async with self._reads.acquire() as db:
            return await runs.counts(db)

    async def _look(self, look: Callable[[Db], Awaitable[Found]]) -> Found:
        async def turn() -> Found | QueryCanceledError:
            try:
                async with self._reads.acquire() as db:
                    return await look(db)
            except QueryCanceledError as error:
                return error

        found = await repeated(turn)
        if isinstance(found, QueryCanceledError):
            raise found
        return found
