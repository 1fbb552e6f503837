"""When a new build takes over from the one that serves: at once, or in steps that a roll-out asks for.

At once, where there is nothing to compare it with or to fall back to (a first build, a former one that is gone), and where it has served before: the way
back takes no steps. What the server is told follows from what it says and from the steps, so an order that got lost is given again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from aiki_operator.plan.pods import blocking
from aiki_operator.plan.pool.progress import RolloutProgress, advanced, percent_of
from aiki_operator.plan.pool.state import DeployedBuild, ObservedPool
from aiki_operator.scaling.load import Load, RolloutTrial
from aiki_operator.spec.pool import PoolSpec
from aiki_operator.spec.steps import Rollout


@dataclass(frozen=True, slots=True)
class Handover:
    """What to tell the server, and where the roll-out stands, if there is one."""

    promote: str | None = None
    share: tuple[str, int] | None = None
    """A build, and how many of a hundred new runs it gets."""
    unshare: str | None = None
    progress: RolloutProgress | None = None
    trial: RolloutTrial | None = None
    """How the runs fare that were drawn for the build."""


def with_serving_build(spec: PoolSpec, observed: ObservedPool) -> ObservedPool:
    """What is observed, with the build that serves where the status has lost it: a new build would take no steps, for there would be none before it."""
    load = observed.load
    if observed.serving is not None or not isinstance(load, Load):
        return observed
    target, deployed = load.build(spec.build), {build.name for build in observed.deployed}
    served = [build for build in load.builds if build.promoted and build.name in deployed and build.name != spec.build]
    if not served or (target is not None and target.promoted):
        return observed
    return replace(observed, serving=max(served, key=lambda build: (build.promoted_at, build.name)).name)


def plan_handover(spec: PoolSpec, target: DeployedBuild, others: tuple[DeployedBuild, ...], observed: ObservedPool) -> Handover:
    """What becomes of the build that the spec asks for."""
    load, before = observed.load, observed.progress
    if not isinstance(load, Load):
        goes_on = before is not None and before.build == spec.build and observed.serving != spec.build
        return Handover(progress=before if goes_on else None)
    ready = _may_promote(target, load, observed.serving)
    stale = load.trial.build if load.trial is not None and load.trial.build != spec.build else None
    rollout = _asked_for(spec, others, load, observed.serving)
    if rollout is None:
        ended = stale or (load.trial.build if load.trial is not None and not ready else None)
        return Handover(promote=spec.build if ready else None, unshare=ended)
    if not ready and (before is None or before.build != spec.build):
        return Handover(unshare=stale)
    trial = load.trial if load.trial is not None and stale is None else RolloutTrial(spec.build, 0)
    trouble = blocking(target.refused, target.pods)
    sick = target.ready == 0 and trouble is not None and trouble.lasting
    progress = advanced(rollout, before, spec.build, trial=trial, sick=sick, word=spec.continue_word, now=observed.at_unix)
    if progress is None:
        # Until a pod of it is ready again it stays where it is.
        return Handover(promote=spec.build, unshare=stale) if ready else Handover(progress=before, unshare=stale, trial=trial)
    wanted = spec.build, percent_of(rollout, progress)
    told = load.trial is not None and (load.trial.build, load.trial.percent) == wanted
    return Handover(_forgotten(load, observed.serving), None if told else wanted, stale, progress, trial)


def _asked_for(spec: PoolSpec, others: tuple[DeployedBuild, ...], load: Load, serving: str | None) -> Rollout | None:
    """The steps that the build takes before it serves, if it takes any."""
    known = load.build(spec.build)
    if spec.rollout is None or serving in (None, spec.build) or (known is not None and known.promoted):
        return None
    former = any(build.name == serving for build in others) and load.build(str(serving)) is not None
    return spec.rollout if former else None


def _may_promote(target: DeployedBuild, load: Load, serving: str | None) -> bool:
    """A build takes over once a pod of it is ready and registered, and not before."""
    known = load.build(target.name)
    if known is None or (known.promoted and serving == target.name):
        return False
    working = {worker.pod for worker in load.workers if worker.build == target.name}
    return any(pod.ready and not pod.leaving and pod.name in working for pod in target.pods)


def _forgotten(load: Load, serving: str | None) -> str | None:
    """The build that serves, where the server does not know that it does: its database is another one."""
    known = load.build(str(serving))
    return serving if known is not None and not known.promoted else None
