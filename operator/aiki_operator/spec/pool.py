"""What users ask for of a worker pool: an AikiWorkerPool as a value.

The CRD's schema has checked and defaulted what arrives here; the defaults are repeated so that objects written before a field existed mean the
same. Nothing behind this module reads a raw pool's spec.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from aiki_operator.names import CONTINUE, DEFAULT_NAMESPACE, digest, pool_secret, worker_secret
from aiki_operator.spec.hours import MinimumWindow, parse_windows
from aiki_operator.spec.owner import Owner, names_of, namespace_of, parse_owner, server_of
from aiki_operator.spec.placement import FIELDS, Budget, Json, Spread, Template, parse_budget, parse_spread, parse_template
from aiki_operator.spec.steps import Rollout, parse_rollout

CHOSEN = ("image", "command", "args", "env", "envFrom", "template")
"""The members of a pool's spec that make a build; everything else may change under running pods."""


REVISION_LIMIT = 2
"""One build to go back to, and the one before it. A Deployment keeps ten, but what is kept here stays registered at the server as well."""


class Versioning(StrEnum):
    """Whether a new build takes over running work (ByVersion), or each run stays on its build (Pinned)."""

    BY_VERSION = "ByVersion"
    PINNED = "Pinned"


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """How a pool follows its load; durations in seconds."""

    utilization: float
    backlog_seconds: float
    stabilization_seconds: float
    lead_seconds: float


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """An AikiWorkerPool. `pool` is its name at the server; `replicas`, where set, switches the autoscaler off."""

    owner: Owner
    server: str
    server_namespace: str
    namespace: str
    """The Aiki namespace whose runs the pool works on."""
    pool: str
    image: str
    pull_policy: str
    pull_secrets: tuple[str, ...]
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: tuple[Json, ...]
    env_from: tuple[Json, ...]
    resources: Json
    concurrency: int
    replicas: int | None
    min_replicas: int
    hours: tuple[MinimumWindow, ...]
    """In which the pool is never smaller than they say."""
    max_replicas: int
    autoscaling: Autoscaling
    drain_timeout_seconds: int
    versioning: Versioning
    rollout: Rollout | None
    continue_word: str
    """What a person has said to a roll-out that waits: `BUILD/STEP` or `BUILD/all`; empty if nothing."""
    revision_limit: int
    """How many builds that served, and have nothing to do any more, are kept to go back to."""
    disruption_budget: Budget | None
    spread: tuple[Spread, ...]
    template: Template

    chosen: Json
    build: str
    """The name of the build: a digest of what the user chose for the pod, and of nothing that the operator adds.

    So an upgrade of the operator never makes a new build of anybody's pool.
    """

    @property
    def own_secret(self) -> bool:
        """Whether the pool cannot read the server's own Secret for workers, and needs one beside itself."""
        return self.server_namespace != self.owner.namespace or self.namespace != DEFAULT_NAMESPACE

    @property
    def secret(self) -> str:
        """The Secret that tells the pool's workers where the server is, and their token."""
        return pool_secret(self.owner.name) if self.own_secret else worker_secret(self.server)


def parse_pool(body: Json) -> PoolSpec:
    """An AikiWorkerPool from its object."""
    spec = body["spec"]
    chosen = {name: spec[name] for name in CHOSEN if spec.get(name)}
    scaling = spec.get("autoscaling", {})
    return PoolSpec(
        owner=parse_owner(body),
        server=spec["serverRef"]["name"],
        server_namespace=server_of(body)[0],
        namespace=namespace_of(body),
        pool=spec.get("pool") or body["metadata"]["name"],
        image=spec["image"],
        pull_policy=spec.get("imagePullPolicy", "IfNotPresent"),
        pull_secrets=names_of(spec.get("imagePullSecrets", [])),
        command=tuple(spec.get("command", [])),
        args=tuple(spec.get("args", [])),
        env=tuple(spec.get("env", [])),
        env_from=tuple(spec.get("envFrom", [])),
        resources=spec.get("resources", {}),
        concurrency=spec.get("concurrency", 10),
        replicas=spec.get("replicas"),
        min_replicas=spec.get("minReplicas", 0),
        hours=parse_windows(spec.get("minReplicasByTime", ())),
        max_replicas=spec.get("maxReplicas", 10),
        autoscaling=Autoscaling(
            utilization=scaling.get("utilizationPercent", 80) / 100,
            backlog_seconds=scaling.get("backlogSeconds", 30),
            stabilization_seconds=scaling.get("stabilizationSeconds", 60),
            lead_seconds=scaling.get("leadSeconds", 15),
        ),
        drain_timeout_seconds=spec.get("drain", {}).get("timeoutSeconds", 300),
        versioning=Versioning(spec.get("versioning", "ByVersion")),
        rollout=parse_rollout(spec.get("rollout")),
        continue_word=(body["metadata"].get("annotations") or {}).get(CONTINUE, ""),
        revision_limit=spec.get("revisionLimit", REVISION_LIMIT),
        disruption_budget=parse_budget(spec["podDisruptionBudget"]) if "podDisruptionBudget" in spec else None,
        spread=parse_spread(spec),
        template=parse_template(spec, *FIELDS),
        chosen=chosen,
        build=digest(chosen),
    )


def parse_build(body: Json, chosen: Json, build: str) -> PoolSpec:
    """An older build of a pool: what was chosen then, and everything else as it is now. Its name is that of its Deployment's label."""
    now = {name: value for name, value in body["spec"].items() if name not in CHOSEN}
    return replace(parse_pool({**body, "spec": {**now, **chosen}}), build=build)
