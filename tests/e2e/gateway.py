"""HTTPRoute of the Gateway API, for a cluster that has none: those fields of the standard channel's v1 that a route of ours has.

A cluster that has the real ones keeps them.
"""

from __future__ import annotations

from typing import Any

from e2e.kube import Kube

NAME = "httproutes.gateway.networking.k8s.io"
TEXT = {"type": "string"}
NUMBER = {"type": "integer"}


def _map(**members: Any) -> dict[str, Any]:
    return {"type": "object", "properties": members}


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


_PARENT = _map(
    group={**TEXT, "default": "gateway.networking.k8s.io"},
    kind={**TEXT, "default": "Gateway"},
    namespace=TEXT,
    name=TEXT,
    sectionName=TEXT,
    port=NUMBER,
)
_PATH = {**_map(type={**TEXT, "default": "PathPrefix"}, value={**TEXT, "default": "/"})}
_BACKEND = _map(
    group={**TEXT, "default": ""},
    kind={**TEXT, "default": "Service"},
    namespace=TEXT,
    name=TEXT,
    port=NUMBER,
    weight={**NUMBER, "default": 1},
)
_CONDITION = _map(
    type=TEXT, status=TEXT, reason=TEXT, message=TEXT, lastTransitionTime={**TEXT, "format": "date-time"}, observedGeneration=NUMBER
)
_SCHEMA = _map(
    spec=_map(
        parentRefs=_list(_PARENT), hostnames=_list(TEXT), rules=_list(_map(matches=_list(_map(path=_PATH)), backendRefs=_list(_BACKEND)))
    ),
    status=_map(parents=_list(_map(parentRef=_PARENT, controllerName=TEXT, conditions=_list(_CONDITION)))),
)
_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": NAME,
        "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api/pull/3328"},
    },
    "spec": {
        "group": "gateway.networking.k8s.io",
        "scope": "Namespaced",
        "names": {"kind": "HTTPRoute", "listKind": "HTTPRouteList", "plural": "httproutes", "singular": "httproute"},
        "versions": [
            {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": _SCHEMA}}
        ],
    },
}


async def install(kube: Kube) -> bool:
    """Sees to it that the cluster has HTTPRoutes; whether it had none."""
    if "not found" not in (await kube.run("kubectl", "get", "crd", NAME, ok=False)).lower():
        return False
    await kube.apply(_CRD)
    await kube.run("kubectl", "wait", "--for=condition=Established", f"crd/{NAME}", "--timeout=30s")
    return True


async def remove(kube: Kube) -> None:
    """Takes away what `install` has brought."""
    await kube.run("kubectl", "delete", "crd", NAME)
