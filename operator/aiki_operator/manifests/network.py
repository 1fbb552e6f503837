"""Who may open a connection to which part of an installation: a NetworkPolicy for each part.

Only clusters whose network plugin enforces policies obey them; elsewhere they do nothing. The kubelet's probes are
always let through. Nothing limits what pods may reach: workers call whatever their tasks call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiki_operator.manifests.pod import meta
from aiki_operator.manifests.statefulset import POSTGRES_PORT, REDIS_PORT
from aiki_operator.names import COMPONENT, SERVER_LABEL, SERVER_PORT, labels
from aiki_operator.spec import Owner, ServerSpec, Stateful

WORKERS = "worker"


def policies(spec: ServerSpec) -> list[dict[str, Any]]:
    """The policies of an AikiServer: anybody may call the server, which asks for a token; the databases are for those who need them."""
    owner = spec.owner
    found = [
        _policy(owner, owner.name, "server", [{"ports": _ports(SERVER_PORT)}]),
        _policy(owner, f"{owner.name}-workers", WORKERS, []),
        _policy(owner, f"{owner.name}-migrations", "migration", []),
    ]
    if isinstance(spec.database, Stateful):
        found.append(_policy(owner, f"{owner.name}-postgres", "postgres", [_from(owner, ("server", "migration"), POSTGRES_PORT)]))
    if isinstance(spec.redis, Stateful):
        found.append(_policy(owner, f"{owner.name}-redis", "redis", [_from(owner, ("server", WORKERS), REDIS_PORT)]))
    return found


def names(owner: Owner) -> tuple[str, ...]:
    """What the policies of an AikiServer may be called."""
    return tuple(f"{owner.name}{end}" for end in ("", "-workers", "-migrations", "-postgres", "-redis"))


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


def _ports(port: int) -> list[dict[str, Any]]:
    return [{"port": port, "protocol": "TCP"}]
