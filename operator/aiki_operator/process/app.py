"""The composition root: Lease, watches, loops, probes.

Only the holder of the Lease lists and watches. kopf keeps the watches alive and hands over what they say; the handlers
put it into the store and wake the loop that it concerns. They decide nothing, and kopf writes nothing: no finalizer and
no annotation of its own, so that objects can be deleted when the operator is gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import kopf

from aiki_operator.kubernetes.cache import ClusterCache, Key, differs_in_status_only, key_of, owner_of
from aiki_operator.kubernetes.client import Cluster, ClusterError
from aiki_operator.kubernetes.connection import connect, sign_in
from aiki_operator.manifests.pods.policy import TemplateGuard
from aiki_operator.names import API_VERSION, POOL_KIND, SELECTOR_OF_OURS, SERVER_KIND
from aiki_operator.process import probes
from aiki_operator.process.lease import LeaderLease
from aiki_operator.reconcile.environment import EnvironmentDigests
from aiki_operator.reconcile.installation_marks import InstallationMarks
from aiki_operator.reconcile.loop import Liveness, ServerLoops
from aiki_operator.reconcile.pool import PoolReconciler
from aiki_operator.reconcile.server import ServerReconciler
from aiki_operator.reconcile.write.writer import ClusterWriter
from aiki_operator.spec.owner import server_of

OURS = (SERVER_KIND, POOL_KIND)
RELIST_SECONDS = 300.0
LIST_AGAIN_SECONDS = 1.0
WATCHED = {
    SERVER_KIND: ("aiki.dev", "v1alpha1", "aikiservers"),
    POOL_KIND: ("aiki.dev", "v1alpha1", "aikiworkerpools"),
    "Deployment": ("apps", "v1", "deployments"),
    "StatefulSet": ("apps", "v1", "statefulsets"),
    "Job": ("batch", "v1", "jobs"),
    "Pod": ("", "v1", "pods"),
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """What the process is told by its environment. Without namespaces it serves the whole cluster."""

    namespaces: tuple[str, ...]
    own_namespace: str
    identity: str
    lease: str
    server_image: str
    postgres_image: str
    guard: TemplateGuard
    port: int
    log_level: str

    @classmethod
    def from_environment(cls) -> ProcessSettings:
        """Reads the environment, once."""
        env = os.environ
        return cls(
            namespaces=tuple(name for name in env.get("AIKI_NAMESPACES", "").split(",") if name),
            own_namespace=env.get("AIKI_OPERATOR_NAMESPACE", "default"),
            identity=env.get("AIKI_OPERATOR_POD", socket.gethostname()),
            lease=env.get("AIKI_OPERATOR_LEASE", "aiki-operator"),
            server_image=env.get("AIKI_SERVER_IMAGE", "aiki-server:latest"),
            postgres_image=env.get("AIKI_POSTGRES_IMAGE", "aiki-postgres:latest"),
            guard=TemplateGuard(
                _accounts(env.get("AIKI_OPERATOR_SERVICE_ACCOUNTS", "")), unsafe=env.get("AIKI_ALLOW_UNSAFE_TEMPLATES") == "1"
            ),
            port=int(env.get("AIKI_OPERATOR_PORT", "8081")),
            log_level=env.get("AIKI_LOG_LEVEL", "info"),
        )


def _accounts(text: str) -> frozenset[tuple[str, str]]:
    """`namespace/name,namespace/name` as pairs."""
    pairs = (one.partition("/") for one in text.split(",") if one)
    return frozenset((namespace, name) for namespace, _, name in pairs)


class Operator:
    """One replica of the operator."""

    def __init__(self, settings: ProcessSettings, cluster: Cluster, session: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._cluster = cluster
        self._store = ClusterCache()
        self._liveness = Liveness()
        writer = ClusterWriter(cluster, self._store, guard=settings.guard)
        environment = EnvironmentDigests(cluster)
        marks = InstallationMarks(f"{settings.own_namespace}/{settings.lease}", namespaces=settings.namespaces)
        servers = ServerReconciler(
            cluster,
            self._store,
            writer,
            environment,
            default_image=settings.server_image,
            postgres_image=settings.postgres_image,
            marks=marks,
        )
        self._loops = ServerLoops(self._store, servers, PoolReconciler(cluster, self._store, writer, environment), session, self._liveness)
        self._lease = LeaderLease(cluster, namespace=settings.own_namespace, name=settings.lease, identity=settings.identity)
        self._listed = False

    async def run(self) -> None:
        """Stands by, then leads, until a signal comes or the Lease is lost."""
        runner = await probes.serve(self._settings.port, last_beat=self._last_beat, ready=self._ready)
        try:
            await self._lease.acquire()
            await self._lead()
        finally:
            await self._lease.release()
            await runner.cleanup()

    async def _lead(self) -> None:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._lease.keep())]
            try:
                await self._list_patiently()
                tasks += [group.create_task(self._loops.run()), group.create_task(self._relist())]
                await self._watch(stop)
            finally:
                for task in tasks:
                    task.cancel()

    async def _list_patiently(self) -> None:
        """Until it succeeds: an API server that was given our CRDs a moment ago is not ready to list what they define."""
        while True:
            try:
                return await self._list()
            except ClusterError as error:
                log.warning("not listed", extra={"error": str(error)})
            self._liveness.beat()
            await asyncio.sleep(LIST_AGAIN_SECONDS)

    async def _list(self) -> None:
        """Everything that is there, before anything is decided: what is not known yet must not look absent."""
        for kind in WATCHED:
            for namespace in self._settings.namespaces or (None,):
                items, version = await self._cluster.list(kind, namespace, selector=_selector(kind))
                self._store.relist(kind, items, version, namespace=namespace)
        self._listed = True
        log.info("listed", extra={"objects": len(self._store)})

    async def _relist(self) -> None:
        while True:
            await asyncio.sleep(RELIST_SECONDS)
            await self._list_patiently()

    async def _watch(self, stop: asyncio.Event) -> None:
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        settings.scanning.disabled = True
        settings.batching.batch_window = 0.02
        settings.watching.reconnect_backoff = 1.0
        for kind, where in WATCHED.items():
            if (selector := _selector(kind)) is not None:
                settings.watching.label_selectors[where] = selector
        await kopf.operator(
            registry=self._registry(),
            settings=settings,
            identity=self._settings.identity,  # type: ignore[arg-type] # a NewType that kopf keeps to itself
            standalone=True,
            clusterwide=not self._settings.namespaces,
            namespaces=self._settings.namespaces,
            stop_flag=stop,
        )

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        async def login(**_: Any) -> kopf.ConnectionInfo:
            return await sign_in()

        kopf.on.login(registry=registry, id="login")(login)
        for kind, where in WATCHED.items():
            kopf.on.event(*where, registry=registry, id=f"see-{kind.lower()}")(self._seer(kind))
        return registry

    def _seer(self, kind: str) -> Any:
        api_version = API_VERSION if kind in OURS else ""

        async def see(event: kopf.RawEvent, **_: Any) -> None:
            body: dict[str, Any] = {"apiVersion": api_version, "kind": kind, **event["object"]}
            known = self._store.get(key_of(body))
            if event["type"] == "DELETED":
                self._store.drop(key_of(body))
            elif not self._store.put(body) or (kind in OURS and differs_in_status_only(known, body)):
                return
            for server in self._concerned(body):
                self._loops.wake(server, itself=kind == SERVER_KIND or owner_of(body) == server)

        return see

    def _concerned(self, body: dict[str, Any]) -> Iterable[Key]:
        """The AikiServer whose loop should look: its own, its pool's, or the owner's."""
        key, owner = key_of(body), owner_of(body)
        if key.kind == SERVER_KIND:
            return (key,)
        if key.kind == POOL_KIND:
            return (Key(SERVER_KIND, *server_of(body)),)
        if owner is not None and owner.kind == SERVER_KIND:
            return (owner,)
        server = (body["metadata"].get("labels") or {}).get("aiki.dev/server")
        return (Key(SERVER_KIND, key.namespace, server),) if server else ()

    def _last_beat(self) -> float:
        return max(self._liveness.at, self._lease.checked_at) if not self._lease.held else min(self._liveness.at, self._lease.checked_at)

    def _ready(self) -> bool:
        return self._listed or not self._lease.held


def _selector(kind: str) -> str | None:
    return None if kind in OURS else SELECTOR_OF_OURS


async def main(settings: ProcessSettings) -> None:
    """Runs one replica until SIGTERM or SIGINT."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):  # kopf takes the signals over while it runs
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(connect())
        servers = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        await Operator(settings, cluster, servers).run()
