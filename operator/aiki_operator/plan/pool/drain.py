"""Scale-in without an interruption: the idlest workers stop claiming, finish what they run, and only then go.

Which pods go is told to Kubernetes by the deletion cost; who drains is kept by the server, so an operator that starts
anew goes on where the last one was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiki_operator.plan.pods import Pod
from aiki_operator.scaling.load import PoolWorker

GOES_FIRST = "-1000"
STAYS = "0"


@dataclass(frozen=True, slots=True)
class DrainStep:
    """What to do for one build: tell workers to drain or not, mark pods, and the size that is safe now."""

    replicas: int
    drain: tuple[str, ...] = ()
    undrain: tuple[str, ...] = ()
    mark: tuple[str, ...] = ()
    unmark: tuple[str, ...] = ()
    since: Mapping[str, float] | None = None


def shrink(
    *,
    replicas: int,
    target: int,
    pods: Sequence[Pod],
    workers: Sequence[PoolWorker],
    since: Mapping[str, float],
    timeout: float,
    now: float,
) -> DrainStep:
    """One step from `replicas` towards `target`, which may be larger. `since` says when each pod began to drain."""
    staying = [pod for pod in pods if not pod.leaving and not pod.ended]
    by_pod: dict[str, PoolWorker] = {worker.pod: worker for worker in workers if worker.pod is not None}
    # Where Kubernetes has made fewer pods than it was asked for, fewer have to go.
    victims = _victims(staying, by_pod, min(replicas, len(staying)) - target)
    names = {pod.name for pod in victims}
    # Given up, and Kubernetes has yet to act: what is about to go must not be told to claim again.
    names |= {pod.name for pod in staying if pod.cost == GOES_FIRST} if len(staying) > replicas else set()
    undrain = tuple(by_pod[pod.name].id for pod in staying if pod.name in by_pod and by_pod[pod.name].draining and pod.name not in names)
    began = {pod.name: since.get(pod.name, now) for pod in victims}
    if target >= replicas:
        return DrainStep(target, undrain=undrain, unmark=_unmark(staying, replicas, set()), since={})
    gone = [pod for pod in victims if _may_go(by_pod.get(pod.name), now - began[pod.name], timeout)]
    drain = tuple(by_pod[pod.name].id for pod in victims if pod.name in by_pod and not by_pod[pod.name].draining)
    # Pods that Kubernetes has not made yet cost nothing to give up.
    missing = max(0, replicas - len(staying))
    size = max(target, replicas - missing - len(gone))
    mark = tuple(pod.name for pod in gone if pod.cost != GOES_FIRST)
    return DrainStep(size, drain, undrain, mark, _unmark(staying, replicas, {pod.name for pod in gone}), began)


def _unmark(staying: Sequence[Pod], replicas: int, gone: set[str]) -> tuple[str, ...]:
    """Pods that were marked and stayed after all: Kubernetes would take them first another time, whatever they do then."""
    if len(staying) > replicas:
        return ()
    return tuple(pod.name for pod in staying if pod.cost == GOES_FIRST and pod.name not in gone)


def _victims(pods: Sequence[Pod], workers: Mapping[str, PoolWorker], count: int) -> list[Pod]:
    """The pods to go: not working ones first, then those already draining, then the idlest."""

    def order(pod: Pod) -> tuple[int, int, int, str]:
        worker = workers.get(pod.name)
        if worker is None:
            return (0, int(pod.ready), 0, pod.name)
        return (1, int(not worker.draining), worker.active, pod.name)

    return sorted(pods, key=order)[: max(0, min(count, len(pods)))]


def _may_go(worker: PoolWorker | None, seconds: float, timeout: float) -> bool:
    """Whether a pod that has been given up for so long may go: its worker has heard of it, and has nothing in hand."""
    if worker is None or seconds > timeout:
        return True
    return worker.draining and worker.active == 0 and worker.heard <= seconds
