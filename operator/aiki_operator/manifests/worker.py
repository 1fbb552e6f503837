"""The Deployment of one build of a pool.

Its name and labels say pool and build. The size is part of it: the operator is the only writer of replica counts.
"""

from __future__ import annotations

from typing import Any

from aiki_operator.manifests.choice import CONTAINER, hidden
from aiki_operator.manifests.pods.pod import (
    TMP_MOUNT,
    env_field,
    env_secret,
    env_value,
    leaves_dead_nodes,
    merge_env,
    meta,
    pod_template,
    spread_out,
)
from aiki_operator.manifests.pods.resources import WORKER, resources
from aiki_operator.names import BUILD_SPEC_ANNOTATION, SERVER_NAMESPACE_LABEL, WORKER_HEALTH_PORT, labels
from aiki_operator.spec.pool import PoolSpec

STOP_SECONDS = 30
"""What a worker gets beyond the drain time to hand back what it holds."""


def deployment_name(pool: str, build: str) -> str:
    """The Deployment of a build."""
    return f"{pool}-{build}"


def deployment(spec: PoolSpec, *, replicas: int, config: str) -> dict[str, Any]:
    """The Deployment of the build that the spec describes."""
    marks = labels("worker", instance=spec.owner.name, server=spec.server, pool=spec.owner.name, build=spec.build)
    if spec.server_namespace != spec.owner.namespace:
        marks[SERVER_NAMESPACE_LABEL] = spec.server_namespace
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta(
            spec.owner, deployment_name(spec.owner.name, spec.build), marks, annotations={BUILD_SPEC_ANNOTATION: hidden(spec.chosen)}
        ),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 1,
            "progressDeadlineSeconds": 300,
            "selector": {"matchLabels": marks},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": pod_template(
                marks,
                _container(spec),
                template=spec.template,
                user=None,
                config=config,
                pull_secrets=spec.pull_secrets,
                grace_seconds=spec.drain_timeout_seconds + STOP_SECONDS,
                more={"tolerations": leaves_dead_nodes(), "topologySpreadConstraints": spread_out(spec.spread, marks)},
            ),
        },
    }


def drain_seconds(spec: PoolSpec) -> int:
    """How long a stopping worker lets its tasks run: no longer than the template's grace period lets the worker itself run."""
    grace = spec.template.spec.get("terminationGracePeriodSeconds")
    if not isinstance(grace, int) or grace < 0:
        return spec.drain_timeout_seconds
    return max(0, min(spec.drain_timeout_seconds, grace - min(STOP_SECONDS, (grace + 1) // 2)))


def _container(spec: PoolSpec) -> dict[str, Any]:
    secret = spec.secret
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": spec.image,
        "imagePullPolicy": spec.pull_policy,
        "env": merge_env(
            [
                env_secret("AIKI_URL", secret, "AIKI_URL"),
                env_secret("AIKI_TOKEN", secret, "AIKI_TOKEN"),
                env_value("AIKI_POOL", spec.pool),
                env_value("AIKI_BUILD", spec.build),
                env_field("AIKI_POD", "metadata.name"),
                env_value("AIKI_CONCURRENCY", str(spec.concurrency)),
                env_value("AIKI_GRACE_SECONDS", str(drain_seconds(spec))),
                env_value("AIKI_HEALTH_PORT", str(WORKER_HEALTH_PORT)),
            ],
            spec.env,
        ),
        "ports": [{"name": "health", "containerPort": WORKER_HEALTH_PORT}],
        "startupProbe": {
            "httpGet": {"path": "/readyz", "port": "health"},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": 300,
        },
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "health"}, "periodSeconds": 10, "timeoutSeconds": 5},
        "livenessProbe": {"httpGet": {"path": "/livez", "port": "health"}, "periodSeconds": 20, "timeoutSeconds": 5, "failureThreshold": 6},
        "volumeMounts": [TMP_MOUNT],
        "resources": resources(spec.resources, WORKER),
    }
    optional = {"command": list(spec.command), "args": list(spec.args), "envFrom": list(spec.env_from)}
    return {**container, **{name: value for name, value in optional.items() if value}}
