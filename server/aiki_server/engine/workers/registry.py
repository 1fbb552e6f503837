"""What workers are there and what they carry: a snapshot of Postgres, renewed when something changes here, elsewhere, or every few seconds.

The snapshot is for choosing (where a start goes, which streams a worker reads); what is written is guarded again by the statement
that writes it. A claim of a worker that the snapshot does not know renews it first.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from aiki.protocol import Status
from aiki_server.engine.commit.after_commit import Effects, Place
from aiki_server.engine.dispatch.routing import Place as Served
from aiki_server.engine.dispatch.routing import Serving, Version, drawn, merged, stepwise
from aiki_server.engine.workers.event_schemas import EventSchemas, Takes, known
from aiki_server.model.keys import PoolKey, WorkerKey, WorkflowKey
from aiki_server.model.workers import Assigned, Carrier, Drawn, WorkerRow
from aiki_server.store.connections import Db, Pool
from aiki_server.store.queries import event_schemas, registry

ASSIGNED_AT_ONCE = 1_000
ON_ITS_WAY_SECONDS = 2.0
"""A registration so young may be about to assign its runs itself."""
MOST_WAITING = 1_000
"""Places without a server of which it is remembered that runs were started there; sweeps find what is more."""
PAGES_OF_A_REGISTRATION = 10
"""A worker waits for the answer to its registration: what is more is left to a sweep."""


class _OfNamespace(Protocol):
    @property
    def namespace(self) -> str: ...


_Row = TypeVar("_Row", bound=_OfNamespace)


class _Assign(Protocol):
    def __call__(
        self, db: Db, *, namespace: str, workflow: str, version: str, pool: str, build: str | None, limit: int, drawn: Drawn | None
    ) -> Awaitable[list[Assigned]]: ...


class Readers(NamedTuple):
    """Who takes the runs of a place: builds ('' outside Kubernetes), and whether a worker of one of them is there now."""

    builds: frozenset[str]
    live: bool


class _Way(NamedTuple):
    """A place, and which runs it is for: those that are drawn, or all."""

    place: Served
    drawn: Drawn | None


class _Part(NamedTuple):
    """What is known of a namespace: the state in which it was read, who serves what, and what its events take."""

    state: object
    serving: Serving
    events: dict[str, Takes]


class Serves(NamedTuple):
    """What a worker is to do now."""

    streams: list[str]
    drain: bool


def carried(worker: WorkerRow) -> frozenset[Version]:
    """The versions that a worker carries itself."""
    pairs = (text.split("@") for text in worker.carries)
    return frozenset((workflow, version) for workflow, version in pairs)


def _of_pool(workers: Mapping[WorkerKey, WorkerRow]) -> dict[PoolKey, list[WorkerKey]]:
    found: dict[PoolKey, list[WorkerKey]] = {}
    for key, worker in workers.items():
        found.setdefault(PoolKey(worker.namespace, worker.pool), []).append(key)
    return found


def _by_namespace(rows: Iterable[_Row]) -> dict[str, list[_Row]]:
    found: dict[str, list[_Row]] = {}
    for row in rows:
        found.setdefault(row.namespace, []).append(row)
    return found


async def _in_steps(steps: Generator[None, None, Serving]) -> Serving:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: Serving = end.value
            return found
        await asyncio.sleep(0)


class Registry:
    """The snapshot and the ways to change what it shows."""

    def __init__(self, pool: Pool, *, lease: float, after: Callable[[Effects], None]) -> None:
        self.serving = Serving()
        self.event_schemas = EventSchemas(pool)
        self.workers: dict[WorkerKey, WorkerRow] = {}
        self._pool = pool
        self._lease = lease
        self._after = after
        self.rescued = 0
        """Runs that a sweep assigned, after the registration that they waited for."""
        self.unfinished = False
        """Whether a registration, or a start beside one, has left some to the next sweep."""
        self._waiting: dict[Place, None] = {}
        self._came = 0
        self._left = 0
        """Registrations that have begun, and that have ended: as many of the one later as of the other before means that none was under way between."""
        self._of_pool: dict[PoolKey, list[WorkerKey]] = {}
        """The workers of each pool: asked for at each start, and not to be looked for among those of everybody."""
        self._parts: dict[str, _Part] = {}
        """By namespace."""
        self._begun = 0
        self._shown = 0
        self._reading: set[int] = set()
        self._forgotten: dict[WorkerKey, int] = {}
        """Workers that went while readings were under way, with the last of the readings that may have seen them."""

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
        number: int,
        schemas: Sequence[tuple[str, str, str, str, str]] = (),
    ) -> Serves:
        """A worker is here (again); runs that waited for what it carries can go."""
        self._came += 1
        try:
            async with self._pool.acquire() as db:
                async with db.transaction():
                    await registry.register(
                        db,
                        namespace=namespace,
                        worker=worker,
                        pool=pool,
                        build=build,
                        pod=pod,
                        concurrency=concurrency,
                        versions=versions,
                        number=number,
                    )
                    await event_schemas.register(
                        db, namespace=namespace, worker=worker, pool=pool, build=build, versions=versions, schemas=schemas
                    )
                workers = await self._renew(db)
                await self._assign(db, namespace, {workflow for workflow, _ in versions}, pages=PAGES_OF_A_REGISTRATION)
        finally:
            self._left += 1
        row = workers.get(WorkerKey(namespace, worker))
        # Gone again already, where there is none: the next heartbeat tells it so.
        return self.serves(row, drain=False) if row is not None else Serves([], drain=False)

    async def carrier(self, namespace: str, worker: str) -> tuple[Carrier, WorkerRow] | None:
        """What a worker may claim; None where it is not known."""
        row = self.workers.get(WorkerKey(namespace, worker))
        if row is None:
            # Asked for by its key first: who claims under names that nobody knows must not make the server read everything.
            async with self._pool.acquire() as db:
                if await registry.is_registered(db, namespace=namespace, worker=worker):
                    await self._renew(db)
            row = self.workers.get(WorkerKey(namespace, worker))
        if row is None:
            return None
        return Carrier(namespace, row.pool, row.build, carried(row)), row

    def serves(self, worker: WorkerRow, *, drain: bool) -> Serves:
        """The streams of a worker; none while it drains."""
        return Serves([] if drain else self.serving.streams(worker.namespace, worker.pool, worker.build, carried(worker)), drain)

    def forget(self, namespace: str, workers: list[str]) -> None:
        """These workers are gone; readings that are under way may still have seen them, and show all others."""
        for worker in workers:
            key = WorkerKey(namespace, worker)
            self.workers.pop(key, None)
            if self._reading:
                self._forgotten[key] = self._begun

    def forget_all(self) -> None:
        """All workers are gone: the data were restored, and each has to register again."""
        for namespace, worker in list(self.workers):
            self.forget(namespace, [worker])

    def live(self, namespace: str, pool: str) -> list[WorkerRow]:
        """The workers of a pool whose lease held at the last reading."""
        found = (self.workers.get(key) for key in self._of_pool.get(PoolKey(namespace, pool), ()))
        return [worker for worker in found if worker is not None and worker.silent < self._lease]

    def free_slots(self, namespace: str, pool: str) -> int:
        """Free slots of a pool, as far as heartbeats tell."""
        return sum(max(0, worker.concurrency - worker.active) for worker in self.live(namespace, pool) if not worker.draining)

    def readers(self, place: Place) -> Readers:
        """Who takes the runs that are queued at a place."""
        builds = self.serving.readers(place)
        return Readers(builds, live=any(self._reads(worker, place, builds) for worker in self.live(place[0], place[1] or "")))

    def _reads(self, worker: WorkerRow, place: Place, builds: frozenset[str]) -> bool:
        _, _, workflow, version, _ = place
        return not worker.draining and (worker.build or "") in builds and f"{workflow}@{version}" in worker.carries

    def started(self, unserved: Iterable[Place]) -> bool:
        """Runs have been written to places that nobody served when it was asked; whether somebody serves one of them by now.

        Whoever registered meanwhile has looked for such runs before these could be seen.
        """
        self._waiting.update(dict.fromkeys(unserved))
        while len(self._waiting) > MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
        return self.serves_waiting()

    def serves_waiting(self) -> bool:
        """Whether somebody serves a place by now to which runs were written that nobody served. Then it is to be assigned."""
        served = [place for place in self._waiting if self._is_served(place)]
        for place in served:
            del self._waiting[place]
        self.unfinished = self.unfinished or bool(served)
        return bool(served)

    def _is_served(self, place: Place) -> bool:
        namespace, pool, workflow, version, _ = place
        return self.serving.place(namespace, workflow, version, pool).served

    async def assign(self) -> None:
        """Give a version and a pool to the runs that nobody could serve when they were started, where somebody does now."""
        begun, self.unfinished = self.unfinished, False
        # A registration that is under way meanwhile, here or at another server, would have assigned them itself, a moment later.
        left = self._left
        async with self._pool.acquire() as db:
            assigned = await self._assign(db)
            fresh = await registry.just_registered(db, seconds=ON_ITS_WAY_SECONDS) if assigned else set()
        if not begun and self._came == left:
            self.rescued += sum(count for workflow, count in assigned.items() if workflow not in fresh)

    async def _renew(self, db: Db) -> dict[WorkerKey, WorkerRow]:
        """Read everything; the workers that this reading found."""
        # Readings overlap: one that began earlier must not replace what a later one has found.
        self._begun += 1
        number = self._begun
        self._reading.add(number)
        try:
            parts = await self._parts_of(db)
            rows = await registry.workers(db)
        finally:
            self._reading.discard(number)
        keyed = {WorkerKey(worker.namespace, worker.id): worker for worker in rows}
        workers = {key: row for key, row in keyed.items() if self._forgotten.get(key, 0) < number}
        oldest = min(self._reading, default=self._begun + 1)
        self._forgotten = {key: last for key, last in self._forgotten.items() if last >= oldest}
        if number > self._shown:
            if parts != self._parts:
                self._parts, self.serving = parts, merged([part.serving for part in parts.values()])
                self.event_schemas.replace({namespace: part.events for namespace, part in parts.items()})
            self._shown, self.workers, self._of_pool = number, workers, _of_pool(workers)
        return workers

    async def _parts_of(self, db: Db) -> dict[str, _Part]:
        """Of each namespace its state and what it has registered; only what is another than when it was last read is read."""
        state = await registry.state(db)
        kept = {namespace: part for namespace, part in self._parts.items() if part.state == state.get(namespace)}
        changed = [namespace for namespace in state if namespace not in kept]
        if changed:
            entries, builds = await registry.registrations(db, changed), await registry.builds(db, changed)
            pools = await registry.pools(db, changed)
            schemas = _by_namespace(await event_schemas.of(db, changed))
            its_entries, its_builds, its_pools = _by_namespace(entries), _by_namespace(builds), _by_namespace(pools)
            for namespace in changed:
                steps = stepwise(its_entries.get(namespace, []), its_builds.get(namespace, []), its_pools.get(namespace, []))
                events = known(its_entries.get(namespace, []), schemas.get(namespace, []))
                kept[namespace] = _Part(state[namespace], await _in_steps(steps), events)
        return kept

    async def _assign(
        self, db: Db, of: str | None = None, workflows: Collection[str] = (), *, pages: int | None = None
    ) -> Counter[tuple[str, str]]:
        """How many runs of each workflow have a version and a pool now that had none. After so many pages of one place the rest is left to a sweep."""
        count = Counter[tuple[str, str]]()
        for namespace, workflow in await registry.unassigned(db, of, workflows):
            for found in self._places(namespace, workflow):
                count[namespace, workflow] += await self._in_pages(registry.assign, db, (namespace, workflow), found, pages=pages)
        for namespace, workflow, version in await registry.poolless(db, of, workflows):
            for found in self._ways(namespace, workflow, version, None):
                count[namespace, workflow] += await self._in_pages(registry.assign_pool, db, (namespace, workflow), found, pages=pages)
        return +count

    async def _in_pages(self, assign: _Assign, db: Db, of: tuple[str, str], found: _Way, *, pages: int | None) -> int:
        """Assign a page of runs after the other, each in a transaction of its own, so that others may write and are heard meanwhile."""
        (namespace, workflow), (place, drawn) = of, found
        assert place.version is not None
        assert place.pool is not None
        count = 0
        for page in itertools.count(1):
            assigned = await assign(
                db,
                namespace=namespace,
                workflow=workflow,
                version=place.version,
                pool=place.pool,
                build=place.build,
                limit=ASSIGNED_AT_ONCE,
                drawn=drawn,
            )
            count += len(assigned)
            self._ring(assigned)
            if len(assigned) < ASSIGNED_AT_ONCE:
                break
            if page == pages:
                self.unfinished = True
                break
        return count

    def _places(self, namespace: str, workflow: str) -> list[_Way]:
        """Where runs of a workflow go that name no version: any pool first, then each pool for those that name one."""
        pools = sorted({entry.pool for entry in self.serving.by_workflow.get(WorkflowKey(namespace, workflow), ())})
        return [found for pool in (None, *pools) for found in self._ways(namespace, workflow, None, pool)]

    def _ways(self, namespace: str, workflow: str, version: str | None, pool: str | None) -> list[_Way]:
        """Where the runs go that a roll-out draws, if there is one, and then where all others go."""
        place = self.serving.place(namespace, workflow, version, pool)
        ramp = self.serving.ramps.get((namespace, workflow, version, pool)) if place.served else None
        first = [] if ramp is None else [_Way(drawn(ramp), Drawn(ramp.percent, ramp.versioning))]
        return [*first, _Way(place, None)] if place.served else []

    def _ring(self, assigned: list[Assigned]) -> None:
        effects = Effects()
        for run in assigned:
            if run.status == Status.QUEUED:
                effects.ring((run.namespace, run.pool, run.workflow, run.version, run.build), run.id)
        self._after(effects)
