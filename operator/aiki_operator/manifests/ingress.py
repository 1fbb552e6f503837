"""The optional ways in from outside the cluster."""

from __future__ import annotations

from typing import Any

from aiki_operator.manifests.pods.pod import meta
from aiki_operator.names import GATEWAY_API, labels
from aiki_operator.spec.exposure import Gateway, Ingress
from aiki_operator.spec.server import ServerSpec


def ingress(spec: ServerSpec, wanted: Ingress) -> dict[str, Any]:
    """Each host at one path, to the server's Service. Hosts with the same certificate stand together."""
    backend = {"service": {"name": spec.owner.name, "port": {"name": "http"}}}
    paths = [{"path": wanted.path, "pathType": "Prefix", "backend": backend}]
    rules: dict[str, Any] = {"rules": [{"host": host.name, "http": {"paths": paths}} for host in wanted.hosts]}
    if wanted.class_name is not None:
        rules["ingressClassName"] = wanted.class_name
    certificates: dict[str, list[str]] = {}
    for host in wanted.hosts:
        if host.tls_secret is not None:
            certificates.setdefault(host.tls_secret, []).append(host.name)
    if certificates:
        rules["tls"] = [{"hosts": hosts, "secretName": secret} for secret, hosts in certificates.items()]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": meta(spec.owner, spec.owner.name, _marks(spec), annotations=wanted.annotations),
        "spec": rules,
    }


def route(spec: ServerSpec, wanted: Gateway) -> dict[str, Any]:
    """A route of gateways that somebody else keeps, to the server's Service."""
    parents = [{"group": "gateway.networking.k8s.io", "kind": "Gateway", **parent} for parent in wanted.parents]
    backend = {"group": "", "kind": "Service", "name": spec.owner.name, "port": spec.service.port, "weight": 1}
    rule = {"matches": [{"path": {"type": "PathPrefix", "value": wanted.path}}], "backendRefs": [backend]}
    return {
        "apiVersion": GATEWAY_API,
        "kind": "HTTPRoute",
        "metadata": meta(spec.owner, spec.owner.name, _marks(spec), annotations=wanted.annotations),
        "spec": {"parentRefs": parents, **({"hostnames": list(wanted.hosts)} if wanted.hosts else {}), "rules": [rule]},
    }


def _marks(spec: ServerSpec) -> dict[str, str]:
    return labels("server", instance=spec.owner.name, server=spec.owner.name)
