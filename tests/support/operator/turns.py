"""Turns of the operator over a small Kubernetes API: the real shells and plans, and a server that only keeps what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiki_operator.kubernetes.cache import ClusterCache, Key
from aiki_operator.kubernetes.client import Cluster
from aiki_operator.names import POOL_LABEL
from aiki_operator.process.app import WATCHED
from aiki_operator.reconcile.access import ServerAccess
from aiki_operator.reconcile.environment import EnvironmentDigests
from aiki_operator.reconcile.installation_marks import InstallationMarks
from aiki_operator.reconcile.pool import PoolReconciler
from aiki_operator.reconcile.server import ServerReconciler
from aiki_operator.reconcile.write.writer import ClusterWriter
from aiki_operator.scaling.load import EMPTY_LOAD, BuildLoad, Load
from aiki_operator.server_api import ServerApi, ServerApiError
from aiki_operator.spec.pool import parse_pool
from aiki_operator.spec.server import Allowed
from support.operator.fake_kubernetes import FakeKubernetes
from support.operator.objects import build_load, load, pool_body, worker

SERVER, POOL = Key("AikiServer", "shop", "aiki"), Key("AikiWorkerPool", "shop", "onboarding")
READY = {"conditions": [{"type": "Ready", "status": "True"}]}
BUILD = parse_pool(pool_body()).build


def reading(*pods: str, build: str = BUILD, active: int = 0, draining: bool = False, more: tuple[BuildLoad, ...] = ()) -> Load:
    workers = tuple(worker(name, build=build, active=active, draining=draining) for name in pods)
    return load(build_load(build, running=active * len(pods), busy_workers=len(pods) if active else 0), *more, workers=workers)


class Orders(ServerApi):
    """Keeps what the server is told."""

    def __init__(self) -> None:
        self.given: list[tuple[str, ...]] = []
        self.refuses_shares = False

    async def set_versioning(self, pool: str, versioning: str) -> None:
        self.given.append(("versioning", pool, versioning))

    async def promote(self, pool: str, build: str) -> None:
        self.given.append(("promote", pool, build))

    async def share(self, pool: str, build: str, percent: int) -> None:
        if self.refuses_shares:
            raise ServerApiError("ServerError", "PUT share: the server answers 404")
        self.given.append(("share", pool, build, str(percent)))

    async def unshare(self, pool: str, build: str) -> None:
        self.given.append(("unshare", pool, build))

    async def forget(self, pool: str, build: str) -> bool:
        self.given.append(("forget", pool, build))
        return True

    async def drain(self, worker: str, drain: bool) -> None:
        self.given.append(("drain" if drain else "undrain", worker))

    async def worker_lost(self, worker: str) -> None:
        self.given.append(("lost", worker))


class Clock:
    """A monotonic clock that tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


ACCESS = ServerAccess("http://aiki.shop.svc:8080", {"default": "t0ken", "team-a": "other"}, Allowed())
"""The way to the server that turns of the pool are given."""


class Operator:
    """One operator: what it knows is lost with it."""

    def __init__(
        self, kubernetes: FakeKubernetes, cluster: Cluster, *, name: str = "shop/aiki-operator", namespaces: tuple[str, ...] = ()
    ) -> None:
        self.kubernetes = kubernetes
        self.cluster = cluster
        self.namespaces = namespaces
        self.store = ClusterCache()
        for body in kubernetes.objects.values():
            self.see(body)
        kubernetes.watcher = self.see
        self.clock = Clock()
        writer = ClusterWriter(cluster, self.store, self.clock)
        environment = EnvironmentDigests(cluster, self.clock)
        self.servers = ServerReconciler(
            cluster,
            self.store,
            writer,
            environment,
            postgres_image="example.com/aiki-postgres:1",
            default_image="example.com/aiki-server:1",
            marks=InstallationMarks(name, self.clock, namespaces=namespaces),
            clock=self.clock,
        )
        self.pools = PoolReconciler(cluster, self.store, writer, environment)
        self.orders = Orders()

    def see(self, body: Mapping[str, Any]) -> None:
        if body["kind"] in WATCHED and (not self.namespaces or body["metadata"]["namespace"] in self.namespaces):
            self.store.put(body)

    async def server(self) -> list[tuple[str, str]]:
        """A round for the server; the writes that it took."""
        before = len(self.kubernetes.writes)
        await self.servers.reconcile(SERVER)
        return self.kubernetes.writes[before:]

    async def pool(self, answer: Load = EMPTY_LOAD, *, access: ServerAccess | None = ACCESS) -> list[tuple[str, str]]:
        """A turn for the pool; the writes that it took."""
        before = len(self.kubernetes.writes)
        holders = self.pools.holders(self.pools.of_server(SERVER))
        await self.pools.turn(POOL, lambda _: answer, holders=holders, control=self.orders, access=access)
        return self.kubernetes.writes[before:]

    async def server_until_ready(self) -> None:
        for _ in range(6):
            await self.server()
            settle(self.kubernetes)


def settle(kubernetes: FakeKubernetes) -> None:
    """What Kubernetes' own controllers would do for the server's objects."""
    for where, body in list(kubernetes.objects.items()):
        if body["kind"] == "StatefulSet" and "status" not in body:
            kubernetes.status(where, readyReplicas=1)
        if body["kind"] == "Job" and "status" not in body:
            kubernetes.status(where, conditions=[{"type": "Complete", "status": "True"}])
        if body["kind"] == "Deployment":
            counts = dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas"), body["spec"]["replicas"])
            kubernetes.status(where, **counts, observedGeneration=body["metadata"]["generation"])


def start_pods(kubernetes: FakeKubernetes) -> list[str]:
    """A ready pod for each that the pool's Deployments ask for; their names."""
    made = []
    for body in kubernetes.of("Deployment"):
        labels = body["spec"]["template"]["metadata"]["labels"]
        for number in range(body["spec"]["replicas"] if POOL_LABEL in labels else 0):
            made.append(f"{body['metadata']['name']}-{number}")
            kubernetes.put({"kind": "Pod", "metadata": {"name": made[-1], "namespace": "shop", "labels": labels}, "status": READY})
    return made


def ready(kubernetes: FakeKubernetes, key: Key) -> tuple[str, str]:
    """Status and reason of Ready."""
    found = next(one for one in kubernetes.objects[key]["status"]["conditions"] if one["type"] == "Ready")
    return found["status"], found["reason"]


def condition(kubernetes: FakeKubernetes, key: Key, name: str) -> dict[str, Any]:
    """A condition of a custom resource."""
    found: dict[str, Any] = next(one for one in kubernetes.objects[key]["status"]["conditions"] if one["type"] == name)
    return found


def patch(kubernetes: FakeKubernetes, key: Key, **spec: Any) -> None:
    """Changes the spec of a custom resource, as `kubectl patch --type=merge` does."""
    body = kubernetes.objects[key]
    meta = {**body["metadata"], "generation": body["metadata"]["generation"] + 1}
    kubernetes.put({**body, "metadata": meta, "spec": {**body["spec"], **spec}})
