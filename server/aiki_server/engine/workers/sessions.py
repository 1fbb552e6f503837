"""What a worker says of its life, and what others say of it: it registers, lives, looks at what came in, drains, leaves, or is lost.

A session lasts from a worker's registration until it is forgotten. Its runs are told by the same code whether the worker leaves in order, the
operator says that its pod is gone, or it registers again and has dropped what it held before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol
from uuid import UUID

from aiki.protocol import QueuedBy
from aiki_server.engine.workers.registry import Registry, Serves
from aiki_server.model.keys import WorkerKey
from aiki_server.model.ops import Departure
from aiki_server.model.rows import Item
from aiki_server.model.workers import Holding
from aiki_server.store.connections import Pool
from aiki_server.store.queries import claims, lanes, registry

_NOTHING = Serves([], drain=False)


class Hands(Protocol):
    """Takes runs out of the hands of workers; the sweeper does."""

    async def release(self, namespace: str, workers: list[str], *, by: Departure) -> int:
        """Queue again what these workers hold; how many runs that are."""

    async def gone(self, namespace: str, workers: list[str], *, by: Departure) -> int:
        """The same, of workers that are forgotten."""

    def hurry(self) -> None:
        """Sweep soon."""


class Here(NamedTuple):
    """A worker that registers: where it is, and what it carries. `number` counts its registrations; 0 counts none."""

    pool: str
    build: str | None
    pod: str | None
    concurrency: int
    versions: list[tuple[str, str]]
    number: int
    schemas: Sequence[tuple[str, str, str, str, str]] = ()
    """What its events accept, as `event_schemas` registers it."""


class Beat(NamedTuple):
    """What a worker is told at a heartbeat; not `known`: its lease lapsed, and its runs are others' now."""

    known: bool
    serves: Serves
    pending: list[UUID]
    """Its runs for which something came in that it has not said to have seen."""


class ReplayPage(NamedTuple):
    """A page of what comes with a run: numbered chunks of history, inbox items, and whether there is more."""

    chunks: list[tuple[int, str]]
    items: list[Item]
    more: bool


class Asked(NamedTuple):
    """How a worker holds a run, and up to which inbox item it has seen what came in."""

    epoch: int
    seen: int


class Inbox(NamedTuple):
    """How it is with each run that was asked after, and what came in for those that the worker holds still; `more` where it is cut."""

    held: dict[UUID, Holding]
    items: dict[UUID, list[Item]]
    more: bool


class Sessions:
    """Made by the engine, lives as long as it does. `vital` are the connections of heartbeats, which wait for nothing else."""

    def __init__(self, pool: Pool, vital: Pool, workers: Registry, *, hands: Hands, announce: Callable[[], None]) -> None:
        self._pool = pool
        self._vital = vital
        self._registry = workers
        self._hands = hands
        self._announce = announce

    async def register(self, worker: WorkerKey, here: Here) -> Serves:
        """A worker is here, with what it carries; what it is to do."""
        if await self._is_late(worker, here.number):
            known = await self._registry.carrier(*worker)
            return self._registry.serves(known[1], drain=known[1].draining) if known is not None else _NOTHING
        # What it held in its life before it has dropped, and would keep from being found.
        await self._hands.release(worker.namespace, [worker.worker], by=QueuedBy.LOST)
        serves = await self._registry.register(*worker, **here._asdict())
        self._announce()
        if self._registry.unfinished:
            self._hands.hurry()
        return serves

    async def heartbeat(self, worker: WorkerKey, *, active: int) -> Beat:
        """A worker lives."""
        namespace, name = worker
        async with self._vital.acquire() as db:
            draining = await registry.heartbeat(db, namespace=namespace, worker=name, active=active)
            pending = [] if draining is None else await registry.inbox_pending(db, namespace=namespace, worker=name)
        known = None if draining is None else await self._registry.carrier(namespace, name)
        serves = self._registry.serves(known[1], drain=bool(draining)) if known is not None else _NOTHING
        return Beat(known is not None, serves, pending)

    async def replay(self, worker: WorkerKey, run: UUID, *, epoch: int, chunk: int, item: int, inbox_seq: int) -> ReplayPage | None:
        """What comes with a run behind that chunk and item; None if the worker does not hold the run any more."""
        async with self._pool.acquire() as db:
            if not (await claims.held(db, [(run, epoch)], worker=worker))[run].still:
                return None
            return ReplayPage(*await claims.replay_page(db, run, chunk=chunk, item=item, inbox_seq=inbox_seq))

    async def inbox(self, worker: WorkerKey, asked: Mapping[UUID, Asked]) -> Inbox:
        """What came in for runs since the worker last looked."""
        async with self._pool.acquire() as db:
            held = await claims.held(db, [(run, how.epoch) for run, how in asked.items()], worker=worker)
            seen = [(run, how.seen, worker.namespace) for run, how in asked.items() if held[run].still]
            found, more = await lanes.inbox_after(db, seen) if seen else ({}, False)
            # Not what this answer tells, for it may be lost: what the worker says that it has read.
            if acked := [(run, number) for run, number, _ in seen if number > held[run].inbox_acked_seq]:
                await claims.ack_inbox(db, acked)
        return Inbox(held, found, more)

    async def deregister(self, worker: WorkerKey, *, until: int | None) -> None:
        """A worker ends in order, unless it has registered since with a number above `until`; what it still holds goes back to the queue."""
        namespace, name = worker
        async with self._pool.acquire() as db:
            removed = await registry.remove_worker(db, namespace=namespace, worker=name, until=until)
            # Where it was not removed, it has registered since, or somebody has said before that it is gone: then what it holds is sought once more.
            came_back = not removed and await registry.is_registered(db, namespace=namespace, worker=name)
        if not came_back:
            await self._hands.gone(namespace, [name], by=QueuedBy.RELEASED)

    async def drain(self, worker: WorkerKey, *, drain: bool) -> bool:
        """Let a worker claim no more, or again; whether it is known."""
        async with self._pool.acquire() as db:
            known = await registry.drain(db, namespace=worker.namespace, worker=worker.worker, drain=drain)
        if known:
            await self._registry.renew()
            self._announce()
        return known

    async def lose(self, worker: WorkerKey) -> int | None:
        """A worker is gone for good: how many runs move now; None if it is not known."""
        async with self._pool.acquire() as db:
            known = await registry.remove_worker(db, namespace=worker.namespace, worker=worker.worker)
        return await self._move(worker.namespace, [worker.worker]) if known else None

    async def lose_pod(self, namespace: str, pod: str) -> int | None:
        """A pod is gone for good, and all its workers with it: how many runs move now; None if no worker of it is known."""
        async with self._pool.acquire() as db:
            workers = await registry.remove_pod(db, namespace=namespace, pod=pod)
        return await self._move(namespace, workers) if workers else None

    async def _move(self, namespace: str, workers: Sequence[str]) -> int:
        self._announce()
        return await self._hands.gone(namespace, list(workers), by=QueuedBy.LOST)

    async def _is_late(self, worker: WorkerKey, number: int) -> bool:
        """Whether the worker has registered since, or this is a repetition: it must not lose what it holds."""
        if number == 0:
            return False
        async with self._pool.acquire() as db:
            return await registry.registered_no(db, namespace=worker.namespace, worker=worker.worker) >= number
