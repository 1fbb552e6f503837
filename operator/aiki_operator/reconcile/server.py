"""The shell around plan.server: reads what is there, acts, and keeps the way to each server."""

from __future__ import annotations

import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiki_operator.kubernetes.cache import ClusterCache, Key
from aiki_operator.kubernetes.client import Cluster
from aiki_operator.manifests.pods.references import Reference
from aiki_operator.manifests.secret import decode, tokens_name
from aiki_operator.names import BUILD_LABEL, COMPONENT, DELETION_COST, client_secret, worker_secret
from aiki_operator.plan import pods
from aiki_operator.plan.rejection import Rejection, after
from aiki_operator.plan.server import credentials
from aiki_operator.plan.server import plan as planning
from aiki_operator.plan.server.backup import BackupStatus
from aiki_operator.plan.server.migration import endings
from aiki_operator.plan.server.restore import COMPONENTS as RESTORE_COMPONENTS
from aiki_operator.reconcile.access import ServerAccess
from aiki_operator.reconcile.environment import EnvironmentDigests
from aiki_operator.reconcile.installation_marks import InstallationMarks
from aiki_operator.reconcile.named_objects import NamedObjects, ours
from aiki_operator.reconcile.write.writer import ClusterWriter
from aiki_operator.reporting.conditions import Condition, Notice, elsewhere
from aiki_operator.reporting.telemetry import BACKUP_OLDEST, BACKUP_SUCCESS, YIELDS
from aiki_operator.spec.server import ManagedDatabase, SecretKey, ServerSpec, parse_server

Json = Mapping[str, Any]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RoundOutcome:
    """What a round has led to: the way to the server, where there is one, and whether everything is as it should be."""

    access: ServerAccess | None
    settled: bool


@dataclass(frozen=True, slots=True)
class RoundWrites:
    """What was done: whether anything was written, or was to be, and what the API server did not take."""

    written: bool
    refused: list[Rejection]


class ServerReconciler:
    """Reconciles AikiServers."""

    def __init__(
        self,
        cluster: Cluster,
        store: ClusterCache,
        writer: ClusterWriter,
        environment: EnvironmentDigests,
        *,
        default_image: str,
        postgres_image: str,
        marks: InstallationMarks,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._writer = writer
        self._environment = environment
        self._default_image = default_image
        self._named_objects = NamedObjects(cluster, clock)
        self._postgres_image = postgres_image
        self._marks = marks
        self._yielded: dict[Key, str] = {}

    async def yields(self, key: Key) -> bool:
        """Whether another installation acts for the server and its pools; says so when that begins."""
        body = self._store.get(key)
        if body is None:
            self._marks.forget(key)
            self._named_objects.forget(key)
            self._yielded.pop(key, None)
            return False
        other = self._marks.other(body)
        YIELDS.labels(key.namespace, key.name).set(int(other is not None))
        if other is None:
            self._yielded.pop(key, None)
        elif self._yielded.get(key) != other:
            self._yielded[key] = other
            await self._writer.event(body, _yielding(other, self._marks.name, key.namespace))
        return other is not None

    def stranded(self, key: Key, namespace: str) -> tuple[Condition, ...] | None:
        """What a pool in a Kubernetes namespace is told that the installation which acts for its server does not serve; None if it does."""
        body = self._store.get(key)
        other = None if body is None else self._marks.other(body)
        if body is None or other is None or self._marks.serves(body, namespace):
            return None
        return elsewhere(f"{key.namespace}/{key.name}", other, self._marks.name, namespace)

    async def reconcile(self, key: Key, queue: Mapping[str, Any] | None = None) -> RoundOutcome:
        """One round for one server; `queue` is what its status is to say of the runs that wait."""
        body = self._store.get(key)
        if body is None or "deletionTimestamp" in body["metadata"]:
            return RoundOutcome(None, settled=True)
        spec = parse_server(body, default_image=self._default_image, postgres_image=self._postgres_image)
        observed = await self._observe(key, spec, body)
        plan = planning.plan(spec, observed, password=secrets.token_hex(32), now=time.time())
        done = await self._act(key, observed, plan)
        conditions = after(plan.conditions, done.refused, body)
        status = {
            "replicas": spec.replicas,
            "readyReplicas": plan.ready_replicas,
            "pods": f"{plan.ready_replicas}/{spec.replicas}",
            **(queue or {}),
            "url": plan.url,
            "image": plan.image,
            "clientSecret": client_secret(key.name),
            "operator": self._marks.mark(body),
            "volumes": plan.volumes,
            **_backup_status(key, plan.backups),
        }
        await self._writer.status(self._store.get(key) or body, status, conditions)
        settled = all(one.status for one in conditions if one.type == "Ready")
        if done.written or not settled:
            self._named_objects.forget(key)
        return RoundOutcome(await self._access(key, spec, {} if done.written else observed.secrets), settled=settled)

    async def _observe(self, key: Key, spec: ServerSpec, body: Json) -> planning.ObservedServer:
        found = {name: await self._cluster.get("Secret", key.namespace, name) for name in credentials.secret_names(spec)}
        named = await self._named_objects.of(key, spec, beside=_has_backups(spec, body))
        objects: dict[tuple[str, str], Json] = {
            ("Secret", name): secret for name, secret in found.items() if secret is not None and ours(secret, key)
        }
        for kind in ("StatefulSet", "Deployment", "Job"):
            objects |= {(kind, one["metadata"]["name"]): one for one in self._store.owned(key, kind)}
        objects |= named.objects
        there = {name: one for name, one in found.items() if one is not None}
        token = credentials.value(there, credentials.token_key(spec)) or ""
        contents = await self._environment.digests(key.namespace, sorted(planning.reads(spec, there)), key=token)
        now, members = time.time(), self._store.owned(key, "Pod")
        components: defaultdict[str, list[pods.Pod]] = defaultdict(list)
        for pod in members:
            component = pod["metadata"]["labels"].get(COMPONENT, "")
            components[component].append(pods.view(pod, build_label=BUILD_LABEL, cost_annotation=DELETION_COST, now=now))
        return planning.ObservedServer(
            there,
            objects,
            {component: tuple(found) for component, found in components.items()},
            self._writer.admitted(key),
            endings(of(members, "migration")),
            await self._without_pods(key, objects, members),
            {one["type"]: one for one in body.get("status", {}).get("conditions") or ()},
            named.claims,
            contents,
            await self._database_contents(key, spec, there),
            {part: endings(of(members, part), part) for part in ("backup", *RESTORE_COMPONENTS)},
            body.get("status", {}).get("backup") or {},
        )

    async def _database_contents(self, key: Key, spec: ServerSpec, there: Mapping[str, Json]) -> dict[str, Mapping[Reference, str]]:
        """What the managed databases read besides, as digests that only their own passwords could be tried against."""
        found: dict[str, Mapping[Reference, str]] = {}
        for name, read in planning.database_reads(spec).items():
            if (password := credentials.value(there, SecretKey(name, "password"))) is not None:
                found[name] = await self._environment.digests(key.namespace, sorted(read), key=password)
        return found

    async def _without_pods(
        self, key: Key, objects: Mapping[tuple[str, str], Json], members: Sequence[Json]
    ) -> dict[tuple[str, str], pods.PodProblem]:
        """Why a StatefulSet or Job has no pod: their controllers say that in events only, which are read where there is none."""
        found = {}
        for (kind, name), body in objects.items():
            component = (body["metadata"].get("labels") or {}).get(COMPONENT)
            if not pods.lacks_pods(kind, body) or any(pod["metadata"]["labels"].get(COMPONENT) == component for pod in members):
                continue
            fields = f"involvedObject.kind={kind},involvedObject.name={name},reason=FailedCreate"
            events, _ = await self._cluster.list("Event", key.namespace, fields=fields)
            if (trouble := pods.not_created(events, body)) is not None:
                found[kind, name] = trouble
        return found

    async def _act(self, key: Key, observed: planning.ObservedServer, plan: planning.ServerPlan) -> RoundWrites:
        """Does what the plan says. What the API server did not take keeps nothing else from being done."""
        refused: list[Rejection | None] = []
        written = bool(plan.create or plan.delete)
        for manifest in plan.create:
            created = await self._writer.create(manifest)
            if created is True:
                log.info("secret generated", extra={"namespace": key.namespace, "object": manifest["metadata"]["name"]})
            refused.append(created if isinstance(created, Rejection) else None)
        for kind, name in plan.delete:
            seen = observed.claims.get(name) if kind == "PersistentVolumeClaim" else None
            refused.append(await self._writer.delete(Key(kind, key.namespace, name), seen=seen))
        if plan.finish is not None:
            refused.append(await self._writer.finish(Key("Job", key.namespace, plan.finish)))
        for manifest in plan.apply:
            outcome = await self._writer.apply(manifest, live=observed.objects.get((manifest["kind"], manifest["metadata"]["name"])))
            if outcome is not None:
                written = True
                refused.append(outcome.rejection)
        return RoundWrites(written, [one for one in refused if one is not None])

    async def _access(self, key: Key, spec: ServerSpec, known: Mapping[str, Json]) -> ServerAccess | None:
        """The way to the server, once its Secrets are there; `known` are those that were read in this round and are still so."""
        found = [known.get(name) or await self._cluster.get("Secret", key.namespace, name) for name in _ways(spec)]
        url, text = (decode(body or {}, member) for body, member in zip(found, ("AIKI_URL", "tokens"), strict=True))
        if not url or not text:
            return None
        pairs = (one.partition(":") for one in text.split(","))
        return ServerAccess(url, {namespace: token for namespace, _, token in pairs}, spec.allowed)


def _ways(spec: ServerSpec) -> tuple[str, str]:
    """The Secrets that hold the server's address and its tokens."""
    return worker_secret(spec.owner.name), tokens_name(spec.owner)


def _yielding(other: str, own: str, namespace: str) -> Notice:
    message = (
        f"the operator {other} acts for this AikiServer and its pools, so the operator {own} leaves them alone. Two installations serve "
        f"namespace {namespace}: take it out of operator.namespaces of one of them, set operator.clusterWide=false, or uninstall one"
    )
    return Notice("OtherOperator", message, warning=True)


def _backup_status(key: Key, told: BackupStatus) -> dict[str, Any]:
    """What the status says of the backups, and the figures with it."""
    for figure, at in ((BACKUP_SUCCESS, told.success_at), (BACKUP_OLDEST, told.oldest_at)):
        if at is None:
            figure.remove_by_labels({"namespace": key.namespace, "name": key.name})
        else:
            figure.labels(key.namespace, key.name).set(at)
    return {"backup": told.status()} if told.store else {}


def of(members: Sequence[Json], component: str) -> list[Json]:
    """The pods of a component."""
    return [pod for pod in members if pod["metadata"]["labels"].get(COMPONENT) == component]


def _has_backups(spec: ServerSpec, body: Json) -> bool:
    """Whether backups or a restore are asked for, or were when the status was written last."""
    status = body.get("status", {})
    was = any(one["type"] in ("BackupReady", "Restored") for one in status.get("conditions") or ())
    database = spec.database
    return was or (isinstance(database, ManagedDatabase) and (database.backup is not None or database.restore is not None))
