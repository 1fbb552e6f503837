"""The shell around plan.pool: one turn for one pool, from the store and the server's answer to actions and status."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiki_operator.kubernetes.cache import ClusterCache, Key
from aiki_operator.kubernetes.client import Cluster, ClusterError
from aiki_operator.manifests.choice import revealed
from aiki_operator.manifests.pods.references import Reference
from aiki_operator.manifests.worker import deployment_name
from aiki_operator.names import BUILD_LABEL, BUILD_SPEC_ANNOTATION, DEFAULT_NAMESPACE, DELETION_COST, POOL_LABEL
from aiki_operator.plan import pods
from aiki_operator.plan.pool import plan as planning
from aiki_operator.plan.pool.dead_workers import DeadWorker, Moment, Sighting, dead, update_sightings
from aiki_operator.plan.pool.drain import GOES_FIRST, STAYS
from aiki_operator.plan.pool.events import share_name
from aiki_operator.plan.pool.progress import RolloutStage, parse_progress
from aiki_operator.plan.pool.state import NOT_ALLOWED, DeployedBuild, LoadUnavailable, ObservedPool
from aiki_operator.plan.rejection import Rejection
from aiki_operator.reconcile.access import ServerAccess
from aiki_operator.reconcile.environment import EnvironmentDigests
from aiki_operator.reconcile.orders import Orders, TurnResult
from aiki_operator.reconcile.pool_objects import PoolObjects
from aiki_operator.reconcile.queue import QueueFigures
from aiki_operator.reconcile.write.writer import ClusterWriter
from aiki_operator.reporting.conditions import Condition, Notice, overruled, taken
from aiki_operator.reporting.telemetry import (
    DEAD_WORKERS,
    POOL_LAG,
    POOL_QUEUED,
    POOL_REPLICAS,
    POOL_RESIZED,
    POOL_ROLLOUT_HELD,
    POOL_ROLLOUT_PERCENT,
    POOL_RUNNING,
    POOL_UNSERVED,
    forget_figures,
)
from aiki_operator.scaling.load import Load
from aiki_operator.server_api import ServerApi
from aiki_operator.spec.owner import namespace_of, server_of
from aiki_operator.spec.pool import PoolSpec, parse_build, parse_pool

Json = Mapping[str, Any]

PoolId = tuple[str, str]
"""A pool at the server: its Aiki namespace and its name there."""

LoadOf = Callable[[PoolId], Load | LoadUnavailable]
"""What the server says of a pool."""

log = logging.getLogger(__name__)


class PoolReconciler:
    """Reconciles AikiWorkerPools."""

    def __init__(self, cluster: Cluster, store: ClusterCache, writer: ClusterWriter, environment: EnvironmentDigests) -> None:
        self._cluster = cluster
        self._store = store
        self._writer = writer
        self._memories: dict[Key, planning.PoolMemory] = {}
        self._reported: dict[Key, frozenset[str]] = {}
        self._environment = environment
        self._pool_objects = PoolObjects(cluster, writer)
        self._queues = QueueFigures()
        self._sightings: dict[Key, dict[str, Sighting]] = {}

    def of_server(self, server: Key) -> list[Key]:
        """The pools that work for a server."""
        found = self._store.all("AikiWorkerPool")
        return [
            Key("AikiWorkerPool", body["metadata"]["namespace"], body["metadata"]["name"])
            for body in found
            if server_of(body) == (server.namespace, server.name)
        ]

    def namespaces(self, server: Key) -> set[str]:
        """The Aiki namespaces that the server's pools work in."""
        return {namespace_of(body) for key in self.of_server(server) if (body := self._store.get(key)) is not None}

    def namespace(self, key: Key) -> str:
        """The Aiki namespace that a pool works in; the default one if the pool is gone."""
        body = self._store.get(key)
        return DEFAULT_NAMESPACE if body is None else namespace_of(body)

    def holders(self, keys: Iterable[Key]) -> dict[PoolId, Key]:
        """Who a pool's name at the server belongs to: the oldest that asks for it. Two would undo each other's builds."""
        found: dict[PoolId, tuple[str, Key]] = {}
        for key in keys:
            if (body := self._store.get(key)) is not None and "deletionTimestamp" not in body["metadata"]:
                name, since = _place(body), (str(body["metadata"].get("creationTimestamp")), key)
                found[name] = min(found.get(name, since), since)
        return {name: key for name, (_, key) in found.items()}

    async def forget_builds(self, server: Key, namespace: str, loads: Mapping[str, Load], control: ServerApi) -> None:
        """Pools that are deleted leave builds at the server: those that no run needs are forgotten there too."""
        wanted = {_place(body) for key in self.of_server(server) if (body := self._store.get(key)) is not None}
        for pool, load in loads.items():
            if (namespace, pool) not in wanted and not load.workers:
                for build in (build for build in load.builds if build.idle):
                    await control.forget(pool, build.name)

    def prune(self) -> None:
        """Forgets the pools that are gone, and their figures with them."""
        self._writer.prune()
        self._environment.sweep()
        for key in [key for key in self._memories if self._store.get(key) is None]:
            self._memories.pop(key)
            self._reported.pop(key, None)
            self._pool_objects.forget(key)
            self._queues.forget(key)
            self._sightings.pop(key, None)
            forget_figures(*key)

    async def strand(self, key: Key, conditions: Sequence[Condition]) -> None:
        """Tells a pool that nobody acts for it."""
        body = self._store.get(key)
        if body is not None and "deletionTimestamp" not in body["metadata"]:
            await self._writer.status(body, {}, conditions)

    async def turn(
        self, key: Key, answers: LoadOf, *, holders: Mapping[PoolId, Key], control: ServerApi | None, access: ServerAccess | None
    ) -> None:
        """One turn; `control` and `access` are None where there is no server to talk to."""
        body = self._store.get(key)
        if body is None or "deletionTimestamp" in body["metadata"]:
            return
        spec = parse_pool(body)
        if (holder := holders.get((spec.namespace, spec.pool), key)) != key:
            await self._writer.status(body, {}, taken(spec.pool, holder.name))
            return
        answer = answers((spec.namespace, spec.pool))
        refused: list[Rejection] = []
        config = None if access is None else await self._pool_objects.given(key, spec, access, refused)
        if isinstance(answer, LoadUnavailable) and answer.reason == NOT_ALLOWED:
            await self._pool_objects.withdraw(key, spec, refused)
        await self._pool_objects.budget(key, spec, refused)
        orders = Orders(control)
        if isinstance(answer, Load) and control is not None:
            await self._report_dead_workers(key, answer, orders)
        deployed = self._deployed(key, body)
        observed = ObservedPool(
            deployed,
            answer,
            config,
            body.get("status", {}).get("servingBuild"),
            await self._contents(key, [spec, *(build.spec for build in deployed)], access),
            time.time(),
            parse_progress(body.get("status", {}).get("rollout")),
        )
        plan, memory = planning.plan(spec, observed, self._memories.get(key, planning.PoolMemory()), time.monotonic())
        self._memories[key] = memory
        done = await self._act(key, spec, plan, orders)
        done.rejections += refused
        notices = [notice for notice in plan.notices if notice.about <= done.names]
        if plan.promote is not None and plan.promote not in done.names:
            plan = _unpromoted(plan, body)
        if plan.share is not None and share_name(*plan.share) not in done.names:
            plan = replace(plan, rollout=body.get("status", {}).get("rollout"))  # the step begins when the server knows of it
        for notice in notices:
            await self._writer.event(body, notice)
        status = {**_status(key, plan), **self._queues.members(key, [answer] if isinstance(answer, Load) else [])}
        await self._writer.status(self._store.get(key) or body, status, done.conditions(plan.conditions, orders.error, body))
        _measure(key, plan, answer, notices)

    async def _contents(self, key: Key, specs: list[PoolSpec], access: ServerAccess | None) -> dict[Reference, str]:
        """What the builds read besides the client Secret."""
        wanted = {reference for spec in specs for reference in planning.reads(spec)} if access is not None else set()
        return (
            await self._environment.digests(key.namespace, sorted(wanted), key=access.tokens[DEFAULT_NAMESPACE])
            if access is not None
            else {}
        )

    def _deployed(self, key: Key, body: Json) -> tuple[DeployedBuild, ...]:
        found = sorted(self._store.owned(key, "Deployment"), key=lambda one: str(one["metadata"]["creationTimestamp"]), reverse=True)
        now = time.time()
        members = [pods.view(pod, build_label=BUILD_LABEL, cost_annotation=DELETION_COST, now=now) for pod in self._store.owned(key, "Pod")]
        return tuple(self._build(body, one, members) for one in found if BUILD_SPEC_ANNOTATION in one["metadata"].get("annotations", {}))

    def _build(self, body: Json, workload: Json, members: list[pods.Pod]) -> DeployedBuild:
        name = workload["metadata"]["labels"][BUILD_LABEL]
        return DeployedBuild(
            parse_build(
                body, revealed(workload["metadata"]["annotations"][BUILD_SPEC_ANNOTATION], workload["spec"]["template"]["spec"]), name
            ),
            workload["spec"].get("replicas", 1),
            tuple(pod for pod in members if pod.build == name and not pod.ended),
            pods.refused(workload),
        )

    async def _act(self, key: Key, spec: PoolSpec, plan: planning.PoolPlan, orders: Orders) -> TurnResult:
        """Does what the plan says. What is refused keeps nothing else from being done."""
        done = TurnResult()
        if plan.versioning is not None:
            await orders.set_versioning(spec.pool, plan.versioning)
        held = await self._mark(key, plan, done)
        for manifest in plan.apply:
            if manifest["metadata"]["labels"][BUILD_LABEL] not in held:
                await self._apply(key, manifest, done)
        await self._hand_over(spec, plan, orders, done)
        for worker in plan.drain:
            if await orders.drain(worker, drain=True):
                done.names.add(worker)
        for worker in plan.undrain:
            await orders.drain(worker, drain=False)
        for build in plan.forget:
            if await orders.forget(spec.pool, build):
                rejection = await self._writer.delete(Key("Deployment", key.namespace, deployment_name(key.name, build)))
                done.rejections += [rejection] if rejection is not None else []
        return done

    async def _hand_over(self, spec: PoolSpec, plan: planning.PoolPlan, orders: Orders, done: TurnResult) -> None:
        """Tells the server which builds get new runs."""
        if plan.unshare is not None:
            await orders.unshare(spec.pool, plan.unshare)
        if plan.promote is not None and await orders.promote(spec.pool, plan.promote):
            done.names.add(plan.promote)
        if plan.share is not None and await orders.share(spec.pool, *plan.share):
            done.names.add(share_name(*plan.share))

    async def _mark(self, key: Key, plan: planning.PoolPlan, done: TurnResult) -> set[str]:
        """Tells Kubernetes which pods are to go first; the builds of which it could not be told, whose size must stay as it is."""
        held = set[str]()
        for pod, cost in {**dict.fromkeys(plan.unmark, STAYS), **dict.fromkeys(plan.mark, GOES_FIRST)}.items():
            place = Key("Pod", key.namespace, pod)
            rejection = await self._writer.annotate(place, {DELETION_COST: cost})
            if rejection is not None:
                done.rejections.append(rejection)
                body = self._store.get(place)
                held.add(body["metadata"]["labels"][BUILD_LABEL] if body is not None else "")
        return held

    async def _apply(self, key: Key, manifest: Json, done: TurnResult) -> None:
        live = self._store.get(Key("Deployment", key.namespace, manifest["metadata"]["name"]))
        outcome = await self._writer.apply(manifest, live=live)
        if outcome is None:
            return
        if outcome.rejection is not None:
            done.rejections.append(outcome.rejection)
        if outcome.replicas == manifest["spec"]["replicas"]:
            done.names.add(manifest["metadata"]["name"])

    async def _report_dead_workers(self, key: Key, load: Load, orders: Orders) -> None:
        """Tells the server which workers are dead. Each is told once; a pod that is gone is asked for before."""
        members = {pod["metadata"]["name"]: pod for pod in self._store.owned(key, "Pod")}
        now = Moment(time.monotonic(), time.time())
        sightings = self._sightings[key] = update_sightings(load.workers, members, self._sightings.get(key, {}), now)
        found = dead(load.workers, members, sightings, now)
        known = self._reported.get(key, frozenset())
        for one in found:
            if one.worker not in known and await self._is_dead(key, one):
                if not await orders.worker_lost(one.worker):
                    continue
                DEAD_WORKERS.labels(key.namespace, key.name).inc()
                log.info("worker lost", extra={"namespace": key.namespace, "pool": key.name, "worker": one.worker, "reason": one.why})
                # A pod that is gone has no second life: should its worker register once more before it ends, it is told again.
                known |= {one.worker} if one.pod is None else frozenset()
        self._reported[key] = known & {worker.id for worker in load.workers}

    async def _is_dead(self, key: Key, one: DeadWorker) -> bool:
        """A pod that the watch does not know may be one that it has missed."""
        if one.pod is None or self._store.get(Key("Pod", key.namespace, one.pod)) is not None:
            return True
        try:
            found = await self._cluster.get("Pod", key.namespace, one.pod)
        except ClusterError as error:
            log.warning("pod not read", extra={"namespace": key.namespace, "pod": one.pod, "error": str(error)})
            return False
        if found is not None:
            self._store.put({"apiVersion": "v1", "kind": "Pod", **found})
        return found is None


def _place(body: Json) -> PoolId:
    return namespace_of(body), str(body["spec"].get("pool") or body["metadata"]["name"])


def _status(key: Key, plan: planning.PoolPlan) -> dict[str, Any]:
    wanted, ready = (sum(build[count] for build in plan.builds) for count in ("replicas", "readyReplicas"))
    return {
        "replicas": wanted,
        "readyReplicas": ready,
        "pods": f"{ready}/{wanted}",
        "selector": f"{POOL_LABEL}={key.name}",
        "builds": list(plan.builds),
        **({} if plan.serving is None else {"servingBuild": plan.serving}),
        **({} if plan.rollout is None else {"rollout": plan.rollout}),
    }


def _unpromoted(plan: planning.PoolPlan, body: Json) -> planning.PoolPlan:
    """The plan as it is to be told where the server did not take the promotion: the build before it serves."""
    before = body.get("status", {})
    rollout = Condition("RolloutComplete", False, "Registering", f"build {plan.promote} is ready; the server has yet to hand over to it")
    conditions = overruled(plan.conditions, rollout, lasting=False)
    builds = tuple(before.get("builds", plan.builds))
    return replace(plan, serving=before.get("servingBuild"), builds=builds, rollout=before.get("rollout"), conditions=conditions)


def _measure(key: Key, plan: planning.PoolPlan, answer: Load | LoadUnavailable, notices: list[Notice]) -> None:
    POOL_REPLICAS.labels(key.namespace, key.name).set(sum(build["replicas"] for build in plan.builds))
    percent = plan.rollout["percent"] if plan.rollout is not None else 100 * (plan.builds[0]["state"] == "Serving")
    POOL_ROLLOUT_PERCENT.labels(key.namespace, key.name).set(percent)
    POOL_ROLLOUT_HELD.labels(key.namespace, key.name).set(plan.rollout is not None and plan.rollout["stage"] == RolloutStage.HELD)
    POOL_RESIZED.labels(key.namespace, key.name).inc(sum(1 for notice in notices if notice.reason.startswith("Scaled")))
    if isinstance(answer, Load):
        POOL_QUEUED.labels(key.namespace, key.name).set(answer.queued)
        POOL_RUNNING.labels(key.namespace, key.name).set(answer.running)
        POOL_UNSERVED.labels(key.namespace, key.name).set(sum(one.runs for one in answer.unserved if not one.servable))
        POOL_LAG.labels(key.namespace, key.name).set(-1 if answer.lag is None else answer.lag)
