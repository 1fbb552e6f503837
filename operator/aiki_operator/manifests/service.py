"""Services: of the server, and of the managed Postgres and Valkey."""

from __future__ import annotations

from typing import Any

from aiki_operator.manifests.databases.statefulset import POSTGRES_PORT, REDIS_PORT, postgres_name, redis_name
from aiki_operator.manifests.pods.pod import meta
from aiki_operator.names import SERVER_PORT, labels
from aiki_operator.spec.owner import Owner
from aiki_operator.spec.server import ServerSpec


def server(spec: ServerSpec) -> dict[str, Any]:
    """The Service that clients, workers and the operator talk to."""
    port = {"name": "http", "port": spec.service.port, "targetPort": SERVER_PORT, "protocol": "TCP"}
    if spec.service.node_port is not None:
        port["nodePort"] = spec.service.node_port
    found = _service(spec.owner, spec.owner.name, "server", port, kind=spec.service.type)
    found["spec"] |= spec.service.more
    if spec.service.annotations:
        found["metadata"]["annotations"] = dict(spec.service.annotations)
    return found


def postgres(owner: Owner) -> dict[str, Any]:
    """The Service of the managed Postgres."""
    return _service(owner, postgres_name(owner), "postgres", {"name": "postgres", "port": POSTGRES_PORT, "targetPort": "postgres"})


def redis(owner: Owner) -> dict[str, Any]:
    """The Service of the managed Valkey."""
    return _service(owner, redis_name(owner), "redis", {"name": "redis", "port": REDIS_PORT, "targetPort": "redis"})


def _service(owner: Owner, name: str, component: str, port: dict[str, Any], *, kind: str = "ClusterIP") -> dict[str, Any]:
    marks = labels(component, instance=owner.name, server=owner.name)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(owner, name, marks),
        "spec": {"type": kind, "selector": marks, "ports": [{"protocol": "TCP", **port}]},
    }
