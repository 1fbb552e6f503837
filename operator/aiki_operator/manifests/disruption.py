"""A node may be drained without the last server going."""

from __future__ import annotations

from typing import Any

from aiki_operator.manifests.pod import meta
from aiki_operator.names import labels
from aiki_operator.spec import ServerSpec


def budget(spec: ServerSpec) -> dict[str, Any]:
    """One server at a time may be evicted; with one replica that is the one, for a drain must be able to end."""
    marks = labels("server", instance=spec.owner.name, server=spec.owner.name)
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": meta(spec.owner, spec.owner.name, marks),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": marks}},
    }
