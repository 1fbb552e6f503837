"""What gateways say of the server's route: it is theirs to take, and only they know why they do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aiki_operator.reporting.conditions import Condition
from aiki_operator.spec.server import ServerSpec

Json = Mapping[str, Any]

ASKED = ("Accepted", "ResolvedRefs")
"""The conditions of a route that a gateway must not deny."""


def route_accepted(spec: ServerSpec, live: Json | None) -> tuple[Condition, ...]:
    """Whether every gateway has taken the route; nothing where the spec asks for none."""
    if spec.gateway is None:
        return ()
    parents = [] if live is None else live.get("status", {}).get("parents", [])
    if (refused := next(_refusals(parents), None)) is not None:
        return (Condition("RouteAccepted", False, *refused),)
    if len(parents) < len(spec.gateway.parents):
        message = f"{len(parents)} of {len(spec.gateway.parents)} gateways have answered; a controller must run for each"
        return (Condition("RouteAccepted", None, "Pending", message),)
    return (Condition("RouteAccepted", True, "Accepted", f"HTTPRoute {spec.owner.name} is taken by every gateway"),)


def _refusals(parents: list[Json]) -> Iterator[tuple[str, str]]:
    for parent in parents:
        for condition in parent.get("conditions", ()):
            if condition["type"] in ASKED and condition["status"] == "False":
                gateway = parent.get("parentRef", {}).get("name")
                yield str(condition["reason"]), f"gateway {gateway} does not take the route: {condition.get('message', '')}"
