"""What is to be done for an AikiServer: Secrets, Postgres, Valkey, the migration, then the server itself.

One stage follows another by what is there, not by what was done: the database before the migration, the migration of an
image before that image's roll-out. A stage that waits leaves what runs as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aiki_operator.manifests import disruption, ingress, network, server, service
from aiki_operator.manifests.databases import statefulset
from aiki_operator.manifests.pods.references import Reference, followed, references
from aiki_operator.manifests.server import Sources
from aiki_operator.names import COMPONENT
from aiki_operator.plan.difference import AdmittedManifest, marked, must_write
from aiki_operator.plan.pods import Pod, PodProblem, blocking, refused, worst
from aiki_operator.plan.server import backup, credentials, volumes
from aiki_operator.plan.server.exposed import route_accepted
from aiki_operator.plan.server.migration import ContainerEnding, JobAttempt
from aiki_operator.plan.server.restore import Restoring
from aiki_operator.reporting.conditions import Condition, summary
from aiki_operator.spec.server import DatabaseKind, ManagedDatabase, RedisKind, ServerSpec

Json = Mapping[str, Any]
Key = tuple[str, str]
"""Kind and name."""


@dataclass(frozen=True, slots=True)
class ObservedServer:
    """What is there: the Secrets that the spec names, by name; our objects; the pods of each component."""

    secrets: Mapping[str, Json]
    objects: Mapping[Key, Json]
    pods: Mapping[str, tuple[Pod, ...]]
    taken: Mapping[Key, AdmittedManifest] = field(default_factory=dict)
    """What the API server made of manifests of ours, where it changed them."""
    endings: tuple[ContainerEnding, ...] = ()
    """How migrations ended, by their pods."""
    no_pods: Mapping[Key, PodProblem] = field(default_factory=dict)
    """Why StatefulSets and Jobs get no pods."""
    before: Mapping[str, Json] = field(default_factory=dict)
    """The conditions that the status has already, by type."""
    claims: Mapping[str, Json] = field(default_factory=dict)
    """The claims of the managed databases' volumes, by name."""
    contents: Mapping[Reference, str] = field(default_factory=dict)
    """Digests of what the servers take their environment from besides."""
    database_contents: Mapping[str, Mapping[Reference, str]] = field(default_factory=dict)
    """The same for each managed database whose Secret is there."""
    jobs: Mapping[str, tuple[ContainerEnding, ...]] = field(default_factory=dict)
    """How backups, restores and fences ended, by component."""
    backups: Json = field(default_factory=dict)
    """What the status says of the backups already."""


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
    volumes: Mapping[str, str]
    """How large the volumes of the managed databases are."""
    backups: backup.BackupStatus
    """What is known of the backups."""


def reads(spec: ServerSpec, secrets: Mapping[str, Json]) -> frozenset[Reference]:
    """The Secrets and ConfigMaps that the servers take their environment from, besides those of their configuration."""
    sources = credentials.sources(spec, secrets)
    return frozenset() if sources is None else _references(spec, sources)


def database_reads(spec: ServerSpec) -> dict[str, frozenset[Reference]]:
    """The same of each managed database, by the name that its Secret has too."""
    return {name: references(made(None), ours=frozenset({name})) for name, made in _managed(spec).items()}


def _managed(spec: ServerSpec) -> dict[str, Callable[[str | None], dict[str, Any]]]:
    """The managed databases by their names: each made of the digest of its configuration."""
    found: dict[str, Callable[[str | None], dict[str, Any]]] = {}
    if isinstance(database := spec.database, ManagedDatabase):
        found[statefulset.postgres_name(spec.owner)] = lambda config: statefulset.postgres(spec.owner, database, config=config)
    if isinstance(redis := spec.redis, ManagedDatabase):
        found[statefulset.redis_name(spec.owner)] = lambda config: statefulset.redis(spec.owner, redis, config=config)
    return found


def _references(spec: ServerSpec, sources: Sources) -> frozenset[Reference]:
    ours = frozenset({sources.database.name, sources.redis.name, sources.tokens.name})
    return references(server.deployment(spec, sources), ours=ours)


def _followed(spec: ServerSpec, observed: ObservedServer) -> Sources | None:
    """The configuration with what else the servers read, so that a change of it restarts them too."""
    sources = credentials.sources(spec, observed.secrets)
    if sources is None:
        return None
    return replace(sources, config=followed(sources.config, _references(spec, sources), observed.contents))


def plan(spec: ServerSpec, observed: ObservedServer, *, password: str, now: float) -> ServerPlan:
    """The actions that bring the server to what it should be; `password` is fresh randomness, used at most once."""
    create = tuple(credentials.missing(spec, observed.secrets, observed.claims, password))
    sources = _followed(spec, observed)
    restoring, told = (
        _restoring(spec, observed),
        backup.BackupStatus.of(observed.backups, backup.wanted(spec)).with_endings(observed.jobs.get("backup", ())),
    )
    database, redis = restoring.filled() or _database(spec, observed), _redis(spec, observed)
    migrated = _migrated(spec, observed, sources, database)
    restored = restoring.condition(migrated)
    rollout = _rollout(spec, observed, sources, migrated if restored is None or not migrated.status else restored)
    misplaced = tuple(volumes.misplaced(spec, observed.objects, observed.claims))
    secrets = {**observed.secrets, **{manifest["metadata"]["name"]: manifest for manifest in create}}
    apply = [
        *credentials.completed(spec, observed.secrets),
        *backup.store(spec, observed.claims),
        *([] if misplaced else restoring.volume()),
    ]
    apply += [*_stateful(spec, observed, secrets, restoring, misplaced), *volumes.changed(spec, observed.claims)]
    apply += [service.server(spec), *_optional(spec), *backup.asking(spec, database, told)]
    if sources is not None:
        apply += credentials.derived(spec, observed.secrets)
        if database.status:
            apply.append(server.migration(spec, sources))
        if migrated.status:
            apply += restoring.fence(sources)
        if migrated.status and restoring.fenced:
            apply.append(server.deployment(spec, sources))
    parts = [
        database,
        redis,
        migrated,
        *([] if restored is None else [restored]),
        rollout,
        *route_accepted(spec, observed.objects.get(("HTTPRoute", spec.owner.name))),
    ]
    attempts = [*restoring.attempts(), *([] if sources is None else [_job(spec, observed, sources)])]
    live = observed.objects.get(("Deployment", spec.owner.name), {})
    return ServerPlan(
        create=create,
        apply=tuple(
            marked(manifest)
            for manifest in apply
            if manifest["kind"] != "Job" or ("Job", manifest["metadata"]["name"]) not in observed.objects
        ),
        delete=(*misplaced, *_unwanted(spec, observed), *_old_jobs(observed, attempts, rollout, now)),
        finish=next((attempt.name for attempt in attempts if attempt.kept), None),
        conditions=(
            *summary(
                parts, stalled=_stalled(observed, parts, attempts), waiting_for=next((part for part in parts if part.status is False), None)
            ),
            *_backed_up(spec, observed, told, now),
        ),
        ready_replicas=live.get("status", {}).get("readyReplicas", 0),
        url=f"http://{spec.owner.name}.{spec.owner.namespace}.svc:{spec.service.port}",
        image=_image(live) or spec.image,
        volumes=volumes.sizes(spec, observed.claims),
        backups=told,
    )


# ---- stages -------------------------------------------------------------------------------------------------------


def _restoring(spec: ServerSpec, observed: ObservedServer) -> Restoring:
    return Restoring(
        spec,
        observed.objects,
        observed.jobs,
        pods=observed.pods,
        no_pods=observed.no_pods,
        claims=observed.claims,
        before=observed.before,
    )


def _backed_up(spec: ServerSpec, observed: ObservedServer, told: backup.BackupStatus, now: float) -> Iterator[Condition]:
    """Beside the summary: a server whose backup failed serves as well as before."""
    trouble = next((found for (kind, name), found in observed.no_pods.items() if kind == "Job" and "-postgres-backup-" in name), None)
    found = backup.condition(spec, told, secrets=observed.secrets, pods=observed.pods, trouble=trouble, now=now)
    if found is not None:
        yield found


def _stateful(
    spec: ServerSpec, observed: ObservedServer, secrets: Mapping[str, Json], restoring: Restoring, misplaced: Collection[Key]
) -> Iterator[dict[str, Any]]:
    """The managed databases. Without its Secret one stays as it is: a pod that cannot read its password does not start."""
    if isinstance(spec.database, ManagedDatabase):
        yield service.postgres(spec.owner)
    if isinstance(spec.redis, ManagedDatabase):
        yield service.redis(spec.owner)
    read = database_reads(spec)
    for name, made in _managed(spec).items():
        config, contents = credentials.password_digest(spec, secrets, name), observed.database_contents.get(name, {})
        if name == statefulset.postgres_name(spec.owner) and restoring.holds_up:
            continue
        # In the round that generates the password nothing is known of what else is read: applied now, the database would restart a moment later.
        if config is not None and read[name] <= contents.keys() and not _in_the_way(name, misplaced, observed):
            config = followed(config, read[name], contents)
            yield statefulset.kept(made(config), observed.objects.get(("StatefulSet", name)))


def _in_the_way(name: str, misplaced: Collection[Key], observed: ObservedServer) -> bool:
    """Whether something is to go, or is going, before the StatefulSet can be made with the claim that the spec asks for."""
    claim = statefulset.claim_name(name)
    going = ("StatefulSet", name) not in observed.objects and "deletionTimestamp" in observed.claims.get(claim, {}).get("metadata", {})
    return going or ("StatefulSet", name) in misplaced or ("PersistentVolumeClaim", claim) in misplaced


def _optional(spec: ServerSpec) -> Iterator[dict[str, Any]]:
    if spec.disruption_budget is not None:
        yield disruption.budget(spec, spec.disruption_budget)
    if spec.ingress is not None:
        yield ingress.ingress(spec, spec.ingress)
    if spec.gateway is not None:
        yield ingress.route(spec, spec.gateway)
    if spec.network_policy:
        yield from network.policies(spec)


def _unwanted(spec: ServerSpec, observed: ObservedServer) -> Iterator[Key]:
    """Optional objects of ours that the spec does not ask for any more."""
    wanted = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in _optional(spec)}
    optional = ("PodDisruptionBudget", "Ingress", "HTTPRoute", "NetworkPolicy")
    yield from (key for key in observed.objects if key[0] in optional and key not in wanted)
    yield from backup.unwanted(spec, observed.objects)


def _database(spec: ServerSpec, observed: ObservedServer) -> Condition:
    if spec.database_kind is DatabaseKind.MANAGED:
        closed = credentials.opens(spec, observed.secrets, observed.claims)
        return closed or _stateful_ready("DatabaseReady", statefulset.postgres_name(spec.owner), "postgres", observed)
    return credentials.configured("DatabaseReady", credentials.database_key(spec), observed.secrets)


def _redis(spec: ServerSpec, observed: ObservedServer) -> Condition:
    if spec.redis_kind is RedisKind.MANAGED:
        return _stateful_ready("RedisReady", statefulset.redis_name(spec.owner), "redis", observed)
    return credentials.configured("RedisReady", credentials.redis_key(spec), observed.secrets)


def _stateful_ready(kind: str, name: str, component: str, observed: ObservedServer) -> Condition:
    if observed.objects.get(("StatefulSet", name), {}).get("status", {}).get("readyReplicas", 0) >= 1:
        return Condition(kind, True, "Running", f"{name} is ready")
    if (trouble := observed.no_pods.get(("StatefulSet", name)) or worst(observed.pods.get(component, ()))) is not None:
        return Condition(kind, False, trouble.reason, f"{name}: {trouble.message}")
    return Condition(kind, False, "Starting", f"StatefulSet {name} waits for its pod to be ready")


def _job(spec: ServerSpec, observed: ObservedServer, sources: Sources) -> JobAttempt:
    name = server.migration_name(spec, sources)
    endings = tuple(one for one in observed.endings if one.job == name)
    return JobAttempt(name, observed.objects.get(("Job", name)), endings)


def _migrated(spec: ServerSpec, observed: ObservedServer, sources: Sources | None, database: Condition) -> Condition:
    if sources is None:
        return credentials.waiting("SchemaMigrated", spec, observed.secrets)
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


def _old_jobs(observed: ObservedServer, attempts: Sequence[JobAttempt], rollout: Condition, now: float) -> Iterator[Key]:
    """Migrations of other images and restores of another time once this server serves, and a failed one of now when it is time to try again."""
    ours = {attempt.name: attempt for attempt in attempts}
    for (kind, name), body in observed.objects.items():
        if kind != "Job" or (body["metadata"].get("labels") or {}).get(COMPONENT) == "backup":
            continue
        if (name not in ours and rollout.status) or (name in ours and ours[name].is_over(now)):
            yield kind, name


def _rollout(spec: ServerSpec, observed: ObservedServer, sources: Sources | None, migrated: Condition) -> Condition:
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


def _stalled(observed: ObservedServer, parts: Sequence[Condition], attempts: Sequence[JobAttempt]) -> Condition | None:
    """The part that waits for a person, if one does."""
    told = (pod for component, pods in observed.pods.items() if component != "backup" for pod in pods)
    lasting = {pod.trouble.reason for pod in told if pod.trouble is not None and pod.trouble.lasting}
    lasting |= {*credentials.LASTING, "PodsRefused", "NeverReady"}
    for failed in (attempt.trouble(observed.before) for attempt in attempts):
        if failed is not None:
            lasting = lasting | {failed.reason} if failed.lasting else lasting - {failed.reason}
    return next((part for part in parts if not part.status and part.reason in lasting), None)
