"""The events of a pool: what people see in `kubectl describe` when a build is resized, drained, promoted or tried out.

An event is told once, and only if the thing that it tells of was done: each names in `about` what must have succeeded.
That is a Deployment by its name, a worker by its id, a promotion by its build, and a share by `share_name`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aiki_operator.manifests.worker import deployment_name
from aiki_operator.plan.pool.builds import PoolBuilds
from aiki_operator.plan.pool.drain import DrainStep
from aiki_operator.plan.pool.handover import Handover
from aiki_operator.plan.pool.progress import RolloutStage, describe_start
from aiki_operator.plan.pool.rollout_state import RolloutState
from aiki_operator.plan.pool.state import ObservedPool
from aiki_operator.reporting.conditions import Notice
from aiki_operator.scaling.autoscale import ScalingDecision
from aiki_operator.spec.owner import Owner


def resize_notices(
    builds: PoolBuilds, before: Mapping[str, int], steps: Mapping[str, DrainStep], decision: ScalingDecision
) -> Iterator[Notice]:
    """One event for each build whose size changes; `before` has the sizes of the Deployments that there are."""
    for name, step in steps.items():
        size = before.get(name, 0)
        if step.replicas != size:
            yield Notice(
                "ScaledUp" if step.replicas > size else "ScaledDown",
                f"build {name}: {size} to {step.replicas} pods: {why(name, decision)}",
                about=frozenset({deployment_name(builds.spec.owner.name, name)}),
            )


def drain_notices(steps: Mapping[str, DrainStep], decision: ScalingDecision) -> Iterator[Notice]:
    """One event for each build whose workers begin to drain."""
    for name, step in steps.items():
        if step.drain:
            message = f"build {name}: {', '.join(step.drain)} stop claiming, for {why(name, decision)}"
            yield Notice("Draining", message, about=frozenset(step.drain))


def promotion_notices(promote: str | None) -> Iterator[Notice]:
    """The event of a build that takes over."""
    if promote is not None:
        message = f"build {promote} is ready and takes over the workflow versions that it carries"
        yield Notice("Promoted", message, about=frozenset({promote}))


def rollout_notices(state: RolloutState | None, handover: Handover, observed: ObservedPool, owner: Owner) -> Iterator[Notice]:
    """The event of a step that begins, or of one that waits for a person.

    That a build is held by its gate is told by the conditions, because it is trouble.
    """
    if state is None or state.progress == observed.progress:
        return
    before, progress = observed.progress, state.progress
    about = frozenset({share_name(*handover.share)}) if handover.share is not None else frozenset[str]()
    if before is None or (before.build, before.step, before.since) != (progress.build, progress.step, progress.since):
        yield Notice("RolloutStep", describe_start(state.rollout, progress), about=about)
    elif progress.stage is RolloutStage.PAUSED:
        yield Notice("RolloutPaused", f"build {progress.build} {state.describe(owner, str(observed.serving))}", about=about)


def share_name(build: str, percent: int) -> str:
    """The name under which a turn notes that the server knows of a share."""
    return f"{build} {percent}%"


def why(build: str, decision: ScalingDecision) -> str:
    """Why a build has its size, in the words of the autoscaler."""
    target = decision.of(build)
    if target is None:
        return "no run needs it any more"
    limited = f", limited by {decision.limit}" if decision.limit and target.replicas != target.wanted else ""
    return f"{target.reason}{limited}"
