"""What every pod of ours has in common: the restricted Pod Security Standard, a writable /tmp, no API credentials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiki_operator.manifests.pods.merge import merge
from aiki_operator.names import CONFIG, outliving
from aiki_operator.spec.owner import Owner
from aiki_operator.spec.placement import Json, Spread, Template

OUR_USER = 65532
"""The user of our images; has no name on purpose."""
DATABASE_USER = 999
"""The user of the official postgres and valkey images."""

GONE_SECONDS = 15
"""How long a pod stays on a node that does not answer. Another takes its place then; the epochs see to it that two do no harm."""

FIXED = frozenset(
    {
        "AIKI_URL", "AIKI_TOKEN", "AIKI_POOL", "AIKI_BUILD", "AIKI_POD", "AIKI_CONCURRENCY", "AIKI_HEALTH_PORT", "AIKI_GRACE_SECONDS",
        "AIKI_DATABASE_URL", "AIKI_REDIS_URL", "AIKI_TOKENS", "AIKI_CLIENT_TOKENS", "AIKI_HOST", "AIKI_PORT", "AIKI_MIGRATE", "AIKI_RETENTION_DAYS",
    }
)  # fmt: skip
"""Variables that follow from the spec, and that the operator counts on: neither `env` nor a template sets them. The CRDs say so too."""

CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
}


def meta(owner: Owner, name: str, labels: Mapping[str, str], *, annotations: Json | None = None, owned: bool = True) -> dict[str, Any]:
    """The metadata of an object of ours; what is not owned outlives the custom resource."""
    found: dict[str, Any] = {"name": name, "namespace": owner.namespace, "labels": dict(labels) if owned else outliving(labels)}
    if annotations:
        found["annotations"] = dict(annotations)
    if owned:
        found["ownerReferences"] = [owner_reference(owner)]
    return found


def owner_reference(owner: Owner) -> dict[str, Any]:
    """So that Kubernetes itself cleans up, whether the operator runs or not."""
    return {
        "apiVersion": "aiki.dev/v1alpha1",
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def pod_security(user: int | None) -> dict[str, Any]:
    """The pod's security context; without a user, the image's own, which must not be root."""
    context: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if user is not None:
        context |= {"runAsUser": user, "runAsGroup": user, "fsGroup": user, "fsGroupChangePolicy": "OnRootMismatch"}
    return context


def pod_template(
    labels: Json,
    container: Json,
    *,
    template: Template,
    user: int | None,
    config: str | None = None,
    annotations: Json | None = None,
    pull_secrets: Sequence[str] = (),
    grace_seconds: int = 30,
    volumes: Sequence[Json] = (),
    more: Json | None = None,
) -> dict[str, Any]:
    """A pod template around one container, with `more` in its spec; the user's template is merged over it, but for the labels we select by."""
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(user),
        "terminationGracePeriodSeconds": grace_seconds,
        "containers": [{"securityContext": CONTAINER_SECURITY, "terminationMessagePolicy": "FallbackToLogsOnError", **container}],
        "volumes": [{"name": "tmp", "emptyDir": {}}, *volumes],
        **(more or {}),
    }
    if pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in pull_secrets]
    noted = {**(annotations or {}), **({CONFIG: config} if config else {})}
    return {
        "metadata": {
            "labels": {**template.labels, **labels},
            **({"annotations": {**template.annotations, **noted}} if template.annotations or noted else {}),
        },
        "spec": _with_our_variables(merge(spec, template.spec), container),
    }


def _with_our_variables(spec: dict[str, Any], ours: Json) -> dict[str, Any]:
    """The pod with the variables that the operator depends on as it has set them, whatever the template says."""
    fixed = {variable["name"]: variable for variable in ours.get("env", ()) if variable["name"] in FIXED}
    containers = spec.get("containers")
    if not isinstance(containers, list) or not fixed:
        return spec
    return {
        **spec,
        "containers": [_fixed(one, fixed) if isinstance(one, dict) and one.get("name") == ours["name"] else one for one in containers],
    }


def _fixed(container: dict[str, Any], fixed: Json) -> dict[str, Any]:
    if not isinstance(container.get("env"), list):
        return container
    env = [fixed.get(str(one.get("name")), one) if isinstance(one, dict) else one for one in container["env"]]
    return {**container, "env": env}


def leaves_dead_nodes() -> list[dict[str, Any]]:
    """Tolerations of pods that may run twice for a moment; Kubernetes' own patience is five minutes."""
    keys = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    return [{"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": GONE_SECONDS} for key in keys]


def spread_out(spread: Sequence[Spread], marks: Json) -> list[dict[str, Any]]:
    """Constraints on where pods with these labels run. Pods of an older template do not count: they are about to go."""
    return [
        {
            "maxSkew": one.skew,
            "topologyKey": one.key,
            "whenUnsatisfiable": "DoNotSchedule" if one.strict else "ScheduleAnyway",
            "labelSelector": {"matchLabels": dict(marks)},
            "matchLabelKeys": ["pod-template-hash"],
        }
        for one in spread
    ]


def env_value(name: str, value: str) -> dict[str, Any]:
    """A variable with a literal value."""
    return {"name": name, "value": value}


def env_secret(name: str, secret: str, key: str) -> dict[str, Any]:
    """A variable from a Secret."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def env_field(name: str, path: str) -> dict[str, Any]:
    """A variable from the pod itself."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def merge_env(ours: list[dict[str, Any]], theirs: Sequence[Json]) -> list[dict[str, Any]]:
    """Variables by name, a user's over ours."""
    over = {variable["name"]: dict(variable) for variable in theirs}
    return [*(over.pop(variable["name"], variable) for variable in ours), *over.values()]


TMP_MOUNT = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 - an emptyDir of the pod's own
