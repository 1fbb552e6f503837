"""What the operator needs to know of pools and their builds, and how it changes them.

Counts of queued and running runs are read anew each time. What looks at every open run (how many still need a build) is
read at most every few seconds: it decides when an old build may go, which has time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from aiki_server.engine.circuit import Circuit
from aiki_server.engine.consumers import delete_streams
from aiki_server.engine.rates import Rates, RatesReader
from aiki_server.engine.registry import Registry
from aiki_server.engine.serving import Version
from aiki_server.store import pools
from aiki_server.store.database import Db, Pool
from aiki_server.store.keys import PoolKey
from aiki_server.store.pools import Hands, Open, Place, Queued
from aiki_server.store.registry import Build, WorkerRow

DUE_SOON_SECONDS = 600.0
DUE_SOON_LIMIT = 1_000
OPEN_RUNS_AGE = 3.0
CONFIRM_SHARE = 0.5
"""Of the days after which unused registrations are forgotten: after so many, an operator is asked to set its pool again."""
MOST_UNREAD = 100
"""Kinds of runs that nobody reads which are told of a pool."""


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


class Unread(NamedTuple):
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
    running: int
    due_soon: list[datetime]
    rates: Rates
    builds: list[BuildLoad]
    workers: list[WorkerRow]
    unread: list[Unread]
    kept: bool
    """Whether its builds stay though nobody uses them."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """One reading of a namespace."""

    queued: Mapping[Place, Queued]
    running: list[Hands]
    open: Mapping[Place, Open]
    kept: frozenset[str] | None
    """The pools that somebody has set lately; None where nothing is ever forgotten."""


class Pools:
    """Readings and changes of pools."""

    def __init__(self, pool: Pool, circuit: Circuit, registry: Registry, *, days: float | None) -> None:
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
            reading = _Reading(
                await pools.queued(db, namespace, pool=only),
                await pools.running(db, namespace, pool=only),
                await self._open_runs(db, namespace),
                None if self._days is None else await pools.kept(db, namespace, days=self._days * CONFIRM_SHARE),
            )
            due = await pools.due_soon(db, namespace, pools=names, seconds=DUE_SOON_SECONDS, limit=DUE_SOON_LIMIT)
        rates = await self._rates.read(namespace, {name: self._streams(namespace, name) for name in names})
        return [self._load(namespace, name, reading, due.get(name, []), rates[name]) for name in names]

    def known(self, namespace: str, pool: str) -> bool:
        """Whether anybody has named this pool to us."""
        return self._registry.serving.knows(namespace, pool)

    async def configure(self, namespace: str, pool: str, *, versioning: str) -> None:
        """Set how a pool treats builds."""
        async with self._pool.acquire() as db:
            await pools.configure(db, namespace, pool, versioning=versioning)
        await self._registry.renew()

    async def promote(self, namespace: str, pool: str, build: str) -> bool:
        """Let a build take over what it carries; whether there is one."""
        async with self._pool.acquire() as db:
            done = await pools.promote(db, namespace, pool, build)
        await self._registry.renew()
        return done

    async def delete_build(self, namespace: str, pool: str, build: str) -> int | None:
        """Forget a build that no open run needs; how many need it (then it stays). None where there is none."""
        await self._registry.renew()
        if build not in self._registry.serving.builds.get(PoolKey(namespace, pool), {}):
            return None
        before = set(self._streams(namespace, pool))
        async with self._pool.acquire() as db, db.transaction():
            needing = self._needing(namespace, pool, build, await pools.open_runs(db, namespace)).runs
            if needing == 0:
                await pools.delete_build(db, namespace, pool, build)
        await self._registry.renew()
        await delete_streams(self._circuit, before - set(self._streams(namespace, pool)))
        return needing

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

    def _load(self, namespace: str, pool: str, reading: _Reading, due_soon: list[datetime], rates: Rates) -> Load:
        serving = self._registry.serving
        builds = serving.builds.get(PoolKey(namespace, pool), {})
        return Load(
            pool,
            PoolKey(namespace, pool) in serving.pinned,
            sum(queued.runs for place, queued in reading.queued.items() if place.pool == pool and place.version is not None),
            sum(hands.runs for hands in reading.running if hands.pool == pool),
            due_soon,
            rates,
            [self._build_load(namespace, pool, build, reading) for build in builds.values() if build.name],
            self._workers(namespace, pool, reading),
            self._unread(namespace, pool, reading),
            reading.kept is None or pool in reading.kept,
        )

    def _unread(self, namespace: str, pool: str, reading: _Reading) -> list[Unread]:
        """The queued runs that nobody reads now, those that have waited longest first."""
        found = []
        for place, queued in reading.queued.items():
            if place.pool == pool and not (readers := self._registry.readers((namespace, *place))).live:
                found.append(Unread(place.workflow, place.version, place.build, *queued, readers.builds))
        return sorted(found, key=lambda unread: -unread.oldest_seconds)[:MOST_UNREAD]

    def _workers(self, namespace: str, pool: str, reading: _Reading) -> list[WorkerRow]:
        """The workers, with what they have in hand now: their heartbeats say what they had seconds ago, or hold on to still."""
        hands = {hands.worker: hands.runs for hands in reading.running if hands.pool == pool}
        return [worker._replace(active=max(worker.active, hands.get(worker.id, 0))) for worker in self._registry.live(namespace, pool)]

    def _build_load(self, namespace: str, pool: str, build: Build, reading: _Reading) -> BuildLoad:
        serving = self._registry.serving
        carries, serves = serving.carries(namespace, pool, build.name), serving.serves(namespace, pool, build.name)
        queued = sum(
            queued.runs for place, queued in reading.queued.items() if place.pool == pool and _would_serve(place, build.name, serves)
        )
        due = [found.next_due_at for place, found in reading.open.items() if place.pool == pool and _would_serve(place, build.name, serves)]
        return BuildLoad(
            build,
            carries,
            serves,
            queued,
            sum(hands.runs for hands in reading.running if (hands.pool, hands.build) == (pool, build.name)),
            self._needing(namespace, pool, build.name, reading.open).runs,
            min((at for at in due if at is not None), default=None),
            [worker for worker in self._workers(namespace, pool, reading) if worker.build == build.name],
        )

    def _needing(self, namespace: str, pool: str, build: str, found: Mapping[Place, Open]) -> Open:
        """The open runs that this build alone can serve."""
        serving = self._registry.serving
        others = [name for name in serving.builds.get(PoolKey(namespace, pool), {}) if name != build]
        elsewhere = {version for name in others for version in serving.carries(namespace, pool, name or None)}
        alone = serving.carries(namespace, pool, build) - elsewhere
        needing = [
            counted
            for place, counted in found.items()
            if place.pool == pool and (place.build == build or (place.build is None and (place.workflow, place.version) in alone))
        ]
        return Open(sum(counted.runs for counted in needing), min((at for _, at in needing if at is not None), default=None))


def _would_serve(place: Place, build: str, serves: frozenset[Version]) -> bool:
    return place.build == build if place.build is not None else (place.workflow, place.version) in serves
