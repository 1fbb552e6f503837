"""The engine: everything that runs in a server process behind its API, put together, started and stopped as one.

`running` opens the database and Redis, starts the batchers and loops in one TaskGroup, and ends them in order: first nothing
new, then what is queued, then the connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from redis.asyncio import Redis

from aiki.shared.redis_link import connection
from aiki_server.engine.access.redis_users import RedisUsers, Urls
from aiki_server.engine.commit.after_commit import Effects
from aiki_server.engine.commit.lanes import Lanes
from aiki_server.engine.commit.row_cache import Held
from aiki_server.engine.dispatch.claims import Claims
from aiki_server.engine.dispatch.trials import Trials
from aiki_server.engine.recovery.keeper import Keeper
from aiki_server.engine.recovery.refill import Refill
from aiki_server.engine.recovery.retention import Retention
from aiki_server.engine.recovery.sweeper import Sweeper
from aiki_server.engine.recovery.unused import Unused
from aiki_server.engine.redis.circuit import ANSWER_SECONDS, Circuit
from aiki_server.engine.redis.consumers import Consumers
from aiki_server.engine.redis.listener import REGISTRY, Listener
from aiki_server.engine.redis.notifier import Doorbell
from aiki_server.engine.runtime.batcher import Batcher
from aiki_server.engine.runtime.clock import DatabaseClock
from aiki_server.engine.runtime.loop import Loop
from aiki_server.engine.start.new_ids import RunIds
from aiki_server.engine.start.starts import Starts
from aiki_server.engine.time.timers import Timers
from aiki_server.engine.watch.outcomes import Outcomes
from aiki_server.engine.watch.reads import Reads
from aiki_server.engine.watch.results import Results
from aiki_server.engine.workers.pools import Pools
from aiki_server.engine.workers.registry import Registry
from aiki_server.engine.workers.scale_up import Wakes
from aiki_server.engine.workers.sessions import Sessions
from aiki_server.model import ops
from aiki_server.settings import Settings
from aiki_server.store import connections, migrate
from aiki_server.store.connections import Db, Pool
from aiki_server.store.incarnations import Incarnations
from aiki_server.store.reaching import reached

log = logging.getLogger(__name__)

DATABASE_SECONDS = 60.0
"""How long a server that starts waits for its database."""


READ_SECONDS = 5
"""How long a listing may take."""


class NotMigratedError(Exception):
    """The database lacks migrations of this release."""


class Engine:
    """What the API calls. Made by `running`."""

    def __init__(
        self, settings: Settings, pool: Pool, redis: Redis | None, *, reads: Pool, vital: Pool, incarnations: Incarnations
    ) -> None:
        lease = settings.lease_seconds
        self.settings = settings
        self.pool = pool
        self.reads = reads
        """For what people and dashboards look at: few connections, and no statement lasts long."""
        self.vital = vital
        """For heartbeats: nothing else makes them wait."""
        self.circuit = Circuit(redis, restored=self._redis_restored)
        held = Held()
        pool.when_lost(held.forget)
        self.incarnations = incarnations
        incarnations.when_another(held.forget)
        incarnations.when_another(self._restored)
        self.draining = False
        self.polled = 0
        """Runs that workers found by asking Postgres while Redis could be used."""
        self.clock = DatabaseClock()
        self.run_ids = RunIds()
        self.doorbell = Doorbell(self.circuit)
        self.results = Results(pool)
        self.looks = Reads(reads, pool)
        self.outcomes = Outcomes()
        self.registry = Registry(pool, lease=lease, after=self.after)
        self.wakes = Wakes(self.registry, self.doorbell)
        self.lanes = Lanes(pool, count=settings.lanes, clock=self.clock, held=held, after=self.after, faults=settings.faults)
        self.starts = Starts(pool, after=self.after, faults=settings.faults)
        self.claims = Claims(pool, lease=lease, submit=self.lanes.submit, held=held, granted=self.outcomes.claimed, faults=settings.faults)
        self.timers = Timers(pool, clock=self.clock, after=self.after)
        self.refill = Refill(pool, self.circuit, after=self.after)
        self.trials = Trials(pool, after=self.after)
        self.sweeper = Sweeper(
            pool,
            lease=lease,
            registry=self.registry,
            refill=self.refill,
            trials=self.trials,
            submit=self.lanes.submit,
            clock=self.clock,
            circuit=self.circuit,
        )
        self.sessions = Sessions(pool, vital, self.registry, hands=self.sweeper, announce=self.announce_registry)
        self.pools = Pools(reads, self.circuit, self.registry, self.trials, days=settings.registration_days)
        workers_tokens = {token: namespace for token, namespace in settings.tokens.items() if token not in settings.client_tokens}
        self.redis_users = RedisUsers(pool, self.circuit, Urls(settings.redis_url, settings.worker_redis_url), tokens=workers_tokens)
        self.consumers = Consumers(self.circuit, streams=self.pools.streams)
        self.keeper = Keeper(pool, incarnations, self.circuit, streams=self.pools.streams, rung=self.sweeper.hurry, period=lease / 3)
        self.retention = Retention(pool, days=settings.retention_days)
        self.unused = Unused(pool, self.registry, days=settings.registration_days, announce=self.announce_registry)
        self.listener = (
            Listener(self.circuit, ended=self._ended_elsewhere, registered=self._registered_elsewhere, wake=self.wakes.heard)
            if redis
            else None
        )
        self.loops = self._loops()
        self._tasks: list[asyncio.Task[None]] = []

    def after(self, effects: Effects) -> None:
        """Tell everybody what came of a transaction. Never waits, never fails."""
        if effects.ended:
            self.results.ended(effects.ended)
            self.outcomes.ended(effects.conclusions)
        self.doorbell.ring(effects)
        if effects.due is not None:
            self.timers.hint(effects.due)
        if effects.closing or effects.cancelled_children:
            self.sweeper.hurry()
        if effects.unserved and self.registry.started(effects.unserved):
            self.sweeper.hurry()
        if effects.queued:
            self.wakes.queued(effects.queued)
            for (namespace, *_), runs in effects.queued.items():
                self.results.queued(runs, namespace=namespace)

    def drain(self) -> None:
        """The process was asked to end: answer the long polls, and say that this server is not ready for more."""
        self.draining = True
        self.results.drain()
        self.wakes.drain()

    def announce_registry(self) -> None:
        """Other replicas should look at what is registered."""
        self.doorbell.publish(REGISTRY, "")

    async def submit(self, op: ops.Op) -> ops.Answer:
        """The answer to one op."""
        return (await self.lanes.submit([op]))[0]

    def complaints(self) -> list[str]:
        """What works less well than it could, in sentences that anybody may read."""
        found = []
        if (trouble := self.circuit.trouble) is not None:
            found.append(f"{trouble.text} Work goes on through Postgres, at a lower rate.")
        elif self.listener is not None and (trouble := self.listener.trouble) is not None:
            found.append(f"{trouble.text} Other servers are asked through Postgres.")
        if self.listener is not None and (complaint := self.redis_users.complaint()) is not None:
            found.append(complaint)
        if self.doorbell.spoiled:
            found.append(f"{len(self.doorbell.spoiled)} keys in Redis hold something of another type; the log names them. Delete them.")
        return found

    async def migrated(self) -> bool:
        """Whether the database has every migration of this release."""
        async with self.pool.acquire() as db:
            return await migrate.up_to_date(db)

    @property
    def healthy(self) -> bool:
        """Whether every loop turned lately."""
        return all(loop.healthy for loop in self.loops)

    async def run(self) -> None:
        """Everything in the background, until it is stopped."""
        async with asyncio.TaskGroup() as group:
            self._tasks = [group.create_task(batcher.run(), name=batcher.name) for batcher in self.batchers]
            self._tasks += [group.create_task(loop.run(), name=loop.name) for loop in self.loops]

    async def stop(self) -> None:
        """End everything in the background."""
        while pending := [task for task in self._tasks if not task.done()]:
            for task in pending:
                task.cancel()
            # Libraries swallow a cancellation now and then, when it meets the end of what they wait for: ask again.
            await asyncio.wait(pending, timeout=0.2)

    @property
    def batchers(self) -> list[Batcher[Any, Any]]:
        """Everything that commits in groups."""
        return [*self.lanes.batchers, self.starts.batcher, self.claims.batcher, self.results.reader]

    def _loops(self) -> list[Loop]:
        loops = [
            Loop("doorbell", self.doorbell.turn, patience=60),
            Loop("timers", self.timers.turn, patience=60),
            Loop("sweeper", self.sweeper.turn, patience=60 + 2 * self.sweeper.period),
            Loop("incarnation", self.keeper.turn, patience=60 + 2 * self.sweeper.period),
            Loop("results", self.results.turn, patience=float("inf")),
            Loop("retention", self.retention.turn, patience=float("inf")),
            Loop("unused", self.unused.turn, patience=float("inf")),
            Loop("consumers", self.consumers.turn, patience=float("inf")),
        ]
        if self.listener is None:
            return loops
        return [
            *loops,
            Loop("redis users", self.redis_users.turn, patience=float("inf")),
            Loop("circuit", self.circuit.turn, patience=60),
            Loop("listener", self.listener.turn, patience=60),
            Loop("renewals", self.listener.renewals, patience=float("inf")),
        ]

    def _restored(self) -> None:
        """The data were taken back to an earlier point: nothing that is remembered of them need be true."""
        self.registry.forget_all()
        self.keeper.hurry()
        self.sweeper.hurry()
        self.timers.hurry()
        self.redis_users.lost()

    def _redis_restored(self) -> None:
        """Redis may have lost everything: compare it with Postgres now."""
        self.sweeper.hurry()
        self.redis_users.lost()

    async def _registered_elsewhere(self) -> None:
        await self.registry.renew()
        if self.registry.serves_waiting():
            self.sweeper.hurry()

    async def _ended_elsewhere(self, namespace: str, runs: list[UUID]) -> None:
        await self.results.ended_elsewhere(runs, namespace=namespace)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Engine]:
    """An engine that runs for as long as the block lasts."""
    reading, vital = max(1, settings.connections // 4), 1
    incarnations = Incarnations()
    pool = await reached(
        lambda: _opened(settings, size=settings.connections - reading - vital, incarnations=incarnations), seconds=DATABASE_SECONDS
    )
    reads = await connections.connect(
        settings.database_url, size=reading, statement_seconds=READ_SECONDS, pages=True, incarnations=incarnations
    )
    vitals = await connections.connect(settings.database_url, size=vital, incarnations=incarnations)
    for one in (reads, vitals):
        one.others.append(pool)
    pool.others += [reads, vitals]
    redis = _redis(settings.redis_url)
    try:
        engine = Engine(settings, pool, redis, reads=reads, vital=vitals, incarnations=incarnations)
        await engine.registry.renew()
        await engine.circuit.check()
        await engine.redis_users.begin()
        background = asyncio.create_task(engine.run(), name="engine")
        await asyncio.sleep(0)  # so that there is something to stop
        try:
            yield engine
        finally:
            await engine.stop()
            await background
            if engine.listener:
                await engine.listener.close()
    finally:
        if redis is not None:
            await redis.aclose()
        for one in (pool, reads, vitals):
            one.close()


async def _opened(settings: Settings, *, size: int, incarnations: Incarnations) -> Pool:
    """A pool on a database that was checked."""
    if settings.migrate:
        await migrate.migrate(settings.database_url, reach_seconds=0)  # whoever opens waits for it
    # Before the pool, whose connections begin an incarnation where the data were restored.
    async with connections.alone(settings.database_url) as db:
        await _check(db, settings)
    return await connections.connect(settings.database_url, size=size, incarnations=incarnations)


async def _check(db: Db, settings: Settings) -> None:
    await connections.check_version(db)
    if not settings.unsafe_database:
        await connections.check_durability(db)
    await migrate.check_release(db)
    if not await migrate.up_to_date(db):
        raise NotMigratedError("The database lacks migrations of this release. Run: python -m aiki_server migrate")


def _redis(url: str | None) -> Redis | None:
    if url is None:
        return None
    # A second try, for connections that a restart of Redis left dead.
    return connection(url, answer_seconds=ANSWER_SECONDS, tries=2)
