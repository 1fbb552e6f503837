"""What the operator needs to know of pools and their builds, and how it changes them.

Counts of queued and running runs are read anew each time. What looks at every open run (how many still need a build) is
read at most every few seconds: it decides when an old build may go, which has time.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from aiki_server.engine.dispatch.routing import Version
from aiki_server.engine.dispatch.trials import Trials
from aiki_server.engine.redis.circuit import Circuit
from aiki_server.engine.redis.consumers import delete_streams
from aiki_server.engine.redis.rates import UNKNOWN, Rates, RatesReader
from aiki_server.engine.redis.stream_names import stream
from aiki_server.engine.workers.registry import Registry
from aiki_server.model.keys import BuildKey, PoolKey
from aiki_server.model.workers import Build, WorkerRow
from aiki_server.store.connections import Db, Pool
from aiki_server.store.queries import pools, trials
from aiki_server.store.queries.pools import Hands, Open, Place, Queued
from aiki_server.store.queries.trials import Figures

DUE_SOON_SECONDS = 600.0
DUE_SOON_LIMIT = 1_000
OPEN_RUNS_AGE = 3.0
CONFIRM_SHARE = 0.5
"""Of the days after which unused registrations are forgotten: after so many, an operator is asked to set its pool again."""
POOLS_A_STEP = 100
"""After the loads of so many, others have their turn."""
MOST_UNSERVED = 100
"""Kinds of runs that nobody serves which are told of a pool."""


class BuildLoad(NamedTuple):
    """A build, and how much it is needed."""

    build: Build
    carries: frozenset[Version]
    serves: frozenset[Version]
    queued: int
    running: int
    open_runs: int
    next_due_at: datetime | None
    workers: list[WorkerRow]


class OnTrial(NamedTuple):
    """A build that has a share of the pool's new runs before it takes over, and how the runs fare that were drawn for it."""

    build: str
    percent: int
    figures: Figures


class Unserved(NamedTuple):
    """Queued runs of one kind that no live worker reads. `builds` would, if they had workers; without any nobody ever will."""

    workflow: str
    version: str | None
    build: str | None
    runs: int
    oldest_seconds: float
    builds: frozenset[str]


class Load(NamedTuple):
    """A pool, and how much it has to do."""

    pool: str
    pinned: bool
    queued: int
    oldest_queued_at: datetime | None
    running: int
    due_soon: list[datetime]
    rates: Rates
    builds: list[BuildLoad]
    workers: list[WorkerRow]
    unserved: list[Unserved]
    kept: bool
    """Whether its builds stay though nobody uses them."""
    trial: OnTrial | None = None


@dataclass(frozen=True, slots=True)
class _Reading:
    """One reading of a pool."""

    queued: list[tuple[Place, Queued]] = field(default_factory=list)
    hands: list[Hands] = field(default_factory=list)
    open: list[tuple[Place, Open]] = field(default_factory=list)


def _by_pool(queued: Mapping[Place, Queued], running: Iterable[Hands], opened: Mapping[Place, Open]) -> dict[str, _Reading]:
    """What was read of a namespace, parted: what is asked of each pool may be asked of ten thousand."""
    readings: defaultdict[str, _Reading] = defaultdict(_Reading)
    for place, found in queued.items():
        readings[place.pool].queued.append((place, found))
    for hands in running:
        readings[hands.pool].hands.append(hands)
    for place, of_place in opened.items():
        readings[place.pool].open.append((place, of_place))
    return readings


class Pools:
    """Readings and changes of pools."""

    def __init__(self, pool: Pool, circuit: Circuit, registry: Registry, trials: Trials, *, days: float | None) -> None:
        self._trials = trials
        self._days = days
        self._pool = pool
        self._circuit = circuit
        self._rates = RatesReader(circuit)
        self._registry = registry
        self._open: dict[str, tuple[float, Mapping[Place, Open]]] = {}

    async def loads(self, namespace: str, *, only: str | None = None) -> list[Load]:
        """All pools of a namespace, or one of them."""
        await self._registry.renew()
        names = sorted(self._names(namespace)) if only is None else [only]
        async with self._pool.acquire() as db:
            queued, running = await pools.queued(db, namespace, pool=only), await pools.running(db, namespace, pool=only)
            readings = _by_pool(queued, running, await self._open_runs(db, namespace))
            kept = names if self._days is None else await pools.kept(db, namespace, days=self._days * CONFIRM_SHARE)
            due = await pools.due_soon(db, namespace, pools=names, seconds=DUE_SOON_SECONDS, limit=DUE_SOON_LIMIT)
            on_trial = await self._on_trial(db, namespace, names)
        rates = await self._rates.read(namespace, {name: self._streams(namespace, name) for name in names})
        loads = []
        for name in names:
            load = self._load(namespace, name, readings.get(name, _Reading()))
            loads.append(load._replace(due_soon=due.get(name, []), rates=rates[name], kept=name in kept, trial=on_trial.get(name)))
            if len(loads) % POOLS_A_STEP == 0:
                await asyncio.sleep(0)
        return loads

    def known(self, namespace: str, pool: str) -> bool:
        """Whether anybody has named this pool to us."""
        return self._registry.serving.knows(namespace, pool)

    async def configure(self, namespace: str, pool: str, *, versioning: str) -> None:
        """Set how a pool treats builds."""
        async with self._pool.acquire() as db:
            await pools.configure(db, namespace, pool, versioning=versioning)
        await self._registry.renew()

    async def promote(self, namespace: str, pool: str, build: str) -> bool:
        """Let a build take over what it carries; whether there is one. A share that it had is over."""
        async with self._pool.acquire() as db, db.transaction():
            done = await pools.promote(db, namespace, pool, build)
            await trials.unshare(db, namespace, pool, build)
        await self._over()
        return done

    async def share(self, namespace: str, pool: str, build: str, percent: int) -> bool:
        """Give a build its share of the pool's new runs; whether there is such a build that has not taken over."""
        async with self._pool.acquire() as db:
            done = await trials.share(db, namespace, pool, build, percent=percent)
        await self._over()  # of the build that had it before
        return done

    async def unshare(self, namespace: str, pool: str, build: str) -> None:
        """Give a build no share any more."""
        async with self._pool.acquire() as db:
            await trials.unshare(db, namespace, pool, build)
        await self._over()

    async def _over(self) -> None:
        """A share may have ended: what was drawn by it is free."""
        await self._registry.renew()
        await self._trials.let_go()

    async def _on_trial(self, db: Db, namespace: str, names: Iterable[str]) -> dict[str, OnTrial]:
        """The pools of which a build has a share of the new runs."""
        found: dict[str, OnTrial] = {}
        for name in names if self._registry.serving.shares else ():
            if (share := self._registry.serving.shares.get(PoolKey(namespace, name))) is not None:
                figures = await self._trials.figures(db, BuildKey(namespace, name, share.build))
                found[name] = OnTrial(share.build, share.percent, figures)
        return found

    async def delete_build(self, namespace: str, pool: str, build: str) -> int | None:
        """Forget a build that no open run needs; how many need it (then it stays). None where there is none."""
        await self._registry.renew()
        if build not in self._registry.serving.builds.get(PoolKey(namespace, pool), {}):
            return None
        carried = self._registry.serving.carries(namespace, pool, build)
        # With those that it had while a roll-out drew runs for it.
        before = {*self._streams(namespace, pool), *(stream(namespace, pool, *version, build) for version in carried)}
        async with self._pool.acquire() as db, db.transaction():
            opened = [(place, found) for place, found in (await pools.open_runs(db, namespace)).items() if place.pool == pool]
            needing = self._needed(namespace, pool, opened).get(build, 0)
            if needing == 0:
                await trials.unshare(db, namespace, pool, build)
                await pools.delete_build(db, namespace, pool, build)
        await self._registry.renew()
        await delete_streams(self._circuit, before - set(self._streams(namespace, pool)))
        return needing

    def has_build(self, namespace: str, pool: str, build: str) -> bool:
        """Whether a build has registered."""
        return build in self._registry.serving.builds.get(PoolKey(namespace, pool), {})

    def _names(self, namespace: str) -> set[str]:
        serving = self._registry.serving
        return {pool for owner, pool in [*serving.builds, *serving.settings] if owner == namespace}

    async def _open_runs(self, db: Db, namespace: str) -> Mapping[Place, Open]:
        read_at, found = self._open.get(namespace, (0.0, {}))
        if time.monotonic() - read_at > OPEN_RUNS_AGE:
            found = await pools.open_runs(db, namespace)
            self._open[namespace] = (time.monotonic(), found)
        return found

    def streams(self) -> list[str]:
        """The streams of all pools."""
        return [name for namespace, pool in self._registry.serving.builds for name in self._streams(namespace, pool)]

    def _streams(self, namespace: str, pool: str) -> list[str]:
        serving = self._registry.serving
        builds = [build or None for build in serving.builds.get(PoolKey(namespace, pool), {})]
        return sorted(
            {name for build in builds for name in serving.streams(namespace, pool, build, serving.carries(namespace, pool, build))}
        )

    def _load(self, namespace: str, pool: str, reading: _Reading) -> Load:
        serving = self._registry.serving
        builds = [build for build in serving.builds.get(PoolKey(namespace, pool), {}).values() if build.name]
        workers = self._workers(namespace, pool, reading)
        mine = [queued for place, queued in reading.queued if place.version is not None]
        return Load(
            pool,
            PoolKey(namespace, pool) in serving.pinned,
            sum(queued.runs for queued in mine),
            min((queued.since for queued in mine), default=None),
            sum(hands.runs for hands in reading.hands),
            [],
            UNKNOWN,
            self._build_loads(namespace, pool, builds, reading, workers),
            workers,
            self._unserved(namespace, reading),
            kept=True,
        )

    def _unserved(self, namespace: str, reading: _Reading) -> list[Unserved]:
        """The queued runs that nobody serves now, those that have waited longest first."""
        found = []
        for place, queued in reading.queued:
            if not (readers := self._registry.readers((namespace, *place))).live:
                found.append(Unserved(place.workflow, place.version, place.build, queued.runs, queued.oldest_seconds, readers.builds))
        return sorted(found, key=lambda unserved: -unserved.oldest_seconds)[:MOST_UNSERVED]

    def _workers(self, namespace: str, pool: str, reading: _Reading) -> list[WorkerRow]:
        """The workers, with what they have in hand now: their heartbeats say what they had seconds ago, or hold on to still."""
        hands = {hands.worker: hands.runs for hands in reading.hands}
        return [worker._replace(active=max(worker.active, hands.get(worker.id, 0))) for worker in self._registry.live(namespace, pool)]

    def _build_loads(
        self, namespace: str, pool: str, builds: Iterable[Build], reading: _Reading, workers: Iterable[WorkerRow]
    ) -> list[BuildLoad]:
        serving = self._registry.serving
        queued, running, needed = Counter[str](), Counter[str](), self._needed(namespace, pool, reading.open)
        due: dict[str, datetime] = {}
        by_build: defaultdict[str, list[WorkerRow]] = defaultdict(list)
        for place, found in reading.queued:
            queued[self._reads(namespace, place) or ""] += found.runs
        for hands in reading.hands:
            running[hands.build or ""] += hands.runs
        for place, opened in reading.open:
            name = self._reads(namespace, place) or ""
            if opened.next_due_at is not None:
                due[name] = min(opened.next_due_at, due.get(name, opened.next_due_at))
        for worker in workers:
            by_build[worker.build or ""].append(worker)
        return [
            BuildLoad(
                build,
                serving.carries(namespace, pool, build.name),
                serving.serves(namespace, pool, build.name),
                queued[build.name],
                running[build.name],
                needed[build.name],
                due.get(build.name),
                by_build[build.name],
            )
            for build in builds
        ]

    def _needed(self, namespace: str, pool: str, opened: Iterable[tuple[Place, Open]]) -> Counter[str]:
        """Of each build of a pool, the open runs that it alone can serve."""
        serving, needed = self._registry.serving, Counter[str]()
        for place, found in opened:
            version = (place.workflow, place.version or "")
            if place.build is not None:
                needed[place.build] += found.runs
            elif serving.only(namespace, pool, version):
                needed[serving.server(namespace, pool, version) or ""] += found.runs
        return needed

    def _reads(self, namespace: str, place: Place) -> str | None:
        """The build whose workers take the runs of a place."""
        if place.build is not None:
            return place.build
        return self._registry.serving.server(namespace, place.pool, (place.workflow, place.version or ""))
