"""Labels, annotations and derived names.

Everything the operator makes is found again by these, across upgrades of the operator itself, so none of them may
ever change its meaning. Names are derived from the custom resource's name, never random.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

GROUP = "aiki.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
DEFAULT_NAMESPACE = "default"
"""The Aiki namespace of the server's own token."""
FIELD_MANAGER = "aiki-operator"
GATEWAY_API = "gateway.networking.k8s.io/v1"

SERVER_KIND = "AikiServer"
POOL_KIND = "AikiWorkerPool"

INSTANCE = "app.kubernetes.io/instance"
MANAGED_BY = "app.kubernetes.io/managed-by"
COMPONENT = "app.kubernetes.io/component"
SELECTOR_OF_OURS = f"{MANAGED_BY}={FIELD_MANAGER}"

SERVER_LABEL = f"{GROUP}/server"
SERVER_NAMESPACE_LABEL = f"{GROUP}/server-namespace"
"""On the pods of a pool: where its server is."""
POOL_LABEL = f"{GROUP}/pool"
BUILD_LABEL = f"{GROUP}/build"

APPLIED = f"{GROUP}/applied"
"""Annotation: digest of what the operator last applied, so that a field it no longer wants is noticed."""
CONFIG = f"{GROUP}/config"
"""Pod annotation: digest of the Secrets the pod reads; a changed Secret rolls the pods."""
BUILD_SPEC_ANNOTATION = f"{GROUP}/build-spec"
"""Annotation of a build's Deployment: what the user chose for it, so that it can be written again when the pool has moved on."""
MIGRATED = f"{GROUP}/migrated"
"""Annotation of a migration's Job: it is done, although a sidecar keeps the Job from ending."""
CONTINUE = f"{GROUP}/continue"
"""Annotation of an AikiWorkerPool: a person lets a roll-out go on, `BUILD/STEP` past that step and `BUILD/all` past all of them."""
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"

SERVER_PORT = 8080
WORKER_HEALTH_PORT = 8081


def labels(component: str, *, instance: str, **more: str) -> dict[str, str]:
    """The labels of an object of ours; `more` are label names with `_` for `aiki.dev/`."""
    return {
        "app.kubernetes.io/name": "aiki",
        INSTANCE: instance,
        COMPONENT: component,
        MANAGED_BY: FIELD_MANAGER,
        **{f"{GROUP}/{name}": value for name, value in more.items()},
    }


def outliving(marks: Mapping[str, str]) -> dict[str, str]:
    """The labels of an object that outlives its owner: without the one by which GitOps tools know what is theirs to prune."""
    return {name: value for name, value in marks.items() if name != INSTANCE}


def digest(value: Mapping[str, Any] | list[Any], *, length: int = 10) -> str:
    """A short name for a JSON value: equal values, equal digests, whatever the order of members."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def client_secret(server: str) -> str:
    """The Secret with AIKI_URL and AIKI_TOKEN that applications read: its token starts and reads runs, and is no worker."""
    return f"{server}-client"


def worker_secret(server: str) -> str:
    """The Secret with AIKI_URL and AIKI_TOKEN that workers of the namespace `default` read, beside the server."""
    return f"{server}-worker"


def pool_secret(pool: str) -> str:
    """The same for a pool of another Kubernetes namespace, or of another Aiki namespace."""
    return f"{pool}-pool"


def server_url(server: str, namespace: str, port: int) -> str:
    """Where the server answers, from inside the cluster."""
    return f"http://{server}.{namespace}.svc:{port}"
