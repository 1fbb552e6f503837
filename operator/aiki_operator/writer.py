"""Carries out what plans say: objects applied where they differ, statuses, events. Writes nothing where nothing changed."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aiki_operator.cluster import Cluster
from aiki_operator.conditions import Condition, render
from aiki_operator.names import APPLIED, FIELD_MANAGER
from aiki_operator.plan.difference import must_write
from aiki_operator.store import Key, Store, key_of
from aiki_operator.telemetry import CONDITION

Json = Mapping[str, Any]


class Writer:
    """Writes to the cluster and keeps the store in step with what was written."""

    def __init__(self, cluster: Cluster, store: Store) -> None:
        self._cluster = cluster
        self._store = store
        self._compared: dict[Key, tuple[str, str, int | None]] = {}

    async def apply(self, manifest: Json, *, live: Json | None) -> None:
        """Applies the manifest if `live`, what is there now, is not as it says. The same two are compared once."""
        key, both = key_of(manifest), _pair(manifest, live)
        if both is not None and self._compared.get(key) == both:
            return
        if not must_write(live, manifest):
            if both is not None:
                self._compared[key] = both
            return
        self._compared.pop(key, None)
        written = await self._cluster.apply(manifest)
        if manifest["kind"] in ("Deployment", "StatefulSet", "Job"):
            self._store.put(written)

    async def delete(self, key: Key) -> None:
        """Deletes an object."""
        self._compared.pop(key, None)
        await self._cluster.delete(*key)
        self._store.drop(key)

    async def status(self, body: Json, status: Json, conditions: Sequence[Condition]) -> None:
        """Writes the status of a custom resource if it says anything new."""
        key = key_of(body)
        for condition in conditions:
            value = -1 if condition.status is None else int(condition.status)
            CONDITION.labels(key.kind, key.namespace, key.name, condition.type).set(value)
        before = body.get("status", {})
        generation = body["metadata"].get("generation", 1)
        rendered = render(conditions, before=before.get("conditions") or (), generation=generation, now=_now())
        wanted = {**status, "observedGeneration": generation, "conditions": rendered}
        if wanted == {name: value for name, value in before.items() if name in wanted}:
            return
        meta = {"name": body["metadata"]["name"], "namespace": body["metadata"]["namespace"]}
        manifest = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": meta, "status": wanted}
        self._store.put(await self._cluster.apply(manifest, subresource="status"))

    async def event(self, body: Json, reason: str, message: str, *, warning: bool = False) -> None:
        """Tells people, by an event of the custom resource."""
        key, meta, now = key_of(body), body["metadata"], _now()
        reference = {"apiVersion": body["apiVersion"], "kind": key.kind, "name": key.name, "namespace": key.namespace, "uid": meta["uid"]}
        await self._cluster.create(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"{key.name}.{secrets.token_hex(8)}", "namespace": key.namespace},
                "involvedObject": reference,
                "reason": reason,
                "message": message[:1024],
                "type": "Warning" if warning else "Normal",
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
                "source": {"component": FIELD_MANAGER},
                "reportingComponent": FIELD_MANAGER,
            }
        )


def _pair(manifest: Json, live: Json | None) -> tuple[str, str, int | None] | None:
    """What tells a manifest and what is there from all others; None where nothing is there."""
    if live is None:
        return None
    size = manifest.get("spec", {}).get("replicas")
    return live["metadata"].get("resourceVersion", ""), manifest["metadata"]["annotations"][APPLIED], size


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
