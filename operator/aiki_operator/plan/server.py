"""What is to be done for an AikiServer: Secrets, Postgres, Valkey, the migration, then the server itself.

One stage follows another by what is there, not by what was done: the database before the migration, the migration of an
image before that image's roll-out. A stage that waits leaves what runs as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiki_operator.conditions import Condition, summary
from aiki_operator.manifests import disruption, ingress, secret, server, service, statefulset
from aiki_operator.manifests.server import Sources
from aiki_operator.plan.difference import Taken, marked, must_write
from aiki_operator.plan.migration import Attempt, Ending
from aiki_operator.plan.pods import Pod, Trouble, blocking, refused, worst
from aiki_operator.spec import DatabaseKind, RedisKind, SecretKey, ServerSpec, Stateful

Json = Mapping[str, Any]
Key = tuple[str, str]
"""Kind and name."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What is there: the Secrets that the spec names, by name; our objects; the pods of each component."""

    secrets: Mapping[str, Json]
    objects: Mapping[Key, Json]
    pods: Mapping[str, tuple[Pod, ...]]
    taken: Mapping[Key, Taken] = field(default_factory=dict)
    """What the API server made of manifests of ours, where it changed them."""
    endings: tuple[Ending, ...] = ()
    """How migrations ended, by their pods."""
    no_pods: Mapping[Key, Trouble] = field(default_factory=dict)
    """Why StatefulSets and Jobs get no pods."""
    before: Mapping[str, Json] = field(default_factory=dict)
    """The conditions that the status has already, by type."""


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """The actions, in order: Secrets to create if they are not there, objects to apply, objects to delete."""

    create: tuple[Json, ...]
    apply: tuple[Json, ...]
    delete: tuple[Key, ...]
    finish: str | None
    """A migration that is done although a sidecar keeps its Job: it is noted there, and the Job's pods are ended."""
    conditions: tuple[Condition, ...]
    ready_replicas: int
    url: str
    image: str
    """The image that serves, as far as it is known."""


def secret_names(spec: ServerSpec) -> tuple[str, ...]:
    """The Secrets to read before planning."""
    references = (_database_key(spec), _redis_key(spec), _token_key(spec))
    return (*dict.fromkeys(reference.name for reference in references), f"{spec.owner.name}-client")


def plan(spec: ServerSpec, observed: Observed, *, password: str, now: float) -> ServerPlan:
    """The actions that bring the server to what it should be; `password` is fresh randomness, used at most once."""
    create = tuple(_missing_secrets(spec, observed, password))
    sources = _sources(spec, observed)
    database, redis = _database(spec, observed), _redis(spec, observed)
    migrated = _migrated(spec, observed, sources, database)
    rollout = _rollout(spec, observed, sources, migrated)
    apply = [*_stateful(spec), service.server(spec), *_optional(spec)]
    if sources is not None:
        apply.append(secret.client(spec, _value(observed, sources.token) or ""))
        if database.status:
            apply.append(server.migration(spec, sources))
        if migrated.status:
            apply.append(server.deployment(spec, sources))
    parts = [database, redis, migrated, rollout]
    attempt = None if sources is None else _job(spec, observed, sources)
    live = observed.objects.get(("Deployment", spec.owner.name), {})
    return ServerPlan(
        create=create,
        apply=tuple(
            marked(manifest)
            for manifest in apply
            if manifest["kind"] != "Job" or ("Job", manifest["metadata"]["name"]) not in observed.objects
        ),
        delete=(*_unwanted(spec, observed), *_old_jobs(spec, observed, sources, rollout, now)),
        finish=_finished(spec, observed, sources),
        conditions=tuple(
            summary(parts, stalled=_stalled(observed, parts, attempt), waiting_for=next((part for part in parts if not part.status), None))
        ),
        ready_replicas=live.get("status", {}).get("readyReplicas", 0),
        url=f"http://{spec.owner.name}.{spec.owner.namespace}.svc:{spec.service.port}",
        image=_image(live) or spec.image,
    )


# ---- Secrets and what is read from them ---------------------------------------------------------------------------


def _database_key(spec: ServerSpec) -> SecretKey:
    return SecretKey(statefulset.postgres_name(spec.owner), "uri") if isinstance(spec.database, Stateful) else spec.database


def _redis_key(spec: ServerSpec) -> SecretKey:
    return SecretKey(statefulset.redis_name(spec.owner), "url") if isinstance(spec.redis, Stateful) else spec.redis


def _token_key(spec: ServerSpec) -> SecretKey:
    return spec.token or SecretKey(secret.token_name(spec.owner), "token")


def _missing_secrets(spec: ServerSpec, observed: Observed, password: str) -> Iterator[Json]:
    """Each gets a password of its own, derived from the one that was drawn."""
    if isinstance(spec.database, Stateful) and _database_key(spec).name not in observed.secrets:
        yield secret.postgres_secret(spec, _derive(password, "postgres"))
    if isinstance(spec.redis, Stateful) and _redis_key(spec).name not in observed.secrets:
        yield secret.redis_secret(spec, _derive(password, "redis"))
    if spec.token is None and _token_key(spec).name not in observed.secrets:
        yield secret.token_secret(spec, _derive(password, "token"))


def _derive(password: str, purpose: str) -> str:
    return hashlib.sha256(f"{purpose}:{password}".encode()).hexdigest()


def _value(observed: Observed, key: SecretKey) -> str | None:
    return secret.decode(observed.secrets.get(key.name, {}), key.key)


def _sources(spec: ServerSpec, observed: Observed) -> Sources | None:
    """Where the configuration lies, once all of it is there.

    The digests are over the values together with the token, which nobody can guess: so they tell nothing of a weak password.
    """
    keys = (_database_key(spec), _redis_key(spec), _token_key(spec))
    values = [_value(observed, key) for key in keys]
    if None in values:
        return None
    return Sources(*keys, config=_fingerprint(values), database_config=_fingerprint([values[0], values[2]]))


def _fingerprint(values: Sequence[str | None]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


# ---- stages -------------------------------------------------------------------------------------------------------


def _stateful(spec: ServerSpec) -> Iterator[dict[str, Any]]:
    if isinstance(spec.database, Stateful):
        yield service.postgres(spec.owner)
        yield statefulset.postgres(spec.owner, spec.database)
    if isinstance(spec.redis, Stateful):
        yield service.redis(spec.owner)
        yield statefulset.redis(spec.owner, spec.redis)


def _optional(spec: ServerSpec) -> Iterator[dict[str, Any]]:
    if spec.disruption_budget:
        yield disruption.budget(spec)
    if spec.ingress is not None:
        yield ingress.ingress(spec, spec.ingress)


def _unwanted(spec: ServerSpec, observed: Observed) -> Iterator[Key]:
    """Optional objects of ours that the spec does not ask for any more."""
    for kind, wanted in (("PodDisruptionBudget", spec.disruption_budget), ("Ingress", spec.ingress is not None)):
        if not wanted and (kind, spec.owner.name) in observed.objects:
            yield kind, spec.owner.name


def _database(spec: ServerSpec, observed: Observed) -> Condition:
    if spec.database_kind is DatabaseKind.MANAGED:
        return _stateful_ready("DatabaseReady", statefulset.postgres_name(spec.owner), "postgres", observed)
    return _secret_ready("DatabaseReady", _database_key(spec), observed)


def _redis(spec: ServerSpec, observed: Observed) -> Condition:
    if spec.redis_kind is RedisKind.MANAGED:
        return _stateful_ready("RedisReady", statefulset.redis_name(spec.owner), "redis", observed)
    return _secret_ready("RedisReady", _redis_key(spec), observed)


def _stateful_ready(kind: str, name: str, component: str, observed: Observed) -> Condition:
    if observed.objects.get(("StatefulSet", name), {}).get("status", {}).get("readyReplicas", 0) >= 1:
        return Condition(kind, True, "Running", f"{name} is ready")
    if (trouble := observed.no_pods.get(("StatefulSet", name)) or worst(observed.pods.get(component, ()))) is not None:
        return Condition(kind, False, trouble.reason, f"{name}: {trouble.message}")
    return Condition(kind, False, "Starting", f"waiting for the pod of StatefulSet {name}")


def _secret_ready(kind: str, key: SecretKey, observed: Observed) -> Condition:
    if key.name not in observed.secrets:
        return Condition(
            kind, False, "SecretNotFound", f"Secret {key.name} does not exist in this namespace: create it with the key {key.key}"
        )
    if not _value(observed, key):
        return Condition(kind, False, "SecretIncomplete", f"Secret {key.name} has no key {key.key}")
    return Condition(kind, True, "Configured", f"Secret {key.name} has {key.key}")


def _job(spec: ServerSpec, observed: Observed, sources: Sources) -> Attempt:
    name = server.migration_name(spec, sources)
    endings = tuple(one for one in observed.endings if one.job == name)
    return Attempt(name, observed.objects.get(("Job", name)), endings)


def _migrated(spec: ServerSpec, observed: Observed, sources: Sources | None, database: Condition) -> Condition:
    if sources is None:
        missing = next((key for key in (_database_key(spec), _redis_key(spec), _token_key(spec)) if not _value(observed, key)), None)
        wanted = f"Secret {missing.name}, key {missing.key}" if missing is not None else "its Secrets"
        return Condition("SchemaMigrated", False, "WaitingForSecrets", f"waiting for {wanted}")
    attempt = _job(spec, observed, sources)
    if attempt.done:
        return Condition("SchemaMigrated", True, "Migrated", f"the schema is that of {spec.image}")
    if not database.status:
        return Condition("SchemaMigrated", False, "WaitingForDatabase", database.message)
    refused = observed.no_pods.get(("Job", attempt.name))
    trouble = refused or attempt.trouble(observed.before) or worst(observed.pods.get("migration", ()))
    if trouble is not None:
        return Condition("SchemaMigrated", False, trouble.reason, f"Job {attempt.name}: {trouble.message}")
    return Condition("SchemaMigrated", False, "Migrating", f"Job {attempt.name} brings the schema to {spec.image}")


def _finished(spec: ServerSpec, observed: Observed, sources: Sources | None) -> str | None:
    attempt = None if sources is None else _job(spec, observed, sources)
    return attempt.name if attempt is not None and attempt.kept else None


def _old_jobs(spec: ServerSpec, observed: Observed, sources: Sources | None, rollout: Condition, now: float) -> Iterator[Key]:
    """Migrations of other images once this one serves, and a failed one of this image when it is time to try again."""
    if sources is None:
        return
    attempt = _job(spec, observed, sources)
    for kind, name in observed.objects:
        if kind == "Job" and ((name != attempt.name and rollout.status) or (name == attempt.name and attempt.is_over(now))):
            yield kind, name


def _rollout(spec: ServerSpec, observed: Observed, sources: Sources | None, migrated: Condition) -> Condition:
    live = observed.objects.get(("Deployment", spec.owner.name))
    if sources is None or not migrated.status:
        return Condition("RolloutComplete", False, migrated.reason, migrated.message)
    if must_write(live, marked(server.deployment(spec, sources)), observed.taken.get(("Deployment", spec.owner.name))):
        return Condition("RolloutComplete", False, "RollingOut", f"the Deployment is about to become that of {spec.image}")
    trouble = blocking(refused(live), observed.pods.get("server", ()))
    status = (live or {}).get("status", {})
    current = live is not None and status.get("observedGeneration", 0) >= live["metadata"].get("generation", 0)
    updated, ready = status.get("updatedReplicas", 0), status.get("readyReplicas", 0)
    if current and updated >= spec.replicas and ready >= spec.replicas and status.get("replicas", 0) == spec.replicas:
        return Condition("RolloutComplete", True, "Serving", f"{ready} of {spec.replicas} replicas of {spec.image} are ready")
    if trouble is not None:
        return Condition("RolloutComplete", False, trouble.reason, f"{spec.image}: {trouble.message}")
    return Condition("RolloutComplete", False, "RollingOut", f"{min(updated, ready)} of {spec.replicas} replicas of {spec.image} are ready")


def _image(live: Json | None) -> str | None:
    containers = (live or {}).get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    return next((container.get("image") for container in containers if container["name"] == "server"), None)


def _stalled(observed: Observed, parts: Sequence[Condition], attempt: Attempt | None) -> Condition | None:
    """The part that waits for a person, if one does."""
    lasting = {pod.trouble.reason for pods in observed.pods.values() for pod in pods if pod.trouble is not None and pod.trouble.lasting}
    lasting |= {"SecretNotFound", "SecretIncomplete", "PodsRefused", "NeverReady"}
    failed = None if attempt is None else attempt.trouble(observed.before)
    if failed is not None:
        lasting = lasting | {failed.reason} if failed.lasting else lasting - {failed.reason}
    return next((part for part in parts if not part.status and part.reason in lasting), None)
