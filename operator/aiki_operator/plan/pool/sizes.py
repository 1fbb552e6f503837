"""How many pods each build of a pool should have, and the next step towards that.

`scaling.autoscale` decides from numbers alone. This module gives it the numbers of a pool, and turns its decision into
steps that interrupt no run: a build grows at once, and shrinks only as fast as its workers drain (`drain.py`).

If the operator cannot read the load, it keeps every size, because nobody can be drained without the server. It makes two
exceptions: a pool that never had a pod gets its first, and a size that a person has set (`kubectl scale`) is followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from aiki_operator.plan.pool.builds import PoolBuilds
from aiki_operator.plan.pool.drain import DrainStep, shrink
from aiki_operator.plan.pool.rollout_state import RolloutState
from aiki_operator.plan.pool.state import DeployedBuild, LoadUnavailable
from aiki_operator.scaling.autoscale import UNKNOWN, Demand, LoadRates, ScaledBuild, ScalingDecision, ScalingInputs, ScalingPolicy
from aiki_operator.scaling.load import Load
from aiki_operator.spec.hours import MinimumWindow
from aiki_operator.spec.pool import PoolSpec, Versioning


def scaling_policy(spec: PoolSpec, hours: MinimumWindow | None) -> ScalingPolicy:
    """The settings of a spec as the autoscaler takes them; `hours` are the ones in force that raise the minimum."""
    scaling = spec.autoscaling
    return ScalingPolicy(
        max(spec.min_replicas, 0 if hours is None else hours.minimum),
        spec.max_replicas,
        spec.concurrency,
        utilization=scaling.utilization,
        backlog_seconds=scaling.backlog_seconds,
        stabilization_seconds=scaling.stabilization_seconds,
        lead_seconds=scaling.lead_seconds,
        fixed=spec.replicas,
    )


def scaling_inputs(builds: PoolBuilds, rollout: RolloutState | None) -> ScalingInputs:
    """The builds that the autoscaler decides about. The build that serves gets the new runs, until the target takes over."""
    names = [build.name for build in builds.deployed]
    latest = builds.serving if builds.serving in names else builds.spec.build
    scaled = tuple(_scaled(builds, build, latest=build.name == latest) for build in builds.deployed if build.name not in builds.retired)
    inputs = ScalingInputs(scaled, LoadRates() if isinstance(builds.load, LoadUnavailable) else builds.load.rates)
    return inputs if rollout is None else rollout.shared(inputs)


def _scaled(builds: PoolBuilds, build: DeployedBuild, *, latest: bool) -> ScaledBuild:
    load, is_target = builds.load, build.name == builds.spec.build
    if isinstance(load, LoadUnavailable):
        first = is_target and build.replicas == 0 and builds.serving is None
        return ScaledBuild(build.name, build.replicas, UNKNOWN, latest=latest, starting=first)
    known = load.build(build.name)
    # Until the target serves it gets one pod, to learn what it carries and to show that it can. So it does if the server
    # has forgotten it, because its database is a new one: without a pod nobody would ever register the build again.
    starting = is_target and (builds.serving != builds.spec.build or known is None)
    demand = _demand(builds, build.name, load, latest=latest)
    return ScaledBuild(build.name, build.replicas, demand, latest=latest, starting=starting, partial=not load.complete)


def _demand(builds: PoolBuilds, build: str, load: Load, *, latest: bool) -> Demand:
    """What a build has to do. Runs that sleep come to the latest build when they wake, if versions share the builds."""
    known = load.build(build)
    demand = Demand() if known is None else known.demand
    return replace(demand, due=load.due) if latest and builds.spec.versioning is Versioning.BY_VERSION else demand


def wanted_sizes(builds: PoolBuilds, decision: ScalingDecision) -> dict[str, int]:
    """The size that each build should have in the end; a retired one has none."""
    return {build.name: _wanted(builds, build, decision) for build in builds.deployed}


def _wanted(builds: PoolBuilds, build: DeployedBuild, decision: ScalingDecision) -> int:
    if build.name in builds.retired:
        return 0
    target = decision.of(build.name)
    return build.replicas if target is None else target.replicas


def next_steps(builds: PoolBuilds, wanted: Mapping[str, int], draining: Mapping[str, float], now: float) -> dict[str, DrainStep]:
    """What to do for each build in this turn. `draining` says when each pod began to drain, on the clock of `now`."""
    return {build.name: _next_step(builds, build, wanted[build.name], draining, now) for build in builds.deployed}


def _next_step(builds: PoolBuilds, build: DeployedBuild, wanted: int, draining: Mapping[str, float], now: float) -> DrainStep:
    load, spec = builds.load, builds.spec
    if isinstance(load, LoadUnavailable):
        followed = wanted > build.replicas or spec.replicas is not None
        return DrainStep(wanted if followed else build.replicas, since=draining)
    return shrink(
        replicas=build.replicas,
        target=wanted,
        pods=build.pods,
        workers=[worker for worker in load.workers if worker.build == build.name],
        since=draining,
        timeout=spec.drain_timeout_seconds,
        now=now,
    )
