"""Which workers are dead although their lease still holds: those whose pod is gone, has ended, or has started anew.

Compares the server's list with the pods that are there. A container that was restarted is another worker's: which one a
worker belongs to is told by when it was first seen, on the operator's own clock, and never by the clock of a node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiki_operator.plan.load import Worker

Json = Mapping[str, Any]

SETTLING_SECONDS = 10.0
"""How much later than a worker registers its container's start may become known: a change within this is no restart under it.

A worker that dies so young is found by the server: its line ends, or its lease does.
"""


@dataclass(frozen=True, slots=True)
class Dead:
    """A worker that is gone for good. `pod` is set where the whole pod is, and then must be asked for once more."""

    worker: str
    pod: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """A worker's container as it was when the worker was first seen, at `at` on the operator's clock."""

    restarts: int
    at: float


def sighted(workers: Iterable[Worker], pods: Mapping[str, Json], before: Mapping[str, Sighting], now: float) -> dict[str, Sighting]:
    """What is known of the workers' containers from now on; `now` is a monotonic clock."""
    found = {}
    for worker in workers:
        container = _container(pods.get(worker.pod or ""))
        known = before.get(worker.id)
        if container is not None and (known is None or now - known.at < SETTLING_SECONDS):
            since = now if known is None else known.at
            found[worker.id] = Sighting(container.get("restartCount", 0), since)
        elif known is not None:
            found[worker.id] = known
    return found


def dead(workers: Iterable[Worker], pods: Mapping[str, Json], sightings: Mapping[str, Sighting], now: float) -> list[Dead]:
    """The dead among `workers`, with what `sighted` knows of them."""
    found = (_judge(worker, pods.get(worker.pod), sightings.get(worker.id), now) for worker in workers if worker.pod is not None)
    return [one for one in found if one is not None]


def _judge(worker: Worker, pod: Json | None, sighting: Sighting | None, now: float) -> Dead | None:
    if pod is None:
        return Dead(worker.id, worker.pod, "its pod is gone")
    if pod.get("status", {}).get("phase") in ("Failed", "Succeeded"):
        return Dead(worker.id, worker.pod, f"its pod has ended: {pod['status'].get('reason', pod['status']['phase'])}")
    container = _container(pod)
    if container is None or sighting is None or now - sighting.at < SETTLING_SECONDS:
        return None
    if "running" not in container.get("state", {}):
        ended = "terminated" in container.get("state", {}) or container.get("restartCount", 0) > 0
        return Dead(worker.id, None, "its container has ended") if ended else None
    if container.get("restartCount", 0) > sighting.restarts:
        return Dead(worker.id, None, "its container was started anew")
    return None


def _container(pod: Json | None) -> Json | None:
    """The status of the worker's container."""
    statuses = (pod or {}).get("status", {}).get("containerStatuses") or ()
    return next((one for one in statuses if one["name"] == "worker"), None)
