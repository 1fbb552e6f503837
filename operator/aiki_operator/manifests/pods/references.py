"""Which Secrets and ConfigMaps a pod's environment comes from: a container sees a change of these only when it starts again.

Volumes are not among them: the kubelet updates their files in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from aiki_operator.names import digest

Json = Mapping[str, Any]


class Reference(NamedTuple):
    """A Secret or ConfigMap of the pod's namespace."""

    kind: str
    name: str


WAYS = (("secretRef", "Secret"), ("configMapRef", "ConfigMap"), ("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap"))


def references(workload: Json, *, ours: frozenset[str]) -> frozenset[Reference]:
    """What the containers of a Deployment read, but for the Secrets of `ours`, which are followed anyway."""
    spec = workload["spec"]["template"]["spec"]
    containers = [one for name in ("containers", "initContainers") for one in _list(spec.get(name))]
    found = {reference for container in containers for reference in _of(container)}
    return frozenset(one for one in found if one.kind != "Secret" or one.name not in ours)


def followed(config: str, found: frozenset[Reference], contents: Mapping[Reference, str]) -> str:
    """The digest of a pod's configuration: that of ours, and of what else it reads, where it reads anything else."""
    return digest([config, *([*one, contents.get(one, "")] for one in sorted(found))], length=16) if found else config


def _of(container: Json) -> Iterator[Reference]:
    sources = [*_list(container.get("envFrom")), *(one.get("valueFrom") for one in _list(container.get("env")))]
    for source in (one for one in sources if isinstance(one, Mapping)):
        for way, kind in WAYS:
            name = source[way].get("name") if isinstance(source.get(way), Mapping) else None
            if isinstance(name, str):
                yield Reference(kind, name)


def _list(value: Any) -> list[Json]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
