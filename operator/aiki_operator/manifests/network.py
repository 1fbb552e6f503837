"""Who may open a connection to which part of an installation: a NetworkPolicy for each part.

Only clusters whose network plugin enforces policies obey them; elsewhere they do nothing. The kubelet's probes are
always let through. Nothing limits what pods may reach: workers call whatever their tasks call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiki_operator.manifests.databases.statefulset import POSTGRES_PORT, REDIS_PORT
from aiki_operator.manifests.pods.pod import meta
from aiki_operator.names import (
    COMPONENT,
    POOL_LABEL,
    SERVER_LABEL,
    SERVER_NAMESPACE_LABEL,
    SERVER_PORT,
    WORKER_HEALTH_PORT,
    labels,
    pool_secret,
)
from aiki_operator.spec.owner import Owner
from aiki_operator.spec.pool import PoolSpec
from aiki_operator.spec.server import ManagedDatabase, ServerSpec

BACKUP, RESTORE = ("backup",), ("restore", "fence")
WORKERS = "worker"
NAME_LABEL = "kubernetes.io/metadata.name"
"""The label that Kubernetes gives each namespace."""

_FIGURES = [{"ports": [{"port": WORKER_HEALTH_PORT, "protocol": "TCP"}]}]
"""Prometheus may be anywhere, and shows a token."""


def policies(spec: ServerSpec) -> list[dict[str, Any]]:
    """The policies of an AikiServer: anybody may call the server, and a worker for its figures; both ask for a token. The databases are for those who need them."""
    owner = spec.owner
    found = [
        _policy(owner, owner.name, "server", [{"ports": _ports(SERVER_PORT)}]),
        _policy(owner, f"{owner.name}-workers", WORKERS, _FIGURES),
        _policy(owner, f"{owner.name}-migrations", "migration", []),
    ]
    if isinstance(spec.database, ManagedDatabase):
        callers = ("server", "migration", *(("backup",) if spec.database.backup else ()), *(("fence",) if spec.database.restore else ()))
        found.append(_policy(owner, f"{owner.name}-postgres", "postgres", [_from(owner, callers, POSTGRES_PORT)]))
        found += [_policy(owner, f"{owner.name}-{part}", part, []) for part in _jobs(spec.database)]
    if isinstance(spec.redis, ManagedDatabase):
        rules = [_from(owner, ("server", WORKERS), REDIS_PORT), *_workers_elsewhere(spec)]
        found.append(_policy(owner, f"{owner.name}-redis", "redis", rules))
    return found


def of_pool(spec: PoolSpec) -> dict[str, Any]:
    """The policy of a pool in another namespace than its server: a worker is asked for its figures, and for nothing else."""
    marks = labels("worker", instance=spec.owner.name, server=spec.server, pool=spec.owner.name)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta(spec.owner, pool_secret(spec.owner.name), marks),
        "spec": {"podSelector": {"matchLabels": {POOL_LABEL: spec.owner.name}}, "policyTypes": ["Ingress"], "ingress": _FIGURES},
    }


def names(owner: Owner) -> tuple[str, ...]:
    """What the policies of an AikiServer may be called."""
    return tuple(f"{owner.name}{end}" for end in ("", "-workers", "-migrations", "-postgres", "-redis"))


def job_names(owner: Owner) -> tuple[str, ...]:
    """What those may be called besides where backups or a restore are asked for."""
    return tuple(f"{owner.name}-{part}" for part in (*BACKUP, *RESTORE))


def _jobs(database: ManagedDatabase) -> tuple[str, ...]:
    """Components of Jobs beside the managed Postgres, which nobody calls."""
    return (*(BACKUP if database.backup else ()), *(RESTORE if database.restore else ()))


def _policy(owner: Owner, name: str, component: str, ingress: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta(owner, name, labels(component, instance=owner.name, server=owner.name)),
        "spec": {
            "podSelector": {"matchLabels": {SERVER_LABEL: owner.name, COMPONENT: component}},
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        },
    }


def _from(owner: Owner, components: Sequence[str], port: int) -> dict[str, Any]:
    one_of = {"key": COMPONENT, "operator": "In", "values": list(components)}
    return {"from": [{"podSelector": {"matchLabels": {SERVER_LABEL: owner.name}, "matchExpressions": [one_of]}}], "ports": _ports(port)}


def _workers_elsewhere(spec: ServerSpec) -> list[dict[str, Any]]:
    """Workers of pools in the other namespaces that may have some."""
    if not spec.allowed.foreign:
        return []
    marks = {SERVER_LABEL: spec.owner.name, SERVER_NAMESPACE_LABEL: spec.owner.namespace, COMPONENT: WORKERS}
    named = {"matchExpressions": [{"key": NAME_LABEL, "operator": "In", "values": sorted(spec.allowed.names or ())}]}
    where = {} if spec.allowed.names is None else named
    return [{"from": [{"namespaceSelector": where, "podSelector": {"matchLabels": marks}}], "ports": _ports(REDIS_PORT)}]


def _ports(port: int) -> list[dict[str, Any]]:
    return [{"port": port, "protocol": "TCP"}]
