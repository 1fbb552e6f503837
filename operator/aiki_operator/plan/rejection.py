"""What the API server did not take, and what a person has to change in the custom resource for it to be taken.

A rejection concerns its object and nothing else: whatever else a turn has to do goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiki_operator.reporting.conditions import Condition, overruled

Json = Mapping[str, Any]

QUANTITIES = frozenset({"requests", "limits"})
"""Members whose values are all quantities."""
QUANTITY_FIELDS = frozenset({"sizeLimit", "divisor"})
QUANTITY = re.compile(r"[+-]?[0-9.]+([eE][+-]?[0-9]+|[numkKMGTPE]i?)?")
PATH = re.compile(r"\.?spec\.template\.((?:spec|metadata)[\w.]*(?:\[[^\]]*\][\w.]*)*)")
"""Where the API server says in an object of ours what is wrong."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """An object that could not be written. `lasting` where a person has to act."""

    kind: str
    name: str
    reason: str
    message: str
    lasting: bool = True


def after(conditions: Sequence[Condition], rejections: Sequence[Rejection], body: Json) -> tuple[Condition, ...]:
    """The conditions of a plan, with what came of carrying it out: the first rejection that lasts, or else the first."""
    if not rejections:
        return tuple(conditions)
    worst = next((one for one in rejections if one.lasting), rejections[0])
    serving = body.get("status", {}).get("servingBuild")
    kept = f"; build {serving} goes on serving" if serving else ""
    message = f"{where(worst, body)}{worst.kind} {worst.name}: {worst.message}{kept}"
    return overruled(conditions, Condition("RolloutComplete", False, worst.reason, message), lasting=worst.lasting)


def where(rejection: Rejection, body: Json) -> str:
    """The fields of the custom resource that the API server speaks of, where they can be found: `field, field of this AikiServer: `."""
    named = [path for part in PATH.findall(rejection.message) for path in _user_paths(part.rstrip("."), rejection.name, body)]
    unread = list(_unreadable(body.get("spec", {}), "spec")) if "quantities must match" in rejection.message else []
    found = list(dict.fromkeys([*named, *unread]))
    return f"{', '.join(found)} of this {body['kind']}: " if found else ""


def _user_paths(path: str, name: str, body: Json) -> Iterator[str]:
    """The same path in the user's own templates, where these have its beginning."""
    spec, owner = body.get("spec", {}), body["metadata"]["name"]
    places = {f"{owner}-postgres": ("database", "managed", "template"), f"{owner}-redis": ("redis", "managed", "template")}
    steps = places.get(name, ("template",))
    template: Any = spec
    for step in steps:
        template = template.get(step) if isinstance(template, Mapping) else None
    first, _, rest = path.partition(".")
    inner = template.get(first) if isinstance(template, Mapping) else None
    if isinstance(inner, Mapping) and re.split(r"[.\[]", rest)[0] in inner:
        yield f"spec.{'.'.join(steps)}.{path}"


def _unreadable(value: Any, path: str) -> Iterator[str]:
    """Quantities that Kubernetes cannot read; it does not say where they stand."""
    if isinstance(value, Mapping):
        for name, member in value.items():
            place = f"{path}.{name}"
            if name in QUANTITIES and isinstance(member, Mapping):
                yield from (f"{place}.{unit}: {amount}" for unit, amount in member.items() if not _is_quantity(amount))
            elif name in QUANTITY_FIELDS and not _is_quantity(member):
                yield f"{place}: {member}"
            else:
                yield from _unreadable(member, place)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _unreadable(item, f"{path}[{number}]")


def _is_quantity(value: Any) -> bool:
    return QUANTITY.fullmatch(str(value)) is not None
