"""What users ask for: the specs of AikiServer and AikiWorkerPool as values.

The CRDs' schemas have checked and defaulted what arrives here; the defaults are repeated so that objects written
before a field existed mean the same. Nothing behind this module reads a raw custom resource's spec.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from aiki_operator.names import CONTINUE, DEFAULT_NAMESPACE, digest, pool_secret, worker_secret
from aiki_operator.spec.backups import Backup, Restore, parse_backup, parse_restore
from aiki_operator.spec.exposure import Gateway, Ingress, Service, parse_gateway, parse_ingress, parse_service
from aiki_operator.spec.hours import MinimumWindow, parse_windows
from aiki_operator.spec.placement import FIELDS, Budget, Json, Spread, Template, parse_budget, parse_spread, parse_template
from aiki_operator.spec.steps import Rollout, parse_rollout

POSTGRES_IMAGE = "postgres:17"
"""The managed Postgres's image where the spec names none; it has no pgBackRest."""

CHOSEN = ("image", "command", "args", "env", "envFrom", "template")
"""The members of a pool's spec that make a build; everything else may change under running pods."""


REVISION_LIMIT = 2
"""One build to go back to, and the one before it. A Deployment keeps ten, but what is kept here stays registered at the server as well."""

SHARED = ("priorityClassName", "imagePullSecrets")
"""The members of a server's spec that hold for the pods of its managed databases as well."""


class DatabaseKind(StrEnum):
    """Who runs Postgres: we, someone else, or CloudNativePG."""

    MANAGED = "Managed"
    EXTERNAL = "External"
    CLOUD_NATIVE_PG = "CloudNativePG"


class RedisKind(StrEnum):
    """Who runs Redis: we (Valkey), or someone else."""

    MANAGED = "Managed"
    EXTERNAL = "External"


class DeletionPolicy(StrEnum):
    """What becomes of the volumes when the AikiServer is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


class Versioning(StrEnum):
    """Whether a new build takes over running work (ByVersion), or each run stays on its build (Pinned)."""

    BY_VERSION = "ByVersion"
    PINNED = "Pinned"


@dataclass(frozen=True, slots=True)
class Owner:
    """The custom resource that owns what is made for it."""

    kind: str
    name: str
    namespace: str
    uid: str
    generation: int


@dataclass(frozen=True, slots=True)
class SecretKey:
    """One value in a Secret of the same namespace."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class ManagedDatabase:
    """A managed Postgres or Valkey."""

    image: str
    storage_size: str
    storage_class: str | None
    deletion: DeletionPolicy
    resources: Json
    template: Template
    backup: Backup | None = None
    restore: Restore | None = None
    """What it begins with; these two are Postgres's alone."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """Which Kubernetes namespaces may have pools of an AikiServer beside its own; `names` is None if all may."""

    names: frozenset[str] | None = frozenset()
    homes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The Aiki namespaces that other Kubernetes namespaces have for themselves; all others have `default`."""

    @property
    def foreign(self) -> bool:
        """Whether any other namespace may."""
        return self.names is None or bool(self.names)

    def admits(self, namespace: str) -> bool:
        """Whether this other namespace may."""
        return self.names is None or namespace in self.names

    def opens(self, namespace: str, aiki_namespace: str) -> bool:
        """Whether its pools may work in this Aiki namespace. They are given its token, which reads all of its runs."""
        return aiki_namespace in self.homes.get(namespace, frozenset({DEFAULT_NAMESPACE}))


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """An AikiServer. Where `database` is a SecretKey it holds a URI that someone else keeps."""

    owner: Owner
    image: str
    pull_policy: str
    pull_secrets: tuple[str, ...]
    replicas: int
    database_kind: DatabaseKind
    database: ManagedDatabase | SecretKey
    redis_kind: RedisKind
    redis: ManagedDatabase | SecretKey
    token: SecretKey | None
    namespaces: Mapping[str, SecretKey]
    """Aiki namespaces beside `default`, each with the place of its token."""
    allowed: Allowed
    service: Service
    ingress: Ingress | None
    gateway: Gateway | None
    disruption_budget: Budget | None
    spread: tuple[Spread, ...]
    network_policy: bool
    retention_days: int
    env: tuple[Json, ...]
    resources: Json
    template: Template
    migration_resources: Json
    migration_template: Template
    """For the Job that migrates, over `template`."""


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """How a pool follows its load; durations in seconds."""

    utilization: float
    backlog_seconds: float
    stabilization_seconds: float
    lead_seconds: float


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """An AikiWorkerPool. `pool` is its name at the server; `replicas`, where set, switches the autoscaler off."""

    owner: Owner
    server: str
    server_namespace: str
    namespace: str
    """The Aiki namespace whose runs the pool works on."""
    pool: str
    image: str
    pull_policy: str
    pull_secrets: tuple[str, ...]
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: tuple[Json, ...]
    env_from: tuple[Json, ...]
    resources: Json
    concurrency: int
    replicas: int | None
    min_replicas: int
    hours: tuple[MinimumWindow, ...]
    """In which the pool is never smaller than they say."""
    max_replicas: int
    autoscaling: Autoscaling
    drain_timeout_seconds: int
    versioning: Versioning
    rollout: Rollout | None
    continue_word: str
    """What a person has said to a roll-out that waits: `BUILD/STEP` or `BUILD/all`; empty if nothing."""
    revision_limit: int
    """How many builds that served, and have nothing to do any more, are kept to go back to."""
    disruption_budget: Budget | None
    spread: tuple[Spread, ...]
    template: Template

    chosen: Json
    build: str
    """The name of the build: a digest of what the user chose for the pod, and of nothing that the operator adds.

    So an upgrade of the operator never makes a new build of anybody's pool.
    """

    @property
    def own_secret(self) -> bool:
        """Whether the pool cannot read the server's own Secret for workers, and needs one beside itself."""
        return self.server_namespace != self.owner.namespace or self.namespace != DEFAULT_NAMESPACE

    @property
    def secret(self) -> str:
        """The Secret that tells the pool's workers where the server is, and their token."""
        return pool_secret(self.owner.name) if self.own_secret else worker_secret(self.server)


def parse_owner(body: Json) -> Owner:
    """The identity of a custom resource."""
    meta = body["metadata"]
    return Owner(body["kind"], meta["name"], meta["namespace"], meta["uid"], meta.get("generation", 1))


def parse_server(body: Json, *, default_image: str, postgres_image: str = "aiki-postgres:latest") -> ServerSpec:
    """An AikiServer from its object; an absent image is the operator's own release's, and so is `postgres_image`, which has pgBackRest."""
    spec = body.get("spec", {})
    database, redis = spec.get("database", {}), spec.get("redis", {})
    budget = spec.get("podDisruptionBudget", {})
    shared = {name: spec[name] for name in SHARED if spec.get(name)}
    database_kind, redis_kind = DatabaseKind(database.get("type", "Managed")), RedisKind(redis.get("type", "Managed"))
    return ServerSpec(
        owner=parse_owner(body),
        image=spec.get("image") or default_image,
        pull_policy=spec.get("imagePullPolicy", "IfNotPresent"),
        pull_secrets=_names(spec.get("imagePullSecrets", [])),
        replicas=spec.get("replicas", 1),
        database_kind=database_kind,
        database=_database(database_kind, database, shared, postgres_image),
        redis_kind=redis_kind,
        redis=_stateful(redis.get("managed", {}), shared, image="valkey/valkey:8", size="1Gi", deletion=DeletionPolicy.DELETE)
        if redis_kind is RedisKind.MANAGED
        else _secret_key(redis["external"]["secretRef"], "url"),
        token=_secret_key(spec["auth"]["tokenSecretRef"], "token") if "tokenSecretRef" in spec.get("auth", {}) else None,
        namespaces={one["name"]: _secret_key(one["tokenSecretRef"], "token") for one in spec.get("namespaces", [])},
        allowed=_allowed(spec.get("allowedNamespaces", {}), spec.get("namespaces", [])),
        service=parse_service(spec.get("service", {})),
        ingress=parse_ingress(spec.get("ingress")),
        gateway=parse_gateway(spec.get("gateway")),
        disruption_budget=parse_budget(budget) if budget.get("enabled", True) else None,
        spread=parse_spread(spec),
        network_policy=spec.get("networkPolicy", {}).get("enabled", True),
        retention_days=spec.get("retention", {}).get("days", 30),
        env=tuple(spec.get("env", [])),
        resources=spec.get("resources", {}),
        template=parse_template(spec, *FIELDS),
        migration_resources=spec.get("migration", {}).get("resources", {}),
        migration_template=parse_template(spec.get("migration", {})),
    )


def server_of(body: Json) -> tuple[str, str]:
    """Namespace and name of the AikiServer that a pool works for."""
    reference = body["spec"]["serverRef"]
    return reference.get("namespace") or body["metadata"]["namespace"], reference["name"]


def namespace_of(body: Json) -> str:
    """The Aiki namespace that a pool works in."""
    return str(body["spec"].get("namespace") or DEFAULT_NAMESPACE)


def parse_pool(body: Json) -> PoolSpec:
    """An AikiWorkerPool from its object."""
    spec = body["spec"]
    chosen = {name: spec[name] for name in CHOSEN if spec.get(name)}
    scaling = spec.get("autoscaling", {})
    return PoolSpec(
        owner=parse_owner(body),
        server=spec["serverRef"]["name"],
        server_namespace=server_of(body)[0],
        namespace=namespace_of(body),
        pool=spec.get("pool") or body["metadata"]["name"],
        image=spec["image"],
        pull_policy=spec.get("imagePullPolicy", "IfNotPresent"),
        pull_secrets=_names(spec.get("imagePullSecrets", [])),
        command=tuple(spec.get("command", [])),
        args=tuple(spec.get("args", [])),
        env=tuple(spec.get("env", [])),
        env_from=tuple(spec.get("envFrom", [])),
        resources=spec.get("resources", {}),
        concurrency=spec.get("concurrency", 10),
        replicas=spec.get("replicas"),
        min_replicas=spec.get("minReplicas", 0),
        hours=parse_windows(spec.get("minReplicasByTime", ())),
        max_replicas=spec.get("maxReplicas", 10),
        autoscaling=Autoscaling(
            utilization=scaling.get("utilizationPercent", 80) / 100,
            backlog_seconds=scaling.get("backlogSeconds", 30),
            stabilization_seconds=scaling.get("stabilizationSeconds", 60),
            lead_seconds=scaling.get("leadSeconds", 15),
        ),
        drain_timeout_seconds=spec.get("drain", {}).get("timeoutSeconds", 300),
        versioning=Versioning(spec.get("versioning", "ByVersion")),
        rollout=parse_rollout(spec.get("rollout")),
        continue_word=(body["metadata"].get("annotations") or {}).get(CONTINUE, ""),
        revision_limit=spec.get("revisionLimit", REVISION_LIMIT),
        disruption_budget=parse_budget(spec["podDisruptionBudget"]) if "podDisruptionBudget" in spec else None,
        spread=parse_spread(spec),
        template=parse_template(spec, *FIELDS),
        chosen=chosen,
        build=digest(chosen),
    )


def parse_build(body: Json, chosen: Json, build: str) -> PoolSpec:
    """An older build of a pool: what was chosen then, and everything else as it is now. Its name is that of its Deployment's label."""
    now = {name: value for name, value in body["spec"].items() if name not in CHOSEN}
    return replace(parse_pool({**body, "spec": {**now, **chosen}}), build=build)


def _database(kind: DatabaseKind, database: Json, shared: Json, postgres_image: str) -> ManagedDatabase | SecretKey:
    if kind is DatabaseKind.EXTERNAL:
        return _secret_key(database["external"]["secretRef"], "uri")
    if kind is DatabaseKind.CLOUD_NATIVE_PG:
        return SecretKey(f"{database['cloudNativePG']['cluster']}-app", "uri")
    managed = database.get("managed", {})
    found = _stateful(managed, shared, image=POSTGRES_IMAGE, size="10Gi")
    backup, restore = parse_backup(managed.get("backup")), parse_restore(managed.get("restoreFrom"))
    needs_tool = found.image == POSTGRES_IMAGE and (backup is not None or restore is not None)
    return replace(found, backup=backup, restore=restore, image=postgres_image if needs_tool else found.image)


def _stateful(managed: Json, shared: Json, *, image: str, size: str, deletion: DeletionPolicy = DeletionPolicy.RETAIN) -> ManagedDatabase:
    """A managed database; what is said of the whole installation holds for it, unless its template says otherwise."""
    storage = managed.get("storage", {})
    return ManagedDatabase(
        image=managed.get("image", image),
        storage_size=storage.get("size", size),
        storage_class=storage.get("className"),
        deletion=DeletionPolicy(managed.get("deletionPolicy", deletion)),
        resources=managed.get("resources", {}),
        template=parse_template({**managed, **shared}, *SHARED),
    )


def _secret_key(reference: Json, default_key: str) -> SecretKey:
    return SecretKey(reference["name"], reference.get("key", default_key))


def _allowed(allowed: Json, aiki_namespaces: list[Json]) -> Allowed:
    kind = allowed.get("from", "Same")
    homes: defaultdict[str, set[str]] = defaultdict(set)
    for one in aiki_namespaces:
        for namespace in one.get("poolNamespaces", [one["name"]]):
            homes[namespace].add(one["name"])
    names = None if kind == "All" else frozenset(allowed.get("names", ()) if kind == "Names" else ())
    return Allowed(names, {namespace: frozenset(own) for namespace, own in homes.items()})


def _names(references: list[Json]) -> tuple[str, ...]:
    return tuple(reference["name"] for reference in references)
