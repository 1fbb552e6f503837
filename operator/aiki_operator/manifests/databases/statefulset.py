"""Managed Postgres and Valkey: a StatefulSet of one pod with a volume each.

The volume's fate is Kubernetes' own business (persistentVolumeClaimRetentionPolicy): no finalizer of ours can be left
behind. A restart is a fast, clean shutdown: the preStop hook says so, for a smart one would wait for every client.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiki_operator.manifests.databases import backup as backups
from aiki_operator.manifests.databases import pgbackrest
from aiki_operator.manifests.databases.prepare import SCRIPT
from aiki_operator.manifests.pods.pod import CONTAINER_SECURITY, DATABASE_USER, TMP_MOUNT, env_secret, env_value, meta, pod_template
from aiki_operator.manifests.pods.resources import POSTGRES, REDIS, redis_memory, resources
from aiki_operator.names import labels, outliving
from aiki_operator.spec.owner import Owner
from aiki_operator.spec.server import DeletionPolicy, ManagedDatabase

POSTGRES_PORT, REDIS_PORT = 5432, 6379
PGDATA = "/var/lib/postgresql/data/pgdata"
IMMUTABLE = ("selector", "serviceName", "volumeClaimTemplates")
"""What the API server never lets anybody change in a StatefulSet that we set: an older operator's stays."""


def postgres_name(owner: Owner) -> str:
    """The StatefulSet, Service and Secret of the managed Postgres."""
    return f"{owner.name}-postgres"


def redis_name(owner: Owner) -> str:
    """The StatefulSet, Service and Secret of the managed Valkey."""
    return f"{owner.name}-redis"


def claim_name(stateful_set: str) -> str:
    """The claim of the one pod that a StatefulSet of ours has, as Kubernetes names it."""
    return f"data-{stateful_set}-0"


def kept(manifest: dict[str, Any], live: Mapping[str, Any] | None) -> dict[str, Any]:
    """The manifest of a StatefulSet with the parts of the live one that cannot change."""
    if live is None:
        return manifest
    fixed = {member: live["spec"][member] for member in IMMUTABLE if member in live["spec"]}
    return {**manifest, "spec": {**manifest["spec"], **fixed}}


def claim(owner: Owner, stateful_set: str, size: str) -> dict[str, Any]:
    """A claim that is there already, at a new size. Kubernetes makes the volume larger if its StorageClass can."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim_name(stateful_set), "namespace": owner.namespace},
        "spec": {"resources": {"requests": {"storage": size}}},
    }


def postgres(owner: Owner, wanted: ManagedDatabase, *, config: str | None = None) -> dict[str, Any]:
    """The managed Postgres. `config` is a digest of its Secret: a new password restarts the pod, which takes it over."""
    name = postgres_name(owner)
    mounts = [
        {"name": "data", "mountPath": "/var/lib/postgresql/data"},
        {"name": "run", "mountPath": "/var/run/postgresql"},
        TMP_MOUNT,
    ]
    backup = wanted.backup
    archiving = [] if backup is None else backups.environment(backup, data=PGDATA)
    if backup is not None:
        mounts += pgbackrest.mounts(backup.store)
    ask = ["pg_isready", "--quiet", "--host=127.0.0.1", "--username=aiki", "--dbname=aiki"]
    container = {
        "name": "postgres",
        "image": wanted.image,
        "args": [
            "-c",
            "wal_compression=on",
            "-c",
            "max_connections=200",
            "-c",
            "shared_buffers=128MB",
            *([] if backup is None else backups.arguments()),
        ],
        "env": [env_value("PGDATA", PGDATA), *archiving],
        "ports": [{"name": "postgres", "containerPort": POSTGRES_PORT}],
        "readinessProbe": {"exec": {"command": ask}, "periodSeconds": 5, "timeoutSeconds": 3},
        "startupProbe": {"exec": {"command": ask}, "periodSeconds": 1, "timeoutSeconds": 3, "failureThreshold": 300},
        "lifecycle": {"preStop": {"exec": {"command": ["pg_ctl", "stop", "--mode=fast", "--no-wait"]}}},
        "volumeMounts": mounts,
    }
    prepare = {
        "name": "prepare",
        "image": wanted.image,
        "command": ["bash", "-c", SCRIPT if backup is None else SCRIPT + backups.PREPARE],
        "env": [env_value("PGDATA", PGDATA), env_secret("AIKI_PASSWORD", name, "password"), *archiving],
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
        "resources": resources(wanted.resources, POSTGRES),
    }
    container["resources"] = prepare["resources"]
    more = {"initContainers": [prepare]}
    volumes: list[dict[str, Any]] = [{"name": "run", "emptyDir": {}}]
    if backup is not None:
        volumes += pgbackrest.volumes(backup.store, claim=backups.claim_name(owner))
    return _stateful_set(owner, name, "postgres", wanted, container, volumes=volumes, config=config, more=more)


def postgres_claim(owner: Owner, wanted: ManagedDatabase) -> dict[str, Any]:
    """The claim of the managed Postgres's volume, where it has to be there before the StatefulSet that would make it."""
    name = postgres_name(owner)
    made = _claim(wanted, outliving(labels("postgres", instance=owner.name, server=owner.name)))
    return {**made, "metadata": {**made["metadata"], "name": claim_name(name), "namespace": owner.namespace}}


def redis(owner: Owner, wanted: ManagedDatabase, *, config: str | None = None) -> dict[str, Any]:
    """The managed Valkey: append-only file, and errors rather than evictions when the memory is full."""
    name = redis_name(owner)
    memory = redis_memory(wanted.resources)
    container = {
        "name": "redis",
        "image": wanted.image,
        "command": ["valkey-server", "/etc/valkey/redis.conf"],
        "args": [
            "--appendonly",
            "yes",
            "--maxmemory-policy",
            "noeviction",
            "--dir",
            "/data",
            "--save",
            "",
            *(["--maxmemory", memory] if memory else []),
        ],
        "ports": [{"name": "redis", "containerPort": REDIS_PORT}],
        "readinessProbe": {"tcpSocket": {"port": "redis"}, "periodSeconds": 5},
        "startupProbe": {"tcpSocket": {"port": "redis"}, "periodSeconds": 1, "failureThreshold": 120},
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "config", "mountPath": "/etc/valkey", "readOnly": True},
            TMP_MOUNT,
        ],
    }
    file = {"name": "config", "secret": {"secretName": name, "items": [{"key": "redis.conf", "path": "redis.conf"}]}}
    container["resources"] = resources(wanted.resources, REDIS)
    return _stateful_set(owner, name, "redis", wanted, container, volumes=[file], config=config)


def _stateful_set(
    owner: Owner,
    name: str,
    component: str,
    wanted: ManagedDatabase,
    container: dict[str, Any],
    *,
    volumes: list[dict[str, Any]],
    config: str | None,
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    marks = labels(component, instance=owner.name, server=owner.name)
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": meta(owner, name, marks),
        "spec": {
            "serviceName": name,
            "replicas": 1,
            "selector": {"matchLabels": outliving(marks)},  # Kubernetes copies these to the claims
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": "Delete" if wanted.deletion is DeletionPolicy.DELETE else "Retain",
                "whenScaled": "Retain",
            },
            "template": pod_template(
                marks,
                container,
                template=wanted.template,
                user=DATABASE_USER,
                config=config,
                grace_seconds=60,
                volumes=volumes,
                more=more,
            ),
            "volumeClaimTemplates": [_claim(wanted, outliving(marks))],
        },
    }


def _claim(wanted: ManagedDatabase, marks: dict[str, str]) -> dict[str, Any]:
    spec: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": wanted.storage_size}}}
    if wanted.storage_class is not None:
        spec["storageClassName"] = wanted.storage_class
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "labels": marks}, "spec": spec}
