"""What users ask for of a server: an AikiServer as a value.

The CRD's schema has checked and defaulted what arrives here; the defaults are repeated so that objects written before a field existed mean the
same. Nothing behind this module reads a raw server's spec.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from aiki_operator.names import DEFAULT_NAMESPACE
from aiki_operator.spec.backups import Backup, Restore, parse_backup, parse_restore
from aiki_operator.spec.exposure import Gateway, Ingress, Service, parse_gateway, parse_ingress, parse_service
from aiki_operator.spec.owner import Owner, names_of, parse_owner
from aiki_operator.spec.placement import FIELDS, Budget, Json, Spread, Template, parse_budget, parse_spread, parse_template

POSTGRES_IMAGE = "postgres:17"
"""The managed Postgres's image where the spec names none; it has no pgBackRest."""


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
        pull_secrets=names_of(spec.get("imagePullSecrets", [])),
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
