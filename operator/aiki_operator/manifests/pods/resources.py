"""What a container asks for where the user has not said it, and the most memory that it may have.

Every container of ours has requests and a memory limit: so a namespace with a quota for these takes them, and a node that
runs out of memory evicts first what uses more than it asked for, which the databases do last. CPU is not limited: a limit
slows down what could run. A user's `resources` replace these as a whole.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from aiki_operator.manifests.pods.quantity import quantity
from aiki_operator.spec.placement import Json

SERVER = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
MIGRATION = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
POSTGRES = {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}}
REDIS = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
BACKUP = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}}
"""Of the pod that asks for a backup; what it takes is the memory of Postgres's container."""
WORKER = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}

REDIS_SHARE = Decimal("0.75")
"""Of the memory limit, for data: the rest is for buffers, and for the copy that a rewrite of the file makes."""


def resources(wanted: Json, default: Json) -> dict[str, Any]:
    """The user's, or else the default."""
    return dict(wanted or default)


def redis_memory(wanted: Json) -> str | None:
    """How much Valkey may keep before it refuses writes, in bytes: it must come before the node kills it."""
    limit = resources(wanted, REDIS).get("limits", {})
    found = quantity(limit.get("memory")) if isinstance(limit, dict) else None
    return None if found is None else str(int(found * REDIS_SHARE))
