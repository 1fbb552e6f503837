"""Who a custom resource is, and to which server and which Aiki namespace a pool belongs."""

from __future__ import annotations

from dataclasses import dataclass

from aiki_operator.names import DEFAULT_NAMESPACE
from aiki_operator.spec.placement import Json


@dataclass(frozen=True, slots=True)
class Owner:
    """The custom resource that owns what is made for it."""

    kind: str
    name: str
    namespace: str
    uid: str
    generation: int


def parse_owner(body: Json) -> Owner:
    """The identity of a custom resource."""
    meta = body["metadata"]
    return Owner(body["kind"], meta["name"], meta["namespace"], meta["uid"], meta.get("generation", 1))


def server_of(body: Json) -> tuple[str, str]:
    """Namespace and name of the AikiServer that a pool works for."""
    reference = body["spec"]["serverRef"]
    return reference.get("namespace") or body["metadata"]["namespace"], reference["name"]


def namespace_of(body: Json) -> str:
    """The Aiki namespace that a pool works in."""
    return str(body["spec"].get("namespace") or DEFAULT_NAMESPACE)


def names_of(references: list[Json]) -> tuple[str, ...]:
    """The names in a list of references."""
    return tuple(reference["name"] for reference in references)
