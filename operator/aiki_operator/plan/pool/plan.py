"""What to do for a worker pool in one turn: its builds, their sizes, who drains, and what people are told.

A turn sees the spec, the Deployments and pods that exist, and what the server says of the pool. It depends on nothing that
happened before, only on what is. So a turn that was cut off between any two of its actions, or that runs twice, does no
harm: the next one leads to the same end.

This module puts the plan together. Each kind of action has a function of its own: `builds.py` tells the builds apart,
`handover.py` says which one takes over and when, `sizes.py` how many pods each has, `conditions.py` and `events.py` what
people read. What the operator does not know is a value of its own, `LoadUnavailable`, and never an absent number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiki_operator.manifests.pods.references import Reference, followed, references
from aiki_operator.manifests.worker import deployment
from aiki_operator.plan.difference import marked
from aiki_operator.plan.pool import events
from aiki_operator.plan.pool.builds import PoolBuilds, build_status, builds_to_forget, survey, with_target
from aiki_operator.plan.pool.conditions import ConditionInputs, conditions
from aiki_operator.plan.pool.drain import DrainStep
from aiki_operator.plan.pool.handover import Handover, plan_handover, with_serving_build
from aiki_operator.plan.pool.rollout_state import RolloutState, rollout_state
from aiki_operator.plan.pool.sizes import next_steps, scaling_inputs, scaling_policy, wanted_sizes
from aiki_operator.plan.pool.state import LoadUnavailable, ObservedPool
from aiki_operator.reporting.conditions import Condition, Notice
from aiki_operator.scaling import autoscale
from aiki_operator.scaling.load import Load, RolloutTrial
from aiki_operator.spec.hours import in_force
from aiki_operator.spec.pool import PoolSpec

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PoolMemory:
    """What one operator remembers of a pool between two turns; losing it delays a scale-in and nothing else.

    Each turn makes a new one; `PoolReconciler` keeps the last, until the pool is gone or the process ends.
    """

    scaling: autoscale.ScalingState = field(default_factory=autoscale.ScalingState)
    draining: Mapping[str, float] = field(default_factory=dict)
    seen: tuple[float, RolloutTrial] | None = None
    """When the figures of a roll-out were last told, and which: they need not be written each second."""


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """The actions of one turn, in the order in which they are to be taken, and the status. `plan` makes it."""

    versioning: str | None
    apply: tuple[Json, ...]
    promote: str | None
    share: tuple[str, int] | None
    """A build, and how many of a hundred new runs it gets before it takes over."""
    unshare: str | None
    """A build that gets no new runs any more."""
    drain: tuple[str, ...]
    undrain: tuple[str, ...]
    mark: tuple[str, ...]
    unmark: tuple[str, ...]
    forget: tuple[str, ...]
    """Builds to be deleted at the server; if it agrees, the Deployment goes too."""
    notices: tuple[Notice, ...]
    """The events; each is told once everything in its `about` was done."""
    conditions: tuple[Condition, ...]
    serving: str | None
    builds: tuple[Json, ...]
    rollout: Json | None
    """Where a roll-out stands, for the status."""


def plan(spec: PoolSpec, observed: ObservedPool, memory: PoolMemory, now: float) -> tuple[PoolPlan, PoolMemory]:
    """The actions that bring a pool to what its spec asks for, and what to remember for the next turn.

    `now` is the operator's monotonic clock in seconds; the time of day is in `observed`.
    """
    observed = with_serving_build(spec, observed)
    target, *others = with_target(spec, observed.deployed)
    handover = plan_handover(spec, target, tuple(others), observed)
    rollout = rollout_state(spec.rollout, handover, observed, memory.seen, now)
    builds = survey(spec, observed, serving=handover.promote or observed.serving)
    hours = in_force(spec.hours, datetime.fromtimestamp(observed.at_unix, UTC))
    decision, scaling = autoscale.decide(scaling_policy(spec, hours), memory.scaling, scaling_inputs(builds, rollout), now)
    wanted = wanted_sizes(builds, decision)
    steps = next_steps(builds, wanted, memory.draining, now)
    made = PoolPlan(
        versioning=versioning_to_tell(spec, observed.load),
        apply=workloads(builds, observed, steps),
        promote=handover.promote,
        share=handover.share,
        unshare=handover.unshare,
        drain=tuple(worker for step in steps.values() for worker in step.drain),
        undrain=tuple(worker for step in steps.values() for worker in step.undrain),
        mark=tuple(pod for step in steps.values() for pod in step.mark),
        unmark=tuple(pod for step in steps.values() for pod in step.unmark),
        forget=builds_to_forget(builds),
        notices=notices(builds, observed, handover, steps=steps, decision=decision, rollout=rollout),
        conditions=conditions(ConditionInputs(builds, wanted, decision, hours, rollout)),
        serving=builds.serving,
        builds=tuple(build_status(builds, build, replicas=steps[build.name].replicas) for build in builds.deployed),
        rollout=None if rollout is None else rollout.status(),
    )
    began = {pod: at for step in steps.values() for pod, at in (step.since or {}).items()}
    seen = None if rollout is None else (rollout.seen_at, rollout.trial)
    return made, PoolMemory(scaling, began, seen)


def versioning_to_tell(spec: PoolSpec, load: Load | LoadUnavailable) -> str | None:
    """How the pool's builds share its runs, if the server has to be told: it thinks otherwise, or forgets the pool soon."""
    if isinstance(load, LoadUnavailable) or (load.kept and load.versioning is spec.versioning):
        return None
    return spec.versioning


def workloads(builds: PoolBuilds, observed: ObservedPool, steps: Mapping[str, DrainStep]) -> tuple[Json, ...]:
    """The Deployments of all builds; none until the workers can have a token of the server."""
    config = observed.config
    if not config:
        return ()
    return tuple(
        marked(deployment(build.spec, replicas=steps[build.name].replicas, config=followed(config, reads(build.spec), observed.contents)))
        for build in builds.deployed
    )


def notices(
    builds: PoolBuilds,
    observed: ObservedPool,
    handover: Handover,
    *,
    steps: Mapping[str, DrainStep],
    decision: autoscale.ScalingDecision,
    rollout: RolloutState | None,
) -> tuple[Notice, ...]:
    """All events of the turn; none until the workers can have a token, because nothing is written until then."""
    if observed.config is None:
        return ()
    before = {build.name: build.replicas for build in observed.deployed}
    return (
        *events.resize_notices(builds, before, steps, decision),
        *events.drain_notices(steps, decision),
        *events.promotion_notices(handover.promote),
        *events.rollout_notices(rollout, handover, observed, builds.spec.owner),
    )


def reads(spec: PoolSpec) -> frozenset[Reference]:
    """The Secrets and ConfigMaps that a build takes its environment from, besides the one with the server's token."""
    return references(deployment(spec, replicas=0, config=""), ours=frozenset({spec.secret}))
