"""What a worker pool says of itself: whether the server answers, who serves, what limits the size, and what the pods lack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiki_operator.plan.pods import PodProblem, blocking
from aiki_operator.plan.pool.builds import PoolBuilds
from aiki_operator.plan.pool.progress import RolloutStage
from aiki_operator.plan.pool.rollout_state import RolloutState
from aiki_operator.plan.pool.state import DeployedBuild, LoadUnavailable
from aiki_operator.reporting.conditions import Condition, summary
from aiki_operator.scaling import autoscale
from aiki_operator.scaling.load import Load, UnservedKind
from aiki_operator.spec.hours import MinimumWindow, unknown_zones
from aiki_operator.spec.pool import PoolSpec

GRACE_SECONDS = 10.0
"""How long the server may be silent before the conditions say so; the sizes are held from the first second."""
UNSERVED_SECONDS = 10.0
"""How long runs may be queued that no worker would read: a new build registers what it carries in less."""
LATE_SECONDS = 60.0
"""The same for runs whose worker is only away: its pod starts in less, as a rule."""
PASSING = frozenset({"Crashed", "CrashLoop"})
"""Troubles of a single pod that the pods beside it make up for."""


@dataclass(frozen=True, slots=True)
class ConditionInputs:
    """What there is to say of a pool: the builds, the spec's first, the sizes that they should have, and which one serves."""

    builds: PoolBuilds
    wanted: Mapping[str, int]
    """The size that each build should have in the end."""
    decision: autoscale.ScalingDecision
    hours: MinimumWindow | None
    """The hours in which the pool has another minimum, if it is in any."""
    rollout: RolloutState | None = None
    """Where a roll-out in steps stands, if there is one."""


@dataclass(frozen=True, slots=True)
class _ConditionPart:
    """A part, and whether Ready waits for it: because of a person, or because of time."""

    condition: Condition
    waits: bool
    stalled: bool = False


def conditions(account: ConditionInputs) -> tuple[Condition, ...]:
    """The conditions of a pool, Ready, Reconciling and Stalled first."""
    spec = account.builds.spec
    server, scaling, rollout = _server(account.builds.load), _scaling(spec, account.builds.load), _rollout(account)
    pods, served = _pods(account), _served(account)
    parts = [
        server.condition,
        _registered(spec, account.builds.load),
        scaling.condition,
        _limited(account),
        rollout.condition,
        pods.condition,
        served.condition,
    ]
    found = (server, rollout, scaling, pods, served)
    stalled = next((part.condition for part in found if part.stalled), None)
    return tuple(summary(parts, stalled=stalled, waiting_for=next((part.condition for part in found if part.waits), None)))


def _server(load: Load | LoadUnavailable) -> _ConditionPart:
    match load:
        case LoadUnavailable(seconds, reason, message, lasting) if lasting or seconds >= GRACE_SECONDS:
            return _ConditionPart(Condition("ServerReachable", False, reason, message), waits=True, stalled=lasting)
        case _:
            return _ConditionPart(Condition("ServerReachable", True, "Answering", "the server answers"), waits=False)


def _registered(spec: PoolSpec, load: Load | LoadUnavailable) -> Condition:
    if isinstance(load, LoadUnavailable):
        return Condition("WorkersRegistered", None, "ServerUnreachable", load.message)
    if load.build(spec.build) is None:
        return Condition("WorkersRegistered", False, "NotRegistered", f"no worker of build {spec.build} has registered yet")
    return Condition("WorkersRegistered", True, "Registered", f"build {spec.build} is known to the server")


def _scaling(spec: PoolSpec, load: Load | LoadUnavailable) -> _ConditionPart:
    if zones := unknown_zones(spec.hours):
        said = f"the operator knows no time zone {', '.join(zones)}, so these hours of minReplicasByTime do not count: use a name such as Europe/Berlin"
        return _ConditionPart(Condition("ScalingActive", False, "TimeZoneUnknown", said), waits=True, stalled=True)
    return _ConditionPart(_follows(spec, load), waits=False)


def _follows(spec: PoolSpec, load: Load | LoadUnavailable) -> Condition:
    if spec.replicas is not None:
        undo = f'kubectl patch aikiworkerpool {spec.owner.name} --type=merge -p \'{{"spec":{{"replicas":null}}}}\''
        return Condition(
            "ScalingActive", False, "FixedSize", f"spec.replicas fixes the size at {spec.replicas}; to let it follow the load: {undo}"
        )
    if isinstance(load, LoadUnavailable):
        return Condition("ScalingActive", False, "LoadUnknown", f"the size is held: {load.message}")
    if not load.complete:
        return Condition(
            "ScalingActive", False, "RedisUnavailable", "Redis does not answer: the pool grows if it must, and does not shrink"
        )
    return Condition("ScalingActive", True, "LoadKnown", "the size follows the load")


def _limited(account: ConditionInputs) -> Condition:
    spec, decision, hours = account.builds.spec, account.decision, account.hours
    match decision.limit:
        case "maxReplicas":
            wanted = sum(target.wanted for target in decision.targets)
            return Condition(
                "ScalingLimited", True, "MaxReplicas", f"the load asks for more than maxReplicas {spec.max_replicas}: {wanted} pods"
            )
        case "minReplicas":
            of_hours = f"{hours.minimum} of the hours {hours}" if hours is not None and hours.minimum > spec.min_replicas else None
            return Condition(
                "ScalingLimited", True, "MinReplicas", f"minReplicas {of_hours or spec.min_replicas} holds more than the load asks for"
            )
        case _:
            return Condition("ScalingLimited", False, "WithinLimits", "the size is what the load asks for")


def _rollout(account: ConditionInputs) -> _ConditionPart:
    """Whether the target serves, and whether what keeps it from that needs a person."""
    spec, target, serving = account.builds.spec, account.builds.deployed[0], account.builds.serving
    image = f"build {spec.build} ({spec.image})"
    trouble = blocking(target.refused, () if target.ready else target.pods)
    if serving == spec.build and (trouble is None or not trouble.lasting):
        return _ConditionPart(Condition("RolloutComplete", True, "Serving", f"{image} serves"), waits=False)
    if account.rollout is not None and (trouble is None or account.rollout.progress.stage is RolloutStage.HELD):
        stage = account.rollout.progress.stage
        said = Condition("RolloutComplete", False, f"Rollout{stage}", f"{image} {account.rollout.describe(spec.owner, str(serving))}")
        return _ConditionPart(said, waits=True, stalled=stage is RolloutStage.HELD)
    if trouble is not None:
        kept = f"; build {serving} goes on serving" if serving not in (None, spec.build) else ""
        said = Condition("RolloutComplete", False, trouble.reason, f"{image}: {trouble.message}{kept}")
        return _ConditionPart(said, waits=True, stalled=trouble.lasting)
    reason, what = ("Registering", "its worker to register") if target.ready else ("Starting", "its first pod to be ready")
    return _ConditionPart(Condition("RolloutComplete", False, reason, f"{image} waits for {what}"), waits=True)


def _pods(account: ConditionInputs) -> _ConditionPart:
    """Whether every pod that is wanted is there, at any time of a build's life. Pods that just start keep nothing from being ready."""
    builds = [build for build in account.builds.deployed if account.wanted.get(build.name)]
    wanted = sum(account.wanted[build.name] for build in builds)
    ready = sum(min(build.ready, account.wanted[build.name]) for build in builds)
    counted = f"{ready} of {wanted} pods are ready"
    found = [(build, trouble) for build in builds if (trouble := _trouble(build)) is not None]
    if found:
        build, trouble = next((one for one in found if one[1].lasting), found[0])
        said = Condition("PodsReady", False, trouble.reason, f"{counted}; build {build.name}: {trouble.message}")
        return _ConditionPart(said, waits=True, stalled=trouble.lasting)
    if ready < wanted:
        return _ConditionPart(Condition("PodsReady", False, "Starting", counted), waits=False)
    return _ConditionPart(Condition("PodsReady", True, "AllReady" if wanted else "NoneWanted", counted), waits=False)


def _trouble(build: DeployedBuild) -> PodProblem | None:
    """What keeps a pod of the build from being ready; a crash that may pass is none while another pod of it works."""
    found = blocking(build.refused, build.pods)
    passes = found is not None and not found.lasting and found.reason in PASSING and build.ready > 0
    return None if passes else found


def _served(account: ConditionInputs) -> _ConditionPart:
    """Whether some worker serves every run that is queued, or will: a run that nobody ever serves waits in silence otherwise."""
    load = account.builds.load
    if isinstance(load, LoadUnavailable):
        return _ConditionPart(Condition("RunsServed", None, "ServerUnreachable", load.message), waits=False)
    deployed = {build.name for build in account.builds.deployed}
    never = [one for one in load.unserved if one.seconds >= UNSERVED_SECONDS and (not one.servable or one.build not in {None, *deployed})]
    if never:
        said = f"{_runs(never)} queued, and no worker of this pool serves them: apply an image that carries them, or cancel them"
        return _ConditionPart(Condition("RunsServed", False, "NoWorkerServes", said), waits=True, stalled=True)
    late = [one for one in load.unserved if one.seconds >= LATE_SECONDS]
    if late and account.builds.spec.replicas == 0:
        return _ConditionPart(Condition("RunsServed", False, "Paused", f"{_runs(late)} queued, and spec.replicas is 0"), waits=False)
    if late:
        said = f"{_runs(late)} queued for more than a minute, and the worker that serves them is not there"
        return _ConditionPart(Condition("RunsServed", False, "WorkersGone", said), waits=True)
    return _ConditionPart(
        Condition("RunsServed", True, "AllServed", "every queued run has a worker that serves it, or will have one"), waits=False
    )


def _runs(found: list[UnservedKind]) -> str:
    """`3 runs of a 1.0 and 1 of b on build x are`, the largest groups first."""
    largest = sorted(found, key=lambda one: -one.runs)
    kinds = [
        f"{one.runs} of {one.workflow}{f' {one.version}' if one.version else ''}{f' on build {one.build}' if one.build else ''}"
        for one in largest[:3]
    ]
    more = f" and {len(found) - 3} other kinds" if len(found) > 3 else ""
    return f"runs ({', '.join(kinds)}{more}) are"
