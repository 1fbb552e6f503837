"""What workers are there and what they carry: a snapshot of Postgres, renewed when something changes here, elsewhere, or every few seconds.

The snapshot is for choosing (where a start goes, which streams a worker reads); what is written is guarded again by the statement
that writes it. A claim of a worker that the snapshot does not know renews it first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from aiki_server.engine.effects import Effects
from aiki_server.engine.serving import Place, Serving, Version, serving
from aiki_server.store import registry
from aiki_server.store.claims import Carrier
from aiki_server.store.database import Db, Pool
from aiki_server.store.keys import WorkerKey, WorkflowKey
from aiki_server.store.registry import Assigned, WorkerRow


class Serves(NamedTuple):
    """What a worker is to do now."""

    streams: list[str]
    drain: bool


def carried(worker: WorkerRow) -> frozenset[Version]:
    """The versions that a worker carries itself."""
    pairs = (text.split("@") for text in worker.carries)
    return frozenset((workflow, version) for workflow, version in pairs)


class Registry:
    """The snapshot and the ways to change what it shows."""

    def __init__(self, pool: Pool, *, lease: float, after: Callable[[Effects], None]) -> None:
        self.serving = Serving()
        self.workers: dict[WorkerKey, WorkerRow] = {}
        self._pool = pool
        self._lease = lease
        self._after = after
        self._begun = 0
        self._shown = 0

    async def renew(self) -> None:
        """Read everything again."""
        async with self._pool.acquire() as db:
            await self._renew(db)

    async def register(
        self,
        namespace: str,
        worker: str,
        *,
        pool: str,
        build: str | None,
        pod: str | None,
        concurrency: int,
        versions: list[tuple[str, str]],
    ) -> Serves:
        """A worker is here (again); runs that waited for what it carries can go."""
        async with self._pool.acquire() as db:
            async with db.transaction():
                await registry.register(
                    db, namespace=namespace, worker=worker, pool=pool, build=build, pod=pod, concurrency=concurrency, versions=versions
                )
            await self._renew(db)
            await self._assign(db)
        found = await self.carrier(namespace, worker)
        # Gone again already, where there is none: the next heartbeat tells it so.
        return self.serves(found[1], drain=False) if found is not None else Serves([], drain=False)

    async def carrier(self, namespace: str, worker: str) -> tuple[Carrier, WorkerRow] | None:
        """What a worker may claim; None where it is not known."""
        row = self.workers.get(WorkerKey(namespace, worker))
        if row is None:
            await self.renew()
            row = self.workers.get(WorkerKey(namespace, worker))
        if row is None:
            return None
        return Carrier(namespace, row.pool, row.build, carried(row)), row

    def serves(self, worker: WorkerRow, *, drain: bool) -> Serves:
        """The streams of a worker; none while it drains."""
        return Serves([] if drain else self.serving.streams(worker.namespace, worker.pool, worker.build, carried(worker)), drain)

    def forget(self, namespace: str, workers: list[str]) -> None:
        """These workers are gone; readings that are under way may still have seen them."""
        self._shown = self._begun
        for worker in workers:
            self.workers.pop(WorkerKey(namespace, worker), None)

    def live(self, namespace: str, pool: str) -> list[WorkerRow]:
        """The workers of a pool whose lease held at the last reading."""
        return [
            worker
            for worker in self.workers.values()
            if worker.namespace == namespace and worker.pool == pool and worker.silent < self._lease
        ]

    def free_slots(self, namespace: str, pool: str) -> int:
        """Free slots of a pool, as far as heartbeats tell."""
        return sum(max(0, worker.concurrency - worker.active) for worker in self.live(namespace, pool) if not worker.draining)

    async def assign(self) -> None:
        """Give a version and a pool to the runs that nobody could serve when they were started, where somebody does now."""
        async with self._pool.acquire() as db:
            await self._assign(db)

    async def _renew(self, db: Db) -> None:
        # Readings overlap: one that began earlier must not replace what a later one has found.
        self._begun += 1
        number = self._begun
        found = serving(await registry.registrations(db), await registry.builds(db), await registry.pools(db))
        workers = {WorkerKey(worker.namespace, worker.id): worker for worker in await registry.workers(db)}
        if number > self._shown:
            self._shown, self.serving, self.workers = number, found, workers

    async def _assign(self, db: Db) -> None:
        assigned: list[Assigned] = []
        for namespace, workflow in await registry.unassigned(db):
            for place in self._places(namespace, workflow):
                assert place.version is not None
                assert place.pool is not None
                assigned += await registry.assign(
                    db, namespace=namespace, workflow=workflow, version=place.version, pool=place.pool, build=place.build
                )
        for namespace, workflow, version in await registry.poolless(db):
            place = self.serving.place(namespace, workflow, version, None)
            if place.served and place.pool is not None:
                assigned += await registry.assign_pool(
                    db, namespace=namespace, workflow=workflow, version=version, pool=place.pool, build=place.build
                )
        self._ring(assigned)

    def _places(self, namespace: str, workflow: str) -> list[Place]:
        """Where runs of a workflow go that name no version: any pool first, then each pool for those that name one."""
        pools = sorted({entry.pool for entry in self.serving.by_workflow.get(WorkflowKey(namespace, workflow), ())})
        places = [self.serving.place(namespace, workflow, None, pool) for pool in (None, *pools)]
        return [place for place in places if place.served]

    def _ring(self, assigned: list[Assigned]) -> None:
        effects = Effects()
        for run in assigned:
            if run.status == "queued":
                effects.ring((run.namespace, run.pool, run.workflow, run.version, run.build), run.id)
        self._after(effects)
