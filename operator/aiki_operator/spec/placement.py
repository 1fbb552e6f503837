"""Where pods run and what they are on the cluster: spread, priority, service account, annotations, and how many may be evicted.

Each is a field, because an administrator asks for it of every workload. A `template` says the same and more; what it says counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]

FIELDS = ("priorityClassName", "serviceAccountName")
"""Members of a spec that go into the pod spec as they are."""


@dataclass(frozen=True, slots=True)
class Template:
    """A user's additions to a pod: metadata, and a pod spec merged over ours."""

    labels: Json
    annotations: Json
    spec: Json


@dataclass(frozen=True, slots=True)
class Spread:
    """Pods of one kind are to be spread over the values of a node's label."""

    key: str
    skew: int = 1
    strict: bool = False
    """Whether a pod waits rather than make it uneven."""


NODES_AND_ZONES = (Spread("kubernetes.io/hostname"), Spread("topology.kubernetes.io/zone"))
"""What is asked for where the user says nothing: even as far as there is room, and no pod ever waits for it."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How many pods of one kind may be evicted at a time: a number, or a share as `25%`."""

    max_unavailable: int | str = 1


def around(template: Template) -> Template:
    """The same for a Job's pod beside a database's: where it runs, and nothing that was meant for the database's containers."""
    spec = {name: value for name, value in template.spec.items() if name not in ("containers", "initContainers", "volumes")}
    return Template(template.labels, template.annotations, spec)


def parse_template(spec: Json, *fields: str) -> Template:
    """The template of a spec, over those of `fields` and over the annotations that the spec has itself."""
    template = spec.get("template", {})
    meta = template.get("metadata", {})
    own = {name: spec[name] for name in fields if name in spec}
    annotations = {**spec.get("podAnnotations", {}), **meta.get("annotations", {})}
    return Template(meta.get("labels", {}), annotations, {**own, **template.get("spec", {})})


def parse_spread(spec: Json) -> tuple[Spread, ...]:
    """How the pods of a spec are spread; an empty list leaves it to the scheduler."""
    if "topologySpreadConstraints" not in spec:
        return NODES_AND_ZONES
    return tuple(
        Spread(one["topologyKey"], one.get("maxSkew", 1), strict=one.get("whenUnsatisfiable") == "DoNotSchedule")
        for one in spec["topologySpreadConstraints"]
    )


def parse_budget(budget: Json) -> Budget:
    """A budget that is wanted."""
    return Budget(budget.get("maxUnavailable", 1))
