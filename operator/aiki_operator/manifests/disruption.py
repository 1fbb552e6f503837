"""A node may be drained without the last server, or too many workers, going at once."""

from __future__ import annotations

from typing import Any

from aiki_operator.manifests.pods.pod import meta
from aiki_operator.names import COMPONENT, POOL_LABEL, labels, pool_secret
from aiki_operator.spec.owner import Owner
from aiki_operator.spec.placement import Budget
from aiki_operator.spec.pool import PoolSpec
from aiki_operator.spec.server import ServerSpec


def budget(spec: ServerSpec, wanted: Budget) -> dict[str, Any]:
    """That of the servers. With one replica that one may be evicted, for a drain must be able to end."""
    marks = labels("server", instance=spec.owner.name, server=spec.owner.name)
    return _budget(spec.owner, spec.owner.name, marks, marks, wanted)


def of_pool(spec: PoolSpec, wanted: Budget) -> dict[str, Any]:
    """That of a pool's workers, over all builds."""
    marks = labels("worker", instance=spec.owner.name, server=spec.server, pool=spec.owner.name)
    return _budget(spec.owner, pool_secret(spec.owner.name), marks, {POOL_LABEL: spec.owner.name, COMPONENT: "worker"}, wanted)


def _budget(owner: Owner, name: str, marks: dict[str, str], selector: dict[str, str], wanted: Budget) -> dict[str, Any]:
    """A pod that is not ready protects nobody, so it may always be evicted."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": meta(owner, name, marks),
        "spec": {
            "maxUnavailable": wanted.max_unavailable,
            "selector": {"matchLabels": selector},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
