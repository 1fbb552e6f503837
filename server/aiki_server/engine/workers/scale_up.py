"""Telling the operator at once that work arrived at a pool that has no free slot; otherwise it looks once a second anyway.

Kept per pool as a mark that the next long poll takes away. Replicas hear of each other's by Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiki_server.engine.redis.listener import WAKE
from aiki_server.engine.redis.notifier import Doorbell
from aiki_server.engine.workers.registry import Registry


class Wakes:
    """`queued` marks pools; `wait` takes the marks of a namespace."""

    def __init__(self, registry: Registry, doorbell: Doorbell) -> None:
        self._registry = registry
        self._doorbell = doorbell
        self._marked: dict[str, set[str]] = {}
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._draining = False

    def queued(self, places: Iterable[tuple[str, str, str, str, str | None]]) -> None:
        """Runs were queued at these places."""
        for namespace, pool in {(place[0], place[1]) for place in places}:
            if self._registry.free_slots(namespace, pool) == 0 and self._mark(namespace, pool):
                self._doorbell.publish(WAKE, f"{namespace}:{pool}")

    def heard(self, message: str) -> None:
        """Another replica (or this one) says so; it counts if there is such a pool."""
        namespace, _, pool = message.partition(":")
        if self._registry.serving.knows(namespace, pool):
            self._mark(namespace, pool)

    async def wait(self, namespace: str, *, seconds: float) -> list[str]:
        """The marked pools as soon as there are any; none at the deadline."""
        if not self._marked.get(namespace) and not self._draining:
            woken = asyncio.Event()
            waiting = self._waiting.setdefault(namespace, set())
            waiting.add(woken)
            try:
                async with asyncio.timeout(seconds):
                    await woken.wait()
            except TimeoutError:
                return []
            finally:
                waiting.discard(woken)
        return sorted(self._marked.pop(namespace, set()))

    def drain(self) -> None:
        """Let nobody wait any more: the process is about to end."""
        self._draining = True
        for waiting in self._waiting.values():
            for woken in waiting:
                woken.set()

    def _mark(self, namespace: str, pool: str) -> bool:
        """Mark a pool; whether it was not marked before. Where nobody ever asks, a mark costs no more than its name."""
        marked = self._marked.setdefault(namespace, set())
        if pool in marked:
            return False
        marked.add(pool)
        for woken in self._waiting.get(namespace, ()):
            woken.set()
        return True
