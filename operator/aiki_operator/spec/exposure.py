"""How an AikiServer is reached: its Service, and the ways in from outside, an Ingress or a route of the Gateway API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]

BALANCED = ("loadBalancerClass", "loadBalancerSourceRanges", "externalTrafficPolicy")
"""Fields of a Service that go into its spec as they are."""


@dataclass(frozen=True, slots=True)
class Service:
    """The Service in front of the servers; `more` are members of its spec."""

    type: str
    port: int
    node_port: int | None
    annotations: Json
    more: Json


@dataclass(frozen=True, slots=True)
class Host:
    """A host name, and the Secret with its certificate."""

    name: str
    tls_secret: str | None


@dataclass(frozen=True, slots=True)
class Ingress:
    """Where the server is reached from outside, through an ingress controller."""

    hosts: tuple[Host, ...]
    path: str
    class_name: str | None
    annotations: Json


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where the server is reached from outside, through gateways that are there already."""

    parents: tuple[Json, ...]
    hosts: tuple[str, ...]
    path: str
    annotations: Json


def parse_service(service: Json) -> Service:
    """The Service of a spec."""
    return Service(
        type=service.get("type", "ClusterIP"),
        port=service.get("port", 8080),
        node_port=service.get("nodePort"),
        annotations=service.get("annotations", {}),
        more={name: service[name] for name in BALANCED if name in service},
    )


def parse_ingress(ingress: Json | None) -> Ingress | None:
    """The Ingress of a spec, where there is one: `host`, or a list of `hosts`."""
    if ingress is None:
        return None
    listed = ingress.get("hosts") or [ingress]
    return Ingress(
        hosts=tuple(Host(one["host"], one.get("tlsSecretName")) for one in listed),
        path=ingress.get("path", "/"),
        class_name=ingress.get("className"),
        annotations=ingress.get("annotations", {}),
    )


def parse_gateway(gateway: Json | None) -> Gateway | None:
    """The route of a spec, where there is one."""
    if gateway is None:
        return None
    return Gateway(tuple(gateway["parentRefs"]), tuple(gateway.get("hosts", ())), gateway.get("path", "/"), gateway.get("annotations", {}))
