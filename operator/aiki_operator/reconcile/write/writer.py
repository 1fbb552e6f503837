"""Carries out what plans say: objects applied where they differ, statuses, events. Writes nothing where nothing changed.

What the API server does not take is an answer and no exception: it concerns its object, and the turn goes on. Only where
the API server does not answer at all is the turn over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from aiki_operator.kubernetes.cache import ClusterCache, Key, key_of
from aiki_operator.kubernetes.client import Cluster, ClusterError, ClusterRefused
from aiki_operator.manifests.pods.policy import GUARD, TemplateGuard
from aiki_operator.names import MIGRATED, SERVER_KIND, digest
from aiki_operator.plan.difference import AdmittedManifest, admitted, content, covers, differences, identity, must_write, project
from aiki_operator.plan.rejection import Rejection
from aiki_operator.reconcile.write.events import EventWriter
from aiki_operator.reconcile.write.write_limiter import WriteLimiter
from aiki_operator.reporting.conditions import Condition, Notice, render, turns
from aiki_operator.reporting.hiding import hiding
from aiki_operator.reporting.telemetry import CONDITION, REJECTIONS

Json = Mapping[str, Any]

KEPT = ("Deployment", "StatefulSet", "Job")
"""Kinds that the store holds, so that our own write is known before the watch tells of it."""

NONE: Json = {}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WriteOutcome:
    """What came of a write: the size that the object has been given, if it was given one, and what was refused."""

    replicas: int | None = None
    rejection: Rejection | None = None


class ClusterWriter:
    """Writes to the cluster and keeps the store in step with what was written."""

    def __init__(
        self, cluster: Cluster, store: ClusterCache, clock: Callable[[], float] = time.monotonic, *, guard: TemplateGuard = GUARD
    ) -> None:
        self._cluster = cluster
        self._guard = guard
        self._store = store
        self._compared: dict[Key, tuple[str, tuple[str, Any]]] = {}
        self._admitted: dict[Key, AdmittedManifest] = {}
        self._limiter = WriteLimiter(clock)
        self._events = EventWriter(cluster, clock)

    def admitted(self, owner: Key) -> dict[tuple[str, str], AdmittedManifest]:
        """What the API server made of manifests in the namespace of `owner`, where it changed them; by kind and name."""
        return {(key.kind, key.name): found for key, found in self._admitted.items() if key.namespace == owner.namespace}

    async def apply(self, manifest: Json, *, live: Json | None) -> WriteOutcome | None:
        """Applies the manifest if `live`, what is there now, is not as it says; None where it is. The same two are compared once."""
        key, what = key_of(manifest), identity(manifest)
        version = "" if live is None else live["metadata"].get("resourceVersion", "")
        if version and self._compared.get(key) == (version, what):
            return None
        if not must_write(live, manifest, self._admitted.get(key)):
            if version:
                self._compared[key] = (version, what)
            return None
        self._compared.pop(key, None)
        if forbidden := self._guard.violations(manifest):
            return WriteOutcome(await self._resize(key, manifest, live), _forbidden(key, forbidden))
        outcome = await self._write(key, what, lambda: self._cluster.apply(manifest), manifest=manifest)
        if isinstance(outcome, Rejection):
            if outcome.reason == "Contested" and live is not None:
                return WriteOutcome(
                    rejection=replace(outcome, message=f"{outcome.message}: {', '.join(differences(live, content(manifest)))}")
                )
            return WriteOutcome(await self._resize(key, manifest, live), outcome)
        self._remember(key, admitted(outcome, manifest))
        if key.kind in KEPT:
            self._store.put(outcome)
        return WriteOutcome(outcome.get("spec", {}).get("replicas"))

    async def create(self, manifest: Json) -> bool | Rejection:
        """Creates an object; whether it was not there before."""
        key = key_of(manifest)
        if (known := self._limiter.rejection(key, "create")) is not None:
            return known
        try:
            return await self._cluster.create(manifest)
        except ClusterError as error:
            return self._refused(key, "create", error, manifest)

    async def delete(self, key: Key, *, seen: Json | None = None) -> Rejection | None:
        """Deletes an object; with `seen`, only as it was seen: the API server refuses where it has changed since."""
        if (known := self._limiter.rejection(key, "delete")) is not None:
            return known
        try:
            await self._cluster.delete(*key, version=None if seen is None else seen["metadata"]["resourceVersion"])
        except ClusterError as error:
            return self._refused(key, "delete", error)
        self._compared.pop(key, None)
        self._admitted.pop(key, None)
        self._limiter.forget(key)
        self._store.drop(key)
        return None

    async def finish(self, key: Key) -> Rejection | None:
        """Notes on a Job that it is done, and ends what is left of its pods: a suspended Job has none."""
        patch = {"metadata": {"annotations": {MIGRATED: "true"}}, "spec": {"suspend": True}}
        outcome = await self._write(key, "finish", lambda: self._cluster.merge(*key, patch))
        if isinstance(outcome, Rejection):
            return outcome
        self._store.put(outcome)
        return None

    async def annotate(self, key: Key, annotations: Mapping[str, str]) -> Rejection | None:
        """Sets annotations of a pod; one that is gone needs none."""
        what = tuple(annotations.items())
        if (known := self._limiter.rejection(key, what)) is not None:
            return known
        if self._limiter.exhausted(key, what):
            return _rejection(key, "Contested", "somebody takes the deletion cost away as often as the operator sets it")
        try:
            await self._cluster.annotate(*key, annotations)
        except ClusterError as error:
            return None if error.status == 404 else self._refused(key, what, error)
        self._limiter.wrote(key, what)
        return None

    async def status(self, body: Json, status: Json, conditions: Sequence[Condition]) -> None:
        """Writes the status of a custom resource if it says anything new, and tells people what has turned."""
        key = key_of(body)
        for condition in conditions:
            value = -1 if condition.status is None else int(condition.status)
            CONDITION.labels(key.kind, key.namespace, key.name, condition.type).set(value)
        before = body.get("status", {})
        generation = body["metadata"].get("generation", 1)
        rendered = render(conditions, before=before.get("conditions") or (), generation=generation, now=now())
        wanted = {**status, "observedGeneration": generation, "conditions": rendered}
        what = (digest(wanted, length=16), None)
        place = Key(f"{key.kind}/status", key.namespace, key.name)
        known = self._admitted.get(place)
        same = wanted == {name: value for name, value in before.items() if name in wanted}
        if (
            same
            or (known is not None and known.what == what and project(before, wanted) == known.made)
            or self._limiter.exhausted(place, what)
        ):
            return
        meta = {"name": body["metadata"]["name"], "namespace": body["metadata"]["namespace"]}
        manifest = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": meta, "status": wanted}
        written = await self._cluster.apply(manifest, subresource="status")
        self._limiter.wrote(place, what)
        made = written.get("status", {})
        self._remember(place, None if covers(made, wanted) else AdmittedManifest(what, project(made, wanted)))
        self._store.put(written)
        for notice in turns(before.get("conditions") or (), conditions, story=key.kind == SERVER_KIND):
            await self.event(body, notice)

    async def event(self, body: Json, notice: Notice) -> None:
        """Tells people, by an event of the custom resource."""
        await self._events.tell(body, notice, at=now())

    def prune(self) -> None:
        """Forgets what is gone: called now and then."""
        self._limiter.sweep()
        self._events.sweep()
        gone = [key for key in self._compared if key.kind in KEPT and self._store.get(key) is None]
        for key in gone:
            self._compared.pop(key)
            self._admitted.pop(key, None)

    async def _write(self, key: Key, what: Any, call: Callable[[], Any], *, manifest: Json = NONE) -> dict[str, Any] | Rejection:
        """One write, unless it was refused a moment ago or does no good."""
        if (known := self._limiter.rejection(key, what)) is not None:
            return known
        if self._limiter.exhausted(key, what):
            return _rejection(key, "Contested", "somebody changes it back as often as the operator writes it, five times a minute")
        try:
            written: dict[str, Any] = await call()
        except ClusterError as error:
            return self._refused(key, what, error, manifest)
        self._limiter.wrote(key, what)
        return written

    async def _resize(self, key: Key, manifest: Json, live: Json | None) -> int | None:
        """Gives a workload the size that it should have, although the rest of what we say of it is refused; the size if it was given."""
        wanted = manifest.get("spec", {}).get("replicas")
        if live is None or wanted is None or live["spec"].get("replicas", 1) == wanted:
            return None
        place = Key(f"{key.kind}/size", key.namespace, key.name)
        outcome = await self._write(place, wanted, lambda: self._cluster.resize(*key, wanted), manifest=manifest)
        if isinstance(outcome, Rejection):
            return None
        self._store.put(outcome)
        return int(wanted)

    def _remember(self, key: Key, found: AdmittedManifest | None) -> None:
        if found is None:
            self._admitted.pop(key, None)
        else:
            log.info("admission changed what was written", extra={"kind": key.kind, "namespace": key.namespace, "object": key.name})
            self._admitted[key] = found

    def _refused(self, key: Key, what: Any, error: ClusterError, manifest: Json = NONE) -> Rejection:
        """The answer as a value, without the values of the manifest's variables; without any answer there is no point in going on."""
        if error.status == 0:
            raise error
        lasting = isinstance(error, ClusterRefused)
        said = hiding(manifest)(error.message)
        found = _rejection(key, "ManifestRefused" if lasting else "WriteFailed", said, lasting=lasting)
        self._limiter.refused(key, what, found)
        REJECTIONS.labels(key.kind, found.reason).inc()
        log.warning(
            "not taken", extra={"kind": key.kind, "namespace": key.namespace, "object": key.name, "error": f"{error.status}: {said}"}
        )
        return found


def _rejection(key: Key, reason: str, message: str, *, lasting: bool = True) -> Rejection:
    words = {"ManifestRefused": "the API server refuses what the spec asks for: ", "WriteFailed": "the API server did not take it: "}
    return Rejection(key.kind, key.name, reason, words.get(reason, "") + message, lasting=lasting)


def _forbidden(key: Key, violations: Sequence[str]) -> Rejection:
    """A template that asks for more than it may; the first three reasons."""
    more = f" and {len(violations) - 3} more" if len(violations) > 3 else ""
    message = (
        f"the operator makes no pods that go beyond the restricted Pod Security Standard: {'; '.join(violations[:3])}{more}. Change the "
        "template, or install the chart with operator.allowUnsafeTemplates=true"
    )
    return _rejection(key, "TemplateForbidden", message)


def now() -> str:
    """The time of day, as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
