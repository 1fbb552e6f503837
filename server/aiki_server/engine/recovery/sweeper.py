"""Recovery: it asks the tables every few seconds what went wrong, and puts it right. Postgres is the one authority.

Nobody is declared dead on the word of a database that was itself away: workers could not be heard then, so a full lease of
healthy turns comes first. Everything is guarded by state, so several replicas may sweep at once, and any sweep may die midway.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import UUID

from aiki.protocol import MAX_DELIVERIES, QueuedBy
from aiki_server.engine.dispatch.trials import Trials
from aiki_server.engine.recovery.refill import ON_ITS_WAY_SECONDS, Refill
from aiki_server.engine.recovery.unclaimed import Unclaimed
from aiki_server.engine.recovery.unheard import Unheard, out_of_reach
from aiki_server.engine.recovery.unread import Unserved
from aiki_server.engine.redis.circuit import Circuit
from aiki_server.engine.runtime.clock import DatabaseClock
from aiki_server.engine.workers.registry import Registry
from aiki_server.model import ops
from aiki_server.model.keys import WorkerKey
from aiki_server.model.sweeps import Backlog, Held
from aiki_server.store.connections import Pool
from aiki_server.store.queries import claims, sweeps

log = logging.getLogger(__name__)

Submit = Callable[[list[ops.Op]], Awaitable[list[ops.Answer]]]
UNHEALTHY_GAP = 2.0
"""A turn that comes this many periods after the last one means that we, or the database, were away."""

MOST_UNSERVED = 200
"""Streams of a namespace that nobody has registered and that a sweep looks at: only figures and logs are made of them."""

TOLD_AT_ONCE = 1_000
"""How many children that nobody awaits any more one sweep cancels."""

LAST_BREATH_SECONDS = 1.0
"""A worker that was reported as lost may live a moment longer and read the rings of the runs that it lost: they are rung once more.

A claim of its that was under way may be carried out after all: what it granted is looked for as long afterwards.
"""


class Sweeper:
    """`turn` has to be repeated by a Loop."""

    def __init__(
        self,
        pool: Pool,
        *,
        lease: float,
        registry: Registry,
        refill: Refill,
        trials: Trials,
        submit: Submit,
        clock: DatabaseClock,
        circuit: Circuit,
    ) -> None:
        self._pool = pool
        self._trials = trials
        self._lease = lease
        self._registry = registry
        self._refill = refill
        self.unserved = Unserved(registry)
        self.unclaimed = Unclaimed(circuit, refill.ring_again, last_breath_seconds=LAST_BREATH_SECONDS)
        self.backlogs: list[Backlog] = []
        """What the last sweep found queued."""
        self._submit = submit
        self._clock = clock
        self._healthy_since = time.monotonic()
        self._turned_at = time.monotonic()
        self._soon = asyncio.Event()
        self._moved: dict[UUID, float] = {}
        self._asked = False
        self.lost = 0
        """How many runs workers held whose death nobody had reported: they fell silent, and this server was the one that noticed."""
        self.rescued = 0
        """How many parents had ended without that anybody asked for a sweep, and were found by this server."""

    @property
    def period(self) -> float:
        """Seconds between sweeps."""
        return self._lease / 3

    def hurry(self) -> None:
        """Something was left to do: sweep now."""
        self._soon.set()

    async def turn(self) -> None:
        """Wait for the next sweep, and do it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.period):
                await self._soon.wait()
        self._asked = self._soon.is_set()
        self._soon.clear()
        try:
            await self._sweep()
        except BaseException:
            self._healthy_since = time.monotonic()
            raise
        self._turned_at = time.monotonic()

    async def _sweep(self) -> None:
        if time.monotonic() - self._turned_at > UNHEALTHY_GAP * self.period + 1:
            self._healthy_since = time.monotonic()
        await self._registry.renew()
        await self._registry.assign()
        await self._trials.let_go()
        await self._recover()
        await self.unclaimed.look()
        await self.close_children()
        await self.cancel_children()
        await self.end_unheard()
        async with self._pool.acquire() as db:
            self.backlogs = await sweeps.queued(db, seconds=ON_ITS_WAY_SECONDS, unserved=MOST_UNSERVED)
        await self.unserved.look(self.backlogs)
        await self._refill.fill(self.backlogs)
        if again := {run for run, at in self._moved.items() if time.monotonic() - at >= LAST_BREATH_SECONDS}:
            await self._refill.ring_again(list(again))
            self._moved = {run: at for run, at in self._moved.items() if run not in again}

    async def _recover(self) -> None:
        async with self._pool.acquire() as db:
            self._clock.read(await sweeps.now(db))
            if time.monotonic() - self._healthy_since >= self._lease:
                for namespace, worker, runs in await sweeps.forget_silent(db, lease=self._lease):
                    log.warning("worker lost", extra={"namespace": namespace, "worker": worker, "runs": runs, "lease_seconds": self._lease})
                    self.lost += runs
            orphans = await sweeps.orphans(db)
            poisoned = await claims.all_poisoned(db, deliveries=MAX_DELIVERIES)
        await self.move(orphans, by=QueuedBy.LOST)
        if poisoned:
            await self._submit([ops.Poison(run, namespace) for run, namespace in poisoned])

    async def gone(self, namespace: str, workers: list[str], *, by: ops.Departure) -> int:
        """Somebody reports that these workers are gone: take what they hold; how many runs that were."""
        keys = [WorkerKey(namespace, worker) for worker in workers]
        for known in filter(None, map(self._registry.workers.get, keys)):
            self.unclaimed.leave(known.id, self._registry.serves(known, drain=False).streams)
        self._registry.forget(namespace, workers)
        self.hurry()
        asyncio.get_running_loop().call_later(LAST_BREATH_SECONDS + 0.01, self.hurry)
        return await self.release(namespace, workers, by=by)

    async def release(self, namespace: str, workers: list[str], *, by: ops.Departure) -> int:
        """Take out of the hands of these workers what they hold; how many runs that were."""
        async with self._pool.acquire() as db:
            held = await sweeps.held(db, namespace=namespace, workers=workers)
        return await self.move(held, by=by)

    async def move(self, held: list[Held], *, by: ops.Departure) -> int:
        """Take runs out of the hands of workers that are gone; how many still were there."""
        if not held:
            return 0
        if by == QueuedBy.LOST:
            self._moved |= dict.fromkeys((run.id for run in held), time.monotonic())
            asyncio.get_running_loop().call_later(LAST_BREATH_SECONDS + 0.01, self.hurry)
        answers = await self._submit([ops.Lose(run.id, run.namespace, run.epoch, by) for run in held])
        return sum(isinstance(answer, ops.Changed) for answer in answers)

    async def cancel_children(self) -> None:
        """Cancel the children that the code of their parents stopped waiting for. They stay noted until they have been asked to end."""
        async with self._pool.acquire() as db:
            children = await sweeps.child_cancellations(db, limit=TOLD_AT_ONCE)
        if not children:
            return
        await self._submit([ops.Cancel(child, namespace, '"the parent stopped waiting"') for child, namespace in children if namespace])
        async with self._pool.acquire() as db:
            await sweeps.forget_child_cancellations(db, [child for child, _ in children])
        if len(children) == TOLD_AT_ONCE:
            self.hurry()

    async def end_unheard(self) -> None:
        """End the runs that are to be cancelled and whose code nobody can run."""
        async with self._pool.acquire() as db:
            found = [Unheard(*row) for row in await sweeps.unheard(db, seconds=self._lease)]
        workers = list(self._registry.workers.values()) if found else []
        serving = self._registry.serving
        lost = [run for run in found if out_of_reach(run, serving=serving, workers=workers, lease=self._lease)]
        if lost:
            await self._submit([ops.GiveUpTelling(run.id, run.namespace, run.epoch) for run in lost])

    async def close_children(self) -> None:
        """Tell the children of ended parents, level by level: a child that ends at once closes its own."""
        async with self._pool.acquire() as db:
            parents = await sweeps.closing(db)
        for parent in parents:
            first = await self._close(parent.id)
            self.rescued += first and parent.late and not self._asked

    async def _close(self, parent: UUID) -> bool:
        """Whether no other server was done with it before."""
        while True:
            async with self._pool.acquire() as db:
                children = await sweeps.open_children(db, parent)
                if not children:
                    return await sweeps.closed(db, parent)
            await self._submit([ops.Cancel(child, namespace, '"the parent ended"') for child, namespace in children])
