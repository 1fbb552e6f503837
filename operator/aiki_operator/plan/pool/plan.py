"""What is to be done for a worker pool: builds, their sizes, who drains, what people are told.

Built from the spec, the Deployments and pods that are there, and the server's view of the pool. Nothing here depends on
what happened, only on what is: running it twice, or after a crash between any two actions, leads to the same end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from aiki_operator.manifests.pods.references import Reference, followed, references
from aiki_operator.manifests.worker import deployment, deployment_name
from aiki_operator.plan.difference import marked
from aiki_operator.plan.pool import drain
from aiki_operator.plan.pool.conditions import ConditionInputs, conditions
from aiki_operator.plan.pool.handover import handover, recalled
from aiki_operator.plan.pool.revisions import kept_builds
from aiki_operator.plan.pool.rollout_state import rollout_notices, rollout_state
from aiki_operator.plan.pool.state import DeployedBuild, ObservedPool
from aiki_operator.reporting.conditions import Condition, Notice
from aiki_operator.scaling import autoscale
from aiki_operator.scaling.load import BuildLoad, Load, RolloutTrial
from aiki_operator.spec.hours import in_force
from aiki_operator.spec.specs import PoolSpec, Versioning

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PoolMemory:
    """What one operator remembers of a pool; losing it delays a scale-in and nothing else."""

    scaling: autoscale.ScalingState = field(default_factory=autoscale.ScalingState)
    draining: Mapping[str, float] = field(default_factory=dict)
    seen: tuple[float, RolloutTrial] | None = None
    """When the figures of a roll-out were last told, and which: they need not be written each second."""


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """The actions, in the order in which they are to be taken, and the status."""

    versioning: str | None
    apply: tuple[Json, ...]
    promote: str | None
    share: tuple[str, int] | None
    """A build, and how many of a hundred new runs it gets before it takes over."""
    unshare: str | None
    """A build that gets none any more."""
    drain: tuple[str, ...]
    undrain: tuple[str, ...]
    mark: tuple[str, ...]
    unmark: tuple[str, ...]
    forget: tuple[str, ...]
    """Builds to be deleted at the server; where it agrees, the Deployment goes too."""
    notices: tuple[Notice, ...]
    """What to tell people once what it is about was done: Deployments by name, workers by id, a promotion by its build, a share by `share_name`."""
    conditions: tuple[Condition, ...]
    serving: str | None
    builds: tuple[Json, ...]
    rollout: Json | None
    """Where a roll-out stands, for the status."""


def plan(spec: PoolSpec, observed: ObservedPool, memory: PoolMemory, now: float) -> tuple[PoolPlan, PoolMemory]:
    """The actions that bring the pool to what it should be."""
    observed = recalled(spec, observed)
    load = observed.load if isinstance(observed.load, Load) else None
    deployed = _with_target(spec, observed)
    hand = handover(spec, deployed[0], deployed[1:], observed)
    promote, serving = hand.promote, hand.promote or observed.serving
    state = rollout_state(spec.rollout, hand, observed, memory.seen, now)
    retired = {build.name for build in deployed if load is not None and _retired(spec, build.name, load, serving)}
    kept = set() if load is None else kept_builds(retired, load, limit=spec.revision_limit)
    hours = in_force(spec.hours, datetime.fromtimestamp(observed.at_unix, UTC))
    policy = _policy(spec, minimum=max(spec.min_replicas, 0 if hours is None else hours.minimum))
    inputs = _inputs(spec, deployed, load, serving, retired)
    decision, scaling = autoscale.decide(policy, memory.scaling, inputs if state is None else state.shared(inputs), now)
    wanted = {build.name: _size(build, decision, retired) for build in deployed}
    steps = {build.name: _step(spec, build, load, wanted=wanted[build.name], memory=memory, now=now) for build in deployed}
    apply = tuple(
        marked(_workload(build.spec, observed, steps[build.name].replicas, observed.config)) for build in deployed if observed.config
    )
    began = {pod: at for step in steps.values() for pod, at in (step.since or {}).items()}
    made = PoolPlan(
        versioning=spec.versioning if load is not None and not (load.kept and load.versioning is spec.versioning) else None,
        apply=apply,
        promote=promote,
        share=hand.share,
        unshare=hand.unshare,
        drain=tuple(worker for step in steps.values() for worker in step.drain),
        undrain=tuple(worker for step in steps.values() for worker in step.undrain),
        mark=tuple(pod for step in steps.values() for pod in step.mark),
        unmark=tuple(pod for step in steps.values() for pod in step.unmark),
        forget=_forgotten(deployed, load, retired - kept),
        notices=(
            *_notices(spec.owner.name, observed.deployed, steps, decision, promote),
            *rollout_notices(state, hand, observed, spec.owner),
        )
        if observed.config is not None
        else (),
        conditions=conditions(ConditionInputs(spec, observed.load, deployed, wanted, decision, serving, hours, state)),
        serving=serving,
        rollout=None if state is None else state.status(),
        builds=tuple(_build_status(spec, build, load, serving, replicas=steps[build.name].replicas, kept=kept) for build in deployed),
    )
    seen = (state.seen_at, state.trial) if state is not None else None
    return made, replace(memory, scaling=scaling, draining=began, seen=seen)


def reads(spec: PoolSpec) -> frozenset[Reference]:
    """The Secrets and ConfigMaps that a build takes its environment from, besides the server's client Secret."""
    return references(deployment(spec, replicas=0, config=""), ours=frozenset({spec.secret}))


def _workload(spec: PoolSpec, observed: ObservedPool, replicas: int, config: str) -> Json:
    return deployment(spec, replicas=replicas, config=followed(config, reads(spec), observed.contents))


def _with_target(spec: PoolSpec, observed: ObservedPool) -> tuple[DeployedBuild, ...]:
    """The builds, the one of the spec first, whether it has a Deployment yet or not."""
    target = next((build for build in observed.deployed if build.name == spec.build), DeployedBuild(spec, 0, ()))
    return (replace(target, spec=spec), *(build for build in observed.deployed if build.name != spec.build))


def _retired(spec: PoolSpec, build: str, load: Load, serving: str | None) -> bool:
    """Whether a build has nothing left to do: it is not the target, and what it did the target does now."""
    known = load.build(build)
    if build == spec.build:
        return False
    if known is None or not known.promoted:
        return known is None or known.idle
    return known.idle and serving == spec.build


def _policy(spec: PoolSpec, *, minimum: int) -> autoscale.ScalingPolicy:
    scaling = spec.autoscaling
    return autoscale.ScalingPolicy(
        minimum,
        spec.max_replicas,
        spec.concurrency,
        utilization=scaling.utilization,
        backlog_seconds=scaling.backlog_seconds,
        stabilization_seconds=scaling.stabilization_seconds,
        lead_seconds=scaling.lead_seconds,
        fixed=spec.replicas,
    )


def _inputs(
    spec: PoolSpec, deployed: tuple[DeployedBuild, ...], load: Load | None, serving: str | None, retired: set[str]
) -> autoscale.ScalingInputs:
    """The builds for the decision. Until the target serves, the one that serves now stays the latest."""
    names = [build.name for build in deployed]
    latest = serving if serving in names else spec.build
    builds = [_scaled(spec, build, load, serving, latest=build.name == latest) for build in deployed if build.name not in retired]
    return autoscale.ScalingInputs(tuple(builds), load.rates if load is not None else autoscale.LoadRates())


def _scaled(spec: PoolSpec, build: DeployedBuild, load: Load | None, serving: str | None, *, latest: bool) -> autoscale.ScaledBuild:
    known = load.build(build.name) if load is not None else None
    demand = None if load is None else known.demand if known is not None else autoscale.Demand()
    if load is not None and demand is not None and latest and spec.versioning is Versioning.BY_VERSION:
        demand = replace(demand, due=load.due)  # all sleeping runs will come to it
    # Until it serves, one pod: to learn what it carries, and to show that it can. So too where the server has forgotten it, with a
    # new database; without it there would never be a pod to tell. Without the server, only if it is new.
    unknown = serving != spec.build or known is None
    starting = build.name == spec.build and (unknown if load is not None else build.replicas == 0 and serving is None)
    return autoscale.ScaledBuild(
        build.name, build.replicas, demand, latest=latest, starting=starting, partial=load is not None and not load.complete
    )


def _size(build: DeployedBuild, decision: autoscale.ScalingDecision, retired: set[str]) -> int:
    target = decision.of(build.name)
    return 0 if build.name in retired else target.replicas if target is not None else build.replicas


def _step(spec: PoolSpec, build: DeployedBuild, load: Load | None, *, wanted: int, memory: PoolMemory, now: float) -> drain.DrainStep:
    if load is None:
        # Without the server nobody can be drained; `kubectl scale` is the one order that is followed all the same.
        return drain.DrainStep(wanted if wanted > build.replicas or spec.replicas is not None else build.replicas, since=memory.draining)
    workers = [worker for worker in load.workers if worker.build == build.name]
    return drain.shrink(
        replicas=build.replicas,
        target=wanted,
        pods=build.pods,
        workers=workers,
        since=memory.draining,
        timeout=spec.drain_timeout_seconds,
        now=now,
    )


def _forgotten(deployed: tuple[DeployedBuild, ...], load: Load | None, retired: set[str]) -> tuple[str, ...]:
    """Builds that may go: retired ones without a pod that are not kept, and those that the server knows but that have no Deployment any more."""
    if load is None:
        return ()
    empty = [build.name for build in deployed if build.name in retired and build.replicas == 0 and not build.pods]
    names = {build.name for build in deployed}
    lost = [build.name for build in load.builds if build.name not in names and build.idle]
    return (*empty, *lost)


def _notices(
    pool: str,
    before: tuple[DeployedBuild, ...],
    steps: Mapping[str, drain.DrainStep],
    decision: autoscale.ScalingDecision,
    promote: str | None,
) -> tuple[Notice, ...]:
    sizes = {build.name: build.replicas for build in before}
    found = [
        Notice(
            "ScaledUp" if step.replicas > sizes.get(name, 0) else "ScaledDown",
            _scaled_from(name, sizes.get(name, 0), step, decision),
            about=frozenset({deployment_name(pool, name)}),
        )
        for name, step in steps.items()
        if step.replicas != sizes.get(name, 0)
    ]
    for name, step in steps.items():
        if step.drain:
            message = f"build {name}: {', '.join(step.drain)} stop claiming, for {_why(name, decision)}"
            found.append(Notice("Draining", message, about=frozenset(step.drain)))
    if promote is not None:
        message = f"build {promote} is ready and takes over the workflow versions that it carries"
        found.append(Notice("Promoted", message, about=frozenset({promote})))
    return tuple(found)


def _scaled_from(name: str, before: int, step: drain.DrainStep, decision: autoscale.ScalingDecision) -> str:
    return f"build {name}: {before} to {step.replicas} pods: {_why(name, decision)}"


def _why(name: str, decision: autoscale.ScalingDecision) -> str:
    target = decision.of(name)
    if target is None:
        return "no run needs it any more"
    limited = f", limited by {decision.limit}" if decision.limit and target.replicas != target.wanted else ""
    return f"{target.reason}{limited}"


def _build_status(spec: PoolSpec, build: DeployedBuild, load: Load | None, serving: str | None, *, replicas: int, kept: set[str]) -> Json:
    known: BuildLoad | None = load.build(build.name) if load is not None else None
    state = "Serving" if build.name == serving else "Starting" if build.name == spec.build else "Draining"
    if load is not None and load.trial is not None and load.trial.build == build.name and state == "Starting":
        state = "Trial"
    if build.name in kept and not replicas and not build.pods:
        state = "Kept"
    found: dict[str, Any] = {
        "name": build.name,
        "deployment": deployment_name(spec.owner.name, build.name),
        "image": build.spec.image,
        "state": state,
        "replicas": replicas,
        "readyReplicas": build.ready,
    }
    return {**found, "openRuns": known.needed} if known is not None and state == "Draining" else found
