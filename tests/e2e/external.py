"""A Postgres, a Valkey and an S3 store that somebody else runs, and an AikiServer that uses the first two."""

from __future__ import annotations

from typing import Any

from e2e.kube import named

Json = dict[str, Any]
SECURITY = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
POD_SECURITY = {"runAsNonRoot": True, "runAsUser": 999, "runAsGroup": 999, "fsGroup": 999, "seccompProfile": {"type": "RuntimeDefault"}}


def _deployment(name: str, container: Json) -> Json:
    pod = {
        "securityContext": POD_SECURITY,
        "containers": [{"name": name, "securityContext": SECURITY, **container}],
        "volumes": [{"name": "data", "emptyDir": {}}],
    }
    template = {"metadata": {"labels": {"app": name}}, "spec": pod}
    spec = {"selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def _service(name: str, port: int) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": port}]},
    }


def _secret(name: str, values: Json) -> Json:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}


POSTGRES = _deployment(
    "pg",
    {
        "image": "postgres:17",
        "env": [
            {"name": "POSTGRES_PASSWORD", "value": "secret"},
            {"name": "POSTGRES_DB", "value": "runs"},
            {"name": "PGDATA", "value": "/data/pgdata"},
        ],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "data", "mountPath": "/var/run/postgresql", "subPath": "run"}],
    },
)
VALKEY = _deployment(
    "vk",
    {
        "image": "valkey/valkey:8",
        "command": ["valkey-server", "--requirepass", "secret", "--maxmemory-policy", "noeviction", "--protected-mode", "no"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    },
)

STORE_IMAGE = "example.com/store:1"
STORE = [
    _deployment(
        "store",
        {"image": STORE_IMAGE, "readinessProbe": {"httpGet": {"path": "/moto-api/", "port": 9000, "scheme": "HTTPS"}, "periodSeconds": 1}},
    ),
    _service("store", 9000),
]
"""A store that speaks S3 over TLS, with the bucket `kept` (tests/e2e/store)."""


def store_secret(authority: str) -> Json:
    """The Secret `store`: what the store asks for, and the authority of its certificate."""
    return _secret("store", {"accessKeyId": "id", "secretAccessKey": "key", "ca.crt": authority})


EXTERNAL = [
    POSTGRES,
    VALKEY,
    _service("pg", 5432),
    _service("vk", 6379),
    _secret("database", {"uri": "postgresql://postgres:secret@pg:5432/runs"}),
    _secret("doorbell", {"address": "redis://:secret@vk:6379/0"}),
]
EXTERNAL_SERVER = named(
    "AikiServer",
    "aiki",
    {
        "database": {"type": "External", "external": {"secretRef": {"name": "database"}}},
        "redis": {"type": "External", "external": {"secretRef": {"name": "doorbell", "key": "address"}}},
    },
)

CLOUD_NATIVE = [
    _secret("fleet-app", {"uri": "postgresql://postgres:secret@pg:5432/postgres"}),
    named(
        "AikiServer",
        "fleet",
        {
            "database": {"type": "CloudNativePG", "cloudNativePG": {"cluster": "fleet"}},
            "redis": {"type": "External", "external": {"secretRef": {"name": "doorbell", "key": "address"}}},
        },
    ),
]
"""What CloudNativePG leaves for applications is a Secret, here beside a Postgres that is not its."""
