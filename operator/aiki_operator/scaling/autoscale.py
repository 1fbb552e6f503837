"""How many pods each build of a pool needs: a pure decision from what waits, runs and is due.

Little's law says how many slots the arrivals keep busy, and a backlog is to be gone within `backlog_seconds`. Up at
once; down to the maximum of what was wanted during the stabilization window. What is not known holds the size: a
decision never lowers anything out of ignorance, and never reaches zero while there is work.
docs/operate/autoscaling.md explains the numbers, `python -m aiki_operator.scaling.simulate` replays them on a trace.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """The user's settings; durations in seconds. `fixed` switches the decision off: `kubectl scale` sets it."""

    minimum: int
    maximum: int
    concurrency: int
    utilization: float = 0.8
    backlog_seconds: float = 30
    stabilization_seconds: float = 60
    lead_seconds: float = 15
    fixed: int | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """What one build has to do. `due` are the instants (Unix seconds) of its next timers, ascending."""

    queued: int = 0
    running: int = 0
    busy_workers: int = 0
    due: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Unknown:
    """In the place of a demand that the operator could not read; there is one value of it, `UNKNOWN`."""


UNKNOWN = Unknown()


@dataclass(frozen=True, slots=True)
class LoadRates:
    """How work comes and goes in the pool; `service_seconds` is None until an activation has ended."""

    arrivals_per_second: float = 0.0
    service_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ScaledBuild:
    """A build as it stands: its size now, and its demand, `UNKNOWN` if the operator could not read it.

    `latest` is the build that new work goes to: it gets the minimum, and the arrivals. `starting` wants one pod whatever the
    load, until it has registered. `partial` says that the demand is a lower bound (Redis does not answer).
    """

    name: str
    replicas: int
    demand: Demand | Unknown
    latest: bool = True
    starting: bool = False
    partial: bool = False
    share: float | None = None
    """The part of the arrivals that a roll-out gives the build, or leaves it; None where the latest build gets all and others none."""


@dataclass(frozen=True, slots=True)
class ScalingInputs:
    """One reading of a pool, newest build first."""

    builds: tuple[ScaledBuild, ...]
    rates: LoadRates = LoadRates()


FIRST_POD = "one pod, to learn which workflow versions the build carries"

SizeHistory = tuple[tuple[float, int], ...]
"""Instants and sizes wanted then, sizes falling: the first is the maximum of the window."""


@dataclass(frozen=True, slots=True)
class ScalingState:
    """What the decision remembers between two turns: each build's window."""

    windows: Mapping[str, SizeHistory] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SizeTarget:
    """The size of one build, and why in words with numbers."""

    build: str
    replicas: int
    wanted: int
    reason: str


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """The sizes of all builds. `limit` names the setting that cut or raised what the load asks for."""

    targets: tuple[SizeTarget, ...]
    known: bool
    limit: str | None = None

    @property
    def replicas(self) -> int:
        """The size of the pool."""
        return sum(target.replicas for target in self.targets)

    def of(self, build: str) -> SizeTarget | None:
        """The target of a build."""
        return next((target for target in self.targets if target.build == build), None)


def decide(policy: ScalingPolicy, state: ScalingState, inputs: ScalingInputs, now: float) -> tuple[ScalingDecision, ScalingState]:
    """The sizes that the pool should have now, and what to remember for the next decision."""
    wants = {build.name: _want(policy, build, inputs.rates, now) for build in inputs.builds}
    windows = {
        build.name: _remember(state.windows.get(build.name), wants[build.name][0], build.replicas, now, policy.stabilization_seconds)
        for build in inputs.builds
    }
    settled = {build.name: _settle(policy, build, wants[build.name][0], windows[build.name]) for build in inputs.builds}
    sizes, limit = _share(policy, inputs.builds, settled)
    targets = tuple(SizeTarget(build.name, sizes[build.name], *wants[build.name]) for build in inputs.builds)
    known = all(not isinstance(build.demand, Unknown) and not build.partial for build in inputs.builds)
    return ScalingDecision(targets, known, limit), ScalingState(windows)


def slots_needed(policy: ScalingPolicy, demand: Demand, rates: LoadRates, now: float) -> float:
    """Slots for one build: never more than it has work for, never fewer than it has runs in hand."""
    due = _due_soon(demand, now + policy.lead_seconds)
    waiting = demand.queued + due
    # Unknown service time: as if each run took all the time there is, that is, one slot for each.
    seconds = policy.backlog_seconds if rates.service_seconds is None else rates.service_seconds
    # What runs counts like what waits: where runs are long, their slots will not be free in time for the others.
    backlog = (waiting + demand.running) * min(1.0, seconds / policy.backlog_seconds)
    needed = rates.arrivals_per_second * seconds / policy.utilization + backlog
    return min(max(needed, demand.running), demand.running + waiting)


def _want(policy: ScalingPolicy, build: ScaledBuild, rates: LoadRates, now: float) -> tuple[int, str]:
    """Pods that the load asks for, before windows and limits, and the sentence that says why."""
    if (fixed := _ordered(policy, build)) is not None:
        return fixed, f"fixed at {fixed} by spec.replicas"
    if isinstance(build.demand, Unknown):
        if build.starting and build.replicas == 0:
            return 1, FIRST_POD
        return build.replicas, "the load is not known: the size is held"
    pods, reason = _pods_for(policy, build, build.demand, rates, now)
    if build.starting and pods == 0:
        return 1, FIRST_POD
    if build.partial and pods < build.replicas:
        return build.replicas, f"{reason}; Redis does not answer: the size is held"
    return pods, reason


def _ordered(policy: ScalingPolicy, build: ScaledBuild) -> int | None:
    """The size that a person has set: that of the latest build, and zero that of all."""
    return policy.fixed if build.latest or policy.fixed == 0 else None


def _pods_for(policy: ScalingPolicy, build: ScaledBuild, demand: Demand, rates: LoadRates, now: float) -> tuple[int, str]:
    share = build.share if build.share is not None else float(build.latest)
    mine = LoadRates(share * rates.arrivals_per_second, rates.service_seconds)
    slots = slots_needed(policy, demand, mine, now)
    # A billionth off: 0.1 + 0.2 slots too many must not cost a pod.
    pods = math.ceil(slots / policy.concurrency - 1e-9)
    has_work = demand.queued or demand.running or _due_soon(demand, now + policy.lead_seconds)
    if has_work:
        pods = max(pods, 1)
    if demand.queued:
        pods = max(pods, demand.busy_workers)
    due = _due_soon(demand, now + policy.lead_seconds)
    seconds = "unknown" if mine.service_seconds is None else f"{mine.service_seconds:.3g} s"
    return pods, (
        f"queued {demand.queued}, running {demand.running}, due soon {due}, arriving {mine.arrivals_per_second:.3g}/s, "
        f"taking {seconds}: {slots:.3g} slots, {policy.concurrency} a pod"
    )


def _due_soon(demand: Demand, until: float) -> int:
    return sum(1 for due in demand.due if due <= until)


def _remember(window: SizeHistory | None, wanted: int, replicas: int, now: float, seconds: float) -> SizeHistory:
    """The window with what is wanted now. It starts with the size found: a restarted operator shrinks nothing at once."""
    before = ((now, replicas),) if window is None else window
    kept = tuple((at, size) for at, size in before if at > now - seconds and size > wanted)
    return (*kept, (now, wanted))


def _settle(policy: ScalingPolicy, build: ScaledBuild, wanted: int, window: SizeHistory) -> int:
    """Up at once, and to what a person has set; otherwise down only as far as the window's maximum."""
    if wanted >= build.replicas or _ordered(policy, build) is not None:
        return wanted
    return min(build.replicas, max(wanted, window[0][1]))


def _share(policy: ScalingPolicy, builds: tuple[ScaledBuild, ...], wanted: Mapping[str, int]) -> tuple[dict[str, int], str | None]:
    """Fits the sizes into minimum and maximum: older builds first, for they only finish what they have.

    A build with work always gets one pod, so a maximum may be exceeded by one pod a build, never by more.
    """
    if policy.fixed is not None:
        return dict(wanted), None
    sizes: dict[str, int] = {}
    room = policy.maximum
    # A build in a roll-out does not wait behind the one that serves: it keeps its part of the room, and shows nothing without pods.
    reserved = {
        build.name: min(wanted[build.name], math.ceil(build.share * policy.maximum))
        for build in builds
        if not build.latest and build.share is not None
    }
    for build in reversed(builds):
        want = max(wanted[build.name], policy.minimum) if build.latest else wanted[build.name]
        others = sum(size for name, size in reserved.items() if name != build.name and name not in sizes)
        sizes[build.name] = min(want, max(room - others, min(room, policy.minimum) if build.latest else 0, 1))
        room -= max(sizes[build.name], 0 if build.latest else build.replicas)
    cut = [name for name, size in sizes.items() if size < wanted[name]]
    raised = [name for name, size in sizes.items() if size > wanted[name]]
    return sizes, "maxReplicas" if cut else "minReplicas" if raised else None
