"""The volumes of the managed databases: what their claims are to ask for, and how large they are.

A claim grows where its StorageClass can. Where it cannot, the size in the spec is too large for ever, unless it may go
back: so the status says how large the volumes are, and the CRD lets the spec go back so far and no further.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from aiki_operator.manifests.databases import statefulset
from aiki_operator.manifests.pods.quantity import quantity
from aiki_operator.names import COMPONENT, SERVER_LABEL
from aiki_operator.spec.server import ManagedDatabase, ServerSpec

Json = Mapping[str, Any]

INFEASIBLE = frozenset({"ControllerResizeInfeasible", "NodeResizeInfeasible"})
"""What Kubernetes says of a claim whose volume the storage refuses to make larger."""


def changed(spec: ServerSpec, claims: Mapping[str, Json]) -> Iterator[dict[str, Any]]:
    """Claims that are to ask for another size.

    A claim that somebody made larger by hand stays as it is. One whose volume cannot grow asks for less again, once the spec
    does: Kubernetes takes that for anything that is larger than the volume.
    """
    for _, name, wanted, claim in _managed(spec, claims):
        size, asked, has = quantity(wanted.storage_size), _asked(claim), _has(claim)
        if size is None or asked is None or not bound(claim):
            continue
        if size > asked or (has is not None and has < size < asked and _infeasible(claim)):
            yield statefulset.claim(spec.owner, name, wanted.storage_size)


def sizes(spec: ServerSpec, claims: Mapping[str, Json]) -> dict[str, str]:
    """How large the volumes are, by the part of the spec that they belong to.

        >>> from aiki_operator.names import COMPONENT, SERVER_LABEL
    from aiki_operator.spec.server import parse_server
        >>> spec = parse_server({"kind": "AikiServer", "metadata": {"name": "a", "namespace": "n", "uid": "u"}}, default_image="i")
        >>> claim = {"spec": {"volumeName": "pv", "resources": {"requests": {"storage": "20Gi"}}}, "status": {"capacity": {"storage": "10Gi"}}}
        >>> sizes(spec, {"data-a-postgres-0": claim})
        {'database': '10Gi'}
    """
    found = {}
    for part, _, _, claim in _managed(spec, claims):
        asked, has = _asked(claim), _has(claim)
        if asked is not None and bound(claim):
            # Storage gives more than it is asked for at times; the spec need never ask for that.
            found[part] = str(_capacity(claim) if has is not None and has < asked else _request(claim))
    return found


def misplaced(spec: ServerSpec, objects: Mapping[tuple[str, str], Json], claims: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    """What waits for a volume of another StorageClass than the spec says now, and is made anew: first the StatefulSet, then its claim.

    Neither can be changed in place. Only where there is no volume, and so no data: a claim that somebody else has made, or
    that is to be filled from a snapshot, is not touched.
    """
    named = ((statefulset.postgres_name(spec.owner), spec.database), (statefulset.redis_name(spec.owner), spec.redis))
    for name, wanted in named:
        live, claim = objects.get(("StatefulSet", name)), claims.get(statefulset.claim_name(name))
        if not isinstance(wanted, ManagedDatabase) or (claim is not None and (bound(claim) or not _made_by(name, claim))):
            continue
        if live is not None:
            templates = live["spec"].get("volumeClaimTemplates") or ()
            if any(one["spec"].get("storageClassName") != wanted.storage_class for one in templates) and not _runs(live):
                yield "StatefulSet", name
        elif claim is not None and claim["spec"].get("storageClassName") != wanted.storage_class:
            yield "PersistentVolumeClaim", statefulset.claim_name(name)


def bound(claim: Json) -> bool:
    """Whether a claim has a volume."""
    return bool(claim["spec"].get("volumeName"))


def _made_by(stateful_set: str, claim: Json) -> bool:
    """Whether Kubernetes made the claim for the StatefulSet, from nothing."""
    labels = claim["metadata"].get("labels") or {}
    filled = claim["spec"].get("dataSource") or claim["spec"].get("dataSourceRef")
    return not filled and f"{labels.get(SERVER_LABEL)}-{labels.get(COMPONENT)}" == stateful_set


def _runs(stateful_set: Json) -> bool:
    return bool(stateful_set.get("status", {}).get("readyReplicas", 0))


def _managed(spec: ServerSpec, claims: Mapping[str, Json]) -> Iterator[tuple[str, str, ManagedDatabase, Json]]:
    """Part of the spec, StatefulSet, what is wanted, and the claim that is there."""
    named = (("database", statefulset.postgres_name(spec.owner), spec.database), ("redis", statefulset.redis_name(spec.owner), spec.redis))
    for part, name, wanted in named:
        claim = claims.get(statefulset.claim_name(name))
        if isinstance(wanted, ManagedDatabase) and claim is not None:
            yield part, name, wanted, claim


def _request(claim: Json) -> Any:
    return claim["spec"].get("resources", {}).get("requests", {}).get("storage")


def _capacity(claim: Json) -> Any:
    return claim.get("status", {}).get("capacity", {}).get("storage")


def _asked(claim: Json) -> Decimal | None:
    return quantity(_request(claim))


def _has(claim: Json) -> Decimal | None:
    return quantity(_capacity(claim))


def _infeasible(claim: Json) -> bool:
    return claim.get("status", {}).get("allocatedResourceStatuses", {}).get("storage") in INFEASIBLE
