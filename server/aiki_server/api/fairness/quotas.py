"""What one namespace may ask of a server, so that it cannot take from the others what they need.

Requests a second (a bucket that fills at that rate and holds two seconds of it; heartbeats are always let in), bytes that are read or answered at
the moment, listings at a time, workers, registered versions, open runs. Whoever asks for more is answered 429 with Retry-After, which clients and workers of
the SDK keep to. The figures are of one server: an installation of three lets three times as many requests in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from aiki_server.api.fairness.shares import Shares
from aiki_server.api.http.errors import ApiError
from aiki_server.engine.dispatch.routing import Version
from aiki_server.engine.service import Engine
from aiki_server.model.keys import PoolKey
from aiki_server.settings import Limits

BURST_SECONDS = 2.0
AT_A_TIME = 2
MOST_WAITING = 100
MOST_IN_TURN = 1_000
"""Requests of a namespace that wait for its turn at the loop; nothing of them but their heads has been read."""
OPEN_SECONDS = 30.0
"""For so long the number of open runs is believed; what this server starts meanwhile is added."""


@dataclass(slots=True)
class _Turns:
    """Some at a time; `taken` counts those that wait as well."""

    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_A_TIME))
    taken: int = 0


@dataclass(slots=True)
class _Usage:
    """Of one namespace. There are no more of these than namespaces with a token."""

    tokens: float
    filled_at: float
    listings: _Turns = field(default_factory=_Turns)
    bulk: _Turns = field(default_factory=_Turns)
    bytes: int = 0
    open_runs: int = 0
    counted_at: float = float("-inf")


class Quotas:
    """One per app."""

    def __init__(self, limits: Limits) -> None:
        self.refused = 0
        self.bytes = 0
        self.shares = Shares()
        self._limits = limits
        self._usages: dict[str, _Usage] = {}
        self._counting = asyncio.Lock()

    def admit(self, namespace: str) -> None:
        """Let one more request in, or raise ApiError (429)."""
        rate = self._limits.requests_per_second
        if not rate:
            return
        usage, now = self._usage(namespace), time.monotonic()
        usage.tokens = min(usage.tokens + (now - usage.filled_at) * rate, rate * BURST_SECONDS)
        usage.filled_at = now
        if usage.tokens < 1.0:
            raise self._too_much(f"This namespace may send {rate:,.0f} requests a second to one server.")
        usage.tokens -= 1.0

    def hold(self, namespace: str, size: int) -> None:
        """Take note of bytes that are in memory for a namespace until `drop`, or raise ApiError (429)."""
        usage = self._usage(namespace)
        if usage.bytes and usage.bytes + size > self._limits.namespace_bytes:
            raise self._too_much("This namespace has as many bytes under way as it may.")
        if self.bytes and self.bytes + size > self._limits.server_bytes:
            raise self._too_much("The server has as many bytes under way as it may.")
        usage.bytes += size
        self.bytes += size

    def drop(self, namespace: str, size: int) -> None:
        """They are gone."""
        self._usage(namespace).bytes -= size
        self.bytes -= size

    def listing(self, namespace: str) -> AbstractAsyncContextManager[None]:
        """A turn at what reads much: a few of a namespace at a time."""
        return self._turn(namespace, self._usage(namespace).listings, "listings")

    def bulk(self, namespace: str) -> AbstractAsyncContextManager[None]:
        """A turn at what writes much in a transaction of its own: a few of a namespace at a time."""
        return self._turn(namespace, self._usage(namespace).bulk, "batches and registrations")

    @asynccontextmanager
    async def _turn(self, namespace: str, turns: _Turns, what: str) -> AsyncIterator[None]:
        if turns.taken >= MOST_WAITING:
            raise self._too_much(f"This namespace has too many {what} under way.")
        turns.taken += 1
        try:
            async with turns.free:
                began = time.monotonic()
                try:
                    yield
                finally:
                    self.shares.charge(namespace, (time.monotonic() - began) / AT_A_TIME)
        finally:
            turns.taken -= 1

    def room_to_wait(self, waiting: int) -> None:
        """Whether one more request may wait for the turn of its namespace; raises ApiError (429)."""
        if waiting >= MOST_IN_TURN:
            raise self._too_much("This namespace asks for more than its part of the server while others ask as well.")

    def room_for_worker(
        self, engine: Engine, namespace: str, worker: str, versions: Iterable[Version], *, pool: str, build: str | None
    ) -> None:
        """Whether one more worker may register with these versions; raises ApiError (429)."""
        known = {key[1] for key in engine.registry.workers if key[0] == namespace}
        if worker not in known and len(known) >= self._limits.workers:
            raise self._too_much(f"This namespace has {len(known):,} workers, as many as it may.")
        registered = sum(len(entries) for key, entries in engine.registry.serving.by_workflow.items() if key[0] == namespace)
        new = set(versions) - engine.registry.serving.carries(namespace, pool, build)
        if new and registered + len(new) > self._limits.registrations:
            raise self._too_much(
                f"This namespace has registered {registered:,} versions of workflows, as many as it may. Delete builds that nobody needs."
            )

    def room_for_pool(self, engine: Engine, namespace: str, pool: str) -> None:
        """Whether one more pool may have settings; raises ApiError (429)."""
        settings = [key for key in engine.registry.serving.settings if key[0] == namespace]
        if len(settings) >= self._limits.registrations and PoolKey(namespace, pool) not in settings:
            raise self._too_much(f"This namespace has settings for {len(settings):,} pools, as many as it may.")

    async def room_for_runs(self, engine: Engine, namespace: str, count: int) -> None:
        """Whether so many more runs may be open; raises ApiError (429)."""
        most = self._limits.open_runs
        if not most:
            return
        usage = self._usage(namespace)
        if time.monotonic() - usage.counted_at > OPEN_SECONDS:
            async with self._counting:
                if time.monotonic() - usage.counted_at > OPEN_SECONDS:
                    usage.open_runs = await engine.looks.open_runs(namespace, most=most)
                    usage.counted_at = time.monotonic()
        if usage.open_runs + count > most:
            raise self._too_much(f"This namespace has {most:,} runs that have not ended, as many as it may.", seconds=OPEN_SECONDS)
        usage.open_runs += count

    def _usage(self, namespace: str) -> _Usage:
        usage = self._usages.get(namespace)
        if usage is None:
            full = self._limits.requests_per_second * BURST_SECONDS
            usage = self._usages[namespace] = _Usage(full, time.monotonic())
        return usage

    def _too_much(self, detail: str, *, seconds: float = 1.0) -> ApiError:
        self.refused += 1
        return ApiError(429, f"{detail} Try again later.", kind="too-many-requests", headers={"Retry-After": f"{seconds:.0f}"})
