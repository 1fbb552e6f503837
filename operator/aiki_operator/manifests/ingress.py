"""The optional way in from outside the cluster."""

from __future__ import annotations

from typing import Any

from aiki_operator.manifests.pod import meta
from aiki_operator.names import labels
from aiki_operator.spec import Ingress, ServerSpec


def ingress(spec: ServerSpec, wanted: Ingress) -> dict[str, Any]:
    """One host, one path, to the server's Service."""
    backend = {"service": {"name": spec.owner.name, "port": {"name": "http"}}}
    rule = {"host": wanted.host, "http": {"paths": [{"path": wanted.path, "pathType": "Prefix", "backend": backend}]}}
    rules: dict[str, Any] = {"rules": [rule]}
    if wanted.class_name is not None:
        rules["ingressClassName"] = wanted.class_name
    if wanted.tls_secret is not None:
        rules["tls"] = [{"hosts": [wanted.host], "secretName": wanted.tls_secret}]
    marks = labels("server", instance=spec.owner.name, server=spec.owner.name)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": meta(spec.owner, spec.owner.name, marks, annotations=wanted.annotations),
        "spec": rules,
    }
