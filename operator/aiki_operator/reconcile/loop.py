"""The operator's heartbeat: one loop for each AikiServer, a turn a second over its pools, at once when something happens.

A turn reads the server's loads once for all pools. A wake of the server, or an event of a watch, starts the next turn
early. One pool's trouble never holds up another's: each turn of each is a boundary that logs and goes on.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Mapping

import aiohttp

from aiki.shared.backoff import backoff_seconds
from aiki_operator.kubernetes.cache import ClusterCache, Key
from aiki_operator.kubernetes.client import ClusterError
from aiki_operator.plan.pool.state import NOT_ALLOWED, LoadUnavailable
from aiki_operator.reconcile.access import ServerAccess
from aiki_operator.reconcile.pool import LoadOf, PoolId, PoolReconciler
from aiki_operator.reconcile.queue import QueueFigures
from aiki_operator.reconcile.server import ServerReconciler
from aiki_operator.reporting.telemetry import FAILED_TURNS, TURNS, forget_figures
from aiki_operator.scaling.load import EMPTY_LOAD, Load
from aiki_operator.server_api import ServerApi, ServerApiError
from aiki_operator.spec.owner import server_of

TICK_SECONDS = 1.0
RESYNC_SECONDS = 20.0
"""How long a change of something that is not watched (a Secret) may go unnoticed."""
UNSETTLED_SECONDS = 3.0
"""The same while something is missing: it may be just that."""
SHORTEST_SECONDS = 0.1
"""Between the starts of two turns, whatever happens."""
WAKE_SECONDS = 30
AT_ONCE = 8
"""Pools of one server that are worked on side by side."""
LONGEST_PAUSE_SECONDS = 30.0
"""Between two turns over a key that fails."""

log = logging.getLogger(__name__)


class Liveness:
    """When the last turn of anything ended: what liveness means."""

    def __init__(self) -> None:
        self.at = time.monotonic()

    def beat(self) -> None:
        """A turn has ended."""
        self.at = time.monotonic()


class Failures:
    """Which keys failed lately, how often in a row, and until when they are left alone."""

    def __init__(self) -> None:
        self._until: dict[Key, tuple[float, int]] = {}

    def waits(self, key: Key) -> bool:
        """Whether it is too early for another try."""
        return key in self._until and time.monotonic() < self._until[key][0]

    async def guard(self, key: Key, work: Awaitable[None]) -> None:
        """Runs a turn; a failure is logged and makes the next one wait, longer each time."""
        try:
            await work
        except (ClusterError, ServerApiError) as error:
            log.warning("turn failed", extra={"kind": key.kind, "namespace": key.namespace, "object": key.name, "error": str(error)})
            self._fail(key)
        except Exception:
            log.exception("turn failed", extra={"kind": key.kind, "namespace": key.namespace, "object": key.name})
            self._fail(key)
        else:
            self._until.pop(key, None)

    def _fail(self, key: Key) -> None:
        FAILED_TURNS.labels(key.kind).inc()
        failures = self._until[key][1] + 1 if key in self._until else 1
        seconds = backoff_seconds(
            failures,
            random.random(),  # noqa: S311  jitter, not a secret
            base_seconds=TICK_SECONDS,
            max_seconds=LONGEST_PAUSE_SECONDS,
        )
        self._until[key] = (time.monotonic() + seconds, failures)


class AikiServerLoop:
    """One AikiServer and its pools."""

    def __init__(
        self, key: Key, servers: ServerReconciler, pools: PoolReconciler, session: aiohttp.ClientSession, liveness: Liveness
    ) -> None:
        self._key = key
        self._servers = servers
        self._pools = pools
        self._session = session
        self._liveness = liveness
        self._failures = Failures()
        self._woken = asyncio.Event()
        self._dirty = True
        self._reconciled_at = 0.0
        self._resync_seconds = RESYNC_SECONDS
        self._access: ServerAccess | None = None
        self._controls: dict[str, ServerApi] = {}
        self._queues = QueueFigures()
        self._loads: list[Load] = []
        """What the server said last of the pools of every Aiki namespace that answered."""
        self._answered: dict[str, float] = {}
        self._began = time.monotonic()

    def wake(self, *, server: bool = False) -> None:
        """Something happened: the next turn is now; with `server`, to the server's own objects."""
        self._dirty |= server
        self._woken.set()

    async def run(self) -> None:
        """Turns and wakes, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick())
            group.create_task(self._keep_wake_polls(group))

    async def _tick(self) -> None:
        while True:
            began = time.monotonic()
            self._woken.clear()
            with TURNS.time():
                await self._turn()
            self._liveness.beat()
            await asyncio.sleep(SHORTEST_SECONDS)
            await _wait(self._woken, TICK_SECONDS - (time.monotonic() - began))

    async def _turn(self) -> None:
        if await self._servers.yields(self._key):
            self._access, self._controls, self._dirty = None, {}, True
            await self._tell_stranded()
            return
        if (self._dirty or time.monotonic() - self._reconciled_at > self._resync_seconds) and not self._failures.waits(self._key):
            await self._failures.guard(self._key, self._reconcile())
        keys = self._pools.of_server(self._key)
        if not keys:
            self._loads = []
            return
        answers = await self._ask()
        # A pool that may not work here holds no name: it would keep it from the one that may.
        holders = self._pools.holders(key for key in keys if self._refusal(key) is None)
        limit = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for key in keys:
                group.create_task(self._pool(key, answers, holders, limit))

    async def _tell_stranded(self) -> None:
        """Another installation acts for the server. Pools that it does not see are told so."""
        for key in self._pools.of_server(self._key):
            if (conditions := self._servers.stranded(self._key, key.namespace)) is not None and not self._failures.waits(key):
                await self._failures.guard(key, self._pools.strand(key, conditions))

    async def _reconcile(self) -> None:
        self._dirty, failed = False, True
        try:
            outcome = await self._servers.reconcile(self._key, self._queues.members(self._key, self._loads))
            failed = False
        finally:
            self._dirty |= failed
        access, self._reconciled_at = outcome.access, time.monotonic()
        self._resync_seconds = RESYNC_SECONDS if outcome.settled else UNSETTLED_SECONDS
        if access is not None and access != self._access:
            self._controls = {name: ServerApi(self._session, access.url, token) for name, token in access.tokens.items()}
        self._access = access or self._access

    async def _ask(self) -> LoadOf:
        """The server's answer for each pool: one request for each Aiki namespace that a pool works in."""
        answers = {namespace: await self._ask_of(namespace) for namespace in sorted(self._pools.namespaces(self._key))}

        self._loads = [load for found in answers.values() if not isinstance(found, LoadUnavailable) for load in found.values()]

        def answer(place: PoolId) -> Load | LoadUnavailable:
            found = answers.get(place[0], {})
            return found if isinstance(found, LoadUnavailable) else found.get(place[1]) or EMPTY_LOAD

        return answer

    async def _ask_of(self, namespace: str) -> Mapping[str, Load] | LoadUnavailable:
        if self._access is None:
            return LoadUnavailable(self._silent_for(namespace), "ServerNotReady", "the server has no Secret for its workers yet")
        control = self._controls.get(namespace)
        if control is None:
            message = f"AikiServer {self._key.name} has no Aiki namespace {namespace}: add it to its spec.namespaces, with the Secret of its token"
            return LoadUnavailable(self._silent_for(namespace), "NamespaceUnknown", message, lasting=True)
        try:
            loads = await control.loads(time.monotonic())
        except ServerApiError as error:
            return LoadUnavailable(self._silent_for(namespace), error.reason, str(error))
        self._answered[namespace] = time.monotonic()
        forgotten = self._pools.forget_builds(self._key, namespace, loads, control)
        await self._failures.guard(Key("forgotten builds", self._key.namespace, f"{self._key.name}/{namespace}"), forgotten)
        return loads

    def _silent_for(self, namespace: str) -> float:
        return time.monotonic() - self._answered.get(namespace, self._began)

    async def _pool(self, key: Key, answers: LoadOf, holders: Mapping[PoolId, Key], limit: asyncio.Semaphore) -> None:
        async with limit:
            if self._failures.waits(key):
                return
            access, control = self._access, self._controls.get(self._pools.namespace(key))
            if (refusal := self._refusal(key)) is not None:
                answers, holders, access, control = _all(refusal), {}, None, None
            await self._failures.guard(key, self._pools.turn(key, answers, holders=holders, control=control, access=access))

    def _refusal(self, key: Key) -> LoadUnavailable | None:
        """Why a pool of another Kubernetes namespace gets nothing of this server; None where it does."""
        if self._access is None or key.namespace == self._key.namespace:
            return None
        allowed, wanted = self._access.allowed, self._pools.namespace(key)
        if not allowed.admits(key.namespace):
            return _not_allowed(self._key, key.namespace)
        return None if allowed.opens(key.namespace, wanted) else _not_opened(self._key, key.namespace, wanted)

    async def _keep_wake_polls(self, group: asyncio.TaskGroup) -> None:
        """Keeps a long poll for each Aiki namespace that a pool works in."""
        polls: dict[str, asyncio.Task[None]] = {}
        while True:
            wanted = self._pools.namespaces(self._key)
            for namespace in wanted - polls.keys():
                polls[namespace] = group.create_task(self._poll_wakes(namespace))
            for namespace in polls.keys() - wanted:
                polls.pop(namespace).cancel()
            await asyncio.sleep(TICK_SECONDS)

    async def _poll_wakes(self, namespace: str) -> None:
        """Long polls of the server: work has come to a pool without a free slot."""
        while True:
            control = self._controls.get(namespace)
            if control is None:
                await asyncio.sleep(TICK_SECONDS)
                continue
            try:
                if await control.wait_for_work(WAKE_SECONDS):
                    self._woken.set()
                    await asyncio.sleep(SHORTEST_SECONDS)
            except ServerApiError:
                # The turns ask the same server every second and say what is wrong with it.
                await asyncio.sleep(TICK_SECONDS)


def _not_allowed(server: Key, namespace: str) -> LoadUnavailable:
    message = (
        f"AikiServer {server.name} of namespace {server.namespace} admits no pools of namespace {namespace}: "
        f"add it to the server's spec.allowedNamespaces"
    )
    return LoadUnavailable(0.0, NOT_ALLOWED, message, lasting=True)


def _not_opened(server: Key, namespace: str, wanted: str) -> LoadUnavailable:
    message = (
        f"AikiServer {server.name} of namespace {server.namespace} gives pools of namespace {namespace} no token of the Aiki namespace "
        f"{wanted}: give the pool another spec.namespace, or add {namespace} to poolNamespaces of {wanted} in the server's spec.namespaces"
    )
    return LoadUnavailable(0.0, "NotAllowed", message, lasting=True)


class ServerLoops:
    """A loop for each AikiServer that there is, and a turn now and then for pools whose server there is not."""

    def __init__(
        self, store: ClusterCache, servers: ServerReconciler, pools: PoolReconciler, session: aiohttp.ClientSession, liveness: Liveness
    ) -> None:
        self._store = store
        self._servers = servers
        self._pools = pools
        self._session = session
        self._liveness = liveness
        self._loops: dict[Key, tuple[AikiServerLoop, asyncio.Task[None]]] = {}
        self._woken = asyncio.Event()
        self._failures = Failures()

    def wake(self, server: Key, *, itself: bool) -> None:
        """Something of a server, or of one of its pools, has changed."""
        if server in self._loops:
            self._loops[server][0].wake(server=itself)
        else:
            self._woken.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._woken.clear()
                self._match(group)
                self._pools.prune()
                await self._orphans()
                self._liveness.beat()
                await _wait(self._woken, TICK_SECONDS)

    def _match(self, group: asyncio.TaskGroup) -> None:
        wanted = {Key("AikiServer", body["metadata"]["namespace"], body["metadata"]["name"]) for body in self._store.all("AikiServer")}
        for key in wanted - self._loops.keys():
            loop = AikiServerLoop(key, self._servers, self._pools, self._session, self._liveness)
            self._loops[key] = (loop, group.create_task(loop.run()))
        for key in self._loops.keys() - wanted:
            self._loops.pop(key)[1].cancel()
            forget_figures(*key)

    async def _orphans(self) -> None:
        for body in self._store.all("AikiWorkerPool"):
            meta, (namespace, server) = body["metadata"], server_of(body)
            key = Key("AikiWorkerPool", meta["namespace"], meta["name"])
            if Key("AikiServer", namespace, server) in self._loops or self._failures.waits(key):
                continue
            message = f"there is no AikiServer {server} in namespace {namespace}: `kubectl get aikiservers -n {namespace}`"
            answers = _all(LoadUnavailable(0.0, "ServerNotFound", message, lasting=True))
            await self._failures.guard(key, self._pools.turn(key, answers, holders={}, control=None, access=None))


def _all(silence: LoadUnavailable) -> LoadOf:
    return lambda _: silence


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Until the event, or until the time is over."""
    try:
        await asyncio.wait_for(event.wait(), max(0.0, seconds))
    except TimeoutError:
        return
