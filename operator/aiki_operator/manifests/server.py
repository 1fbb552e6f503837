"""The server's Deployment, and the Job that migrates the database before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiki_operator.manifests.databases.restore import mark
from aiki_operator.manifests.pods.merge import merge
from aiki_operator.manifests.pods.pod import (
    OUR_USER,
    TMP_MOUNT,
    env_secret,
    env_value,
    leaves_dead_nodes,
    merge_env,
    meta,
    pod_template,
    spread_out,
)
from aiki_operator.manifests.pods.resources import MIGRATION, SERVER, resources
from aiki_operator.names import SERVER_PORT, digest, labels
from aiki_operator.spec.backups import Restore
from aiki_operator.spec.placement import Template
from aiki_operator.spec.server import SecretKey, ServerSpec

CLIENTS_KEY = "clients"
"""The key beside that of the tokens: those of clients."""
DRAIN_SECONDS = 5
"""A stopping server goes on answering this long, until every proxy in the cluster has heard that it goes."""
SHUTDOWN_DELAY_SECONDS = 2
"""By then every connection in use has been answered for the last time; new ones go to other pods already."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the server's configuration lies; `config` is the digest of all of it, `database_config` of the database's part."""

    database: SecretKey
    redis: SecretKey
    tokens: SecretKey
    config: str
    database_config: str


def deployment(spec: ServerSpec, sources: Sources) -> dict[str, Any]:
    """The server. A roll-out adds one before it takes one away, and the one that goes answers until nobody asks it."""
    marks = labels("server", instance=spec.owner.name, server=spec.owner.name)
    container = {
        **_container(spec, sources),
        "name": "server",
        "args": ["serve"],
        "ports": [{"name": "http", "containerPort": SERVER_PORT}],
        "livenessProbe": {"httpGet": {"path": "/livez", "port": "http"}, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 5, "timeoutSeconds": 5},
        "startupProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 120},
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}},
        "resources": resources(spec.resources, SERVER),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta(spec.owner, spec.owner.name, marks),
        "spec": {
            "replicas": spec.replicas,
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": 300,
            "selector": {"matchLabels": marks},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": pod_template(
                marks,
                container,
                template=spec.template,
                user=OUR_USER,
                config=sources.config,
                pull_secrets=spec.pull_secrets,
                grace_seconds=DRAIN_SECONDS + 40,
                more={"tolerations": leaves_dead_nodes(), "topologySpreadConstraints": spread_out(spec.spread, marks)},
            ),
        },
    }


def migration_name(spec: ServerSpec, sources: Sources) -> str:
    """One Job per image and database: done once, never again."""
    return f"{spec.owner.name}-migrate-{digest([spec.image, sources.database_config], length=8)}"


def migration(spec: ServerSpec, sources: Sources) -> dict[str, Any]:
    """Brings the database to the image's schema; the server of the image is rolled out only after it."""
    return _once(spec, sources, migration_name(spec, sources), component="migration", container="migrate", command="migrate")


def fence_name(spec: ServerSpec, restore: Restore) -> str:
    """One Job for each restore."""
    return f"{spec.owner.name}-fence-{mark(restore)[:8]}"


def fence(spec: ServerSpec, sources: Sources, restore: Restore) -> dict[str, Any]:
    """Says that the database was restored, before its first server starts: nothing of after that point in time is taken."""
    return _once(spec, sources, fence_name(spec, restore), component="fence", container="fence", command="restored")


def _once(spec: ServerSpec, sources: Sources, name: str, *, component: str, container: str, command: str) -> dict[str, Any]:
    """A Job that does something to the database before the servers are there."""
    marks = labels(component, instance=spec.owner.name, server=spec.owner.name)
    body = {
        **_container(spec, sources),
        "name": container,
        "args": [command],
        "resources": resources(spec.migration_resources, MIGRATION),
    }
    pod = pod_template(marks, body, template=_for_the_job(spec), user=OUR_USER, pull_secrets=spec.pull_secrets)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta(spec.owner, name, marks),
        "spec": {"backoffLimit": 2, "activeDeadlineSeconds": 1800, "template": merge(pod, {"spec": {"restartPolicy": "Never"}})},
    }


def _container(spec: ServerSpec, sources: Sources) -> dict[str, Any]:
    ours = [
        env_secret("AIKI_DATABASE_URL", sources.database.name, sources.database.key),
        env_secret("AIKI_REDIS_URL", sources.redis.name, sources.redis.key),
        env_secret("AIKI_TOKENS", sources.tokens.name, sources.tokens.key),
        env_secret("AIKI_CLIENT_TOKENS", sources.tokens.name, CLIENTS_KEY),
        env_value("AIKI_HOST", "0.0.0.0"),  # noqa: S104 - a pod's own network namespace
        env_value("AIKI_PORT", str(SERVER_PORT)),
        env_value("AIKI_RETENTION_DAYS", str(spec.retention_days)),
        env_value("AIKI_MIGRATE", "0"),  # the Job does
        env_value("AIKI_SHUTDOWN_DELAY_SECONDS", str(SHUTDOWN_DELAY_SECONDS)),
    ]
    return {
        "image": spec.image,
        "imagePullPolicy": spec.pull_policy,
        "env": merge_env(ours, spec.env),
        "volumeMounts": [TMP_MOUNT],
    }


def _for_the_job(spec: ServerSpec) -> Template:
    """Where the user wants pods to run, but not what was meant for the server's container; then what is meant for the Job."""
    theirs, own = spec.template, spec.migration_template
    shared = {name: value for name, value in theirs.spec.items() if name != "containers"}
    return Template({**theirs.labels, **own.labels}, {**theirs.annotations, **own.annotations}, merge(shared, own.spec))
