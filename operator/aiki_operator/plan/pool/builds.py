"""The builds of a pool: which there are, which one serves, and which have nothing left to do.

A pool has a build for each image and template that it was given and that is still needed. The *target* is the build that
the spec asks for. A build is *retired* if it is not the target and no run needs it. Retired builds that served last are
*kept*: they have a Deployment without pods and stay registered, so a former image or template is back at once. All other
retired builds may be forgotten, but only when their last pod is gone.

If the operator cannot read the load, it retires and forgets nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiki_operator.manifests.worker import deployment_name
from aiki_operator.plan.pool.state import DeployedBuild, LoadUnavailable, ObservedPool
from aiki_operator.scaling.load import BuildLoad, Load
from aiki_operator.spec.pool import PoolSpec

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PoolBuilds:
    """The builds of one pool in one turn; `survey` makes it, and it lives until the turn ends."""

    spec: PoolSpec
    load: Load | LoadUnavailable
    deployed: tuple[DeployedBuild, ...]
    """The target first, whether it has a Deployment yet or not; then the others, newest first."""
    serving: str | None
    """The build that serves, or does when this turn's promotion has reached the server; None until a first build has."""
    retired: frozenset[str]
    kept: frozenset[str]

    @property
    def target(self) -> DeployedBuild:
        """The build that the spec asks for."""
        return self.deployed[0]

    def known(self, build: str) -> BuildLoad | None:
        """What the server says of a build; None if it does not know the build, or does not answer."""
        return None if isinstance(self.load, LoadUnavailable) else self.load.build(build)


def with_target(spec: PoolSpec, deployed: tuple[DeployedBuild, ...]) -> tuple[DeployedBuild, ...]:
    """All builds of a pool, the one that the spec asks for first; it has no pods if it has no Deployment yet."""
    target = next((build for build in deployed if build.name == spec.build), DeployedBuild(spec, 0, ()))
    return (replace(target, spec=spec), *(build for build in deployed if build.name != spec.build))


def survey(spec: PoolSpec, observed: ObservedPool, *, serving: str | None) -> PoolBuilds:
    """Tells the builds of a pool apart; `serving` is the build that is to serve when the turn is over."""
    deployed, load = with_target(spec, observed.deployed), observed.load
    if isinstance(load, LoadUnavailable):
        return PoolBuilds(spec, load, deployed, serving, frozenset(), frozenset())
    retired = frozenset(build.name for build in deployed if is_retired(spec, build.name, load, serving))
    return PoolBuilds(spec, load, deployed, serving, retired, kept_builds(retired, load, limit=spec.revision_limit))


def is_retired(spec: PoolSpec, build: str, load: Load, serving: str | None) -> bool:
    """Whether a build has nothing left to do: it is not the target, no run needs it, and what it served the target serves now."""
    if build == spec.build:
        return False
    known = load.build(build)
    if known is None:
        return True
    return known.idle and (serving == spec.build or not known.promoted)


def kept_builds(retired: frozenset[str], load: Load, *, limit: int) -> frozenset[str]:
    """The retired builds to keep: of those that have served, the `limit` that served last.

    A build that never served is not kept, because nobody can want to go back to it.
    """
    served = [build for build in load.builds if build.name in retired and build.promoted]
    latest = sorted(served, key=lambda build: (build.promoted_at, build.name), reverse=True)
    return frozenset(build.name for build in latest[:limit])


def builds_to_forget(builds: PoolBuilds) -> tuple[str, ...]:
    """The builds to delete at the server: retired ones without a pod that are not kept, and idle ones without a Deployment."""
    if isinstance(builds.load, LoadUnavailable):
        return ()
    gone = builds.retired - builds.kept
    empty = [build.name for build in builds.deployed if build.name in gone and build.replicas == 0 and not build.pods]
    names = {build.name for build in builds.deployed}
    return (*empty, *(build.name for build in builds.load.builds if build.name not in names and build.idle))


def build_status(builds: PoolBuilds, build: DeployedBuild, *, replicas: int) -> Json:
    """What the pool's status says of a build. Open runs are counted only for a build that drains: it waits for them."""
    state, known = build_state(builds, build, replicas=replicas), builds.known(build.name)
    found: dict[str, Any] = {
        "name": build.name,
        "deployment": deployment_name(builds.spec.owner.name, build.name),
        "image": build.spec.image,
        "state": state,
        "replicas": replicas,
        "readyReplicas": build.ready,
    }
    return {**found, "openRuns": known.needed} if known is not None and state == "Draining" else found


def build_state(builds: PoolBuilds, build: DeployedBuild, *, replicas: int) -> str:
    """One word for what a build does: Serving, Trial, Starting, Draining or Kept."""
    if build.name in builds.kept and not replicas and not build.pods:
        return "Kept"
    if build.name == builds.serving:
        return "Serving"
    if build.name != builds.spec.build:
        return "Draining"
    load = builds.load
    tried = isinstance(load, Load) and load.trial is not None and load.trial.build == build.name
    return "Trial" if tried else "Starting"
