"""Which workers are dead although their lease still holds: those whose pod is gone, has ended, or has started anew.

Compares the server's list with the pods that are there. A container that was restarted is another worker's. Which one a
worker belongs to is told by the count of restarts when it was first seen, on the operator's own clock. While it is so young
that Kubernetes' word of its container may still be under way, the clocks of server and node have to say so as well: so
neither a wrong clock nor a late word alone gets a new worker called dead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiki_operator.scaling.load import PoolWorker

Json = Mapping[str, Any]

SETTLING_SECONDS = 10.0
"""How much later than a worker registers its container's start may become known."""
MARGIN_SECONDS = 1.0
"""Kubernetes cuts a container's start and end to the second."""


@dataclass(frozen=True, slots=True)
class DeadWorker:
    """A worker that is gone for good. `pod` is set where the whole pod is, and then must be asked for once more."""

    worker: str
    pod: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """How often a worker's container had been restarted when the worker was first seen, at `at` on the operator's clock."""

    restarts: int
    at: float


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, on the operator's monotonic clock, and as the time of day in Unix seconds."""

    monotonic: float
    day: float


def update_sightings(
    workers: Iterable[PoolWorker], pods: Mapping[str, Json], before: Mapping[str, Sighting], now: Moment
) -> dict[str, Sighting]:
    """What is known of the workers from now on."""
    found = {}
    for worker in workers:
        container, known = _container(pods.get(worker.pod or "")), before.get(worker.id)
        if container is not None and (known is None or (_is_young(known, now) and not _is_older(worker, container, now))):
            found[worker.id] = Sighting(container.get("restartCount", 0), now.monotonic if known is None else known.at)
        elif known is not None:
            found[worker.id] = known
    return found


def dead(workers: Iterable[PoolWorker], pods: Mapping[str, Json], sightings: Mapping[str, Sighting], now: Moment) -> list[DeadWorker]:
    """The dead among `workers`, with what `sighted` knows of them."""
    found = (_judge(worker, pods.get(worker.pod), sightings.get(worker.id), now) for worker in workers if worker.pod is not None)
    return [one for one in found if one is not None]


def _judge(worker: PoolWorker, pod: Json | None, sighting: Sighting | None, now: Moment) -> DeadWorker | None:
    if pod is None:
        return DeadWorker(worker.id, worker.pod, "its pod is gone")
    if pod.get("status", {}).get("phase") in ("Failed", "Succeeded"):
        return DeadWorker(worker.id, worker.pod, f"its pod has ended: {pod['status'].get('reason', pod['status']['phase'])}")
    container = _container(pod)
    if container is None or sighting is None:
        return None
    if "running" not in container.get("state", {}):
        ended = "terminated" in container.get("state", {}) or container.get("restartCount", 0) > 0
        certain = not _is_young(sighting, now) or _is_older(worker, container, now)
        return DeadWorker(worker.id, None, "its container has ended") if ended and certain else None
    if container.get("restartCount", 0) > sighting.restarts:
        return DeadWorker(worker.id, None, "its container was started anew")
    return None


def _is_young(sighting: Sighting, now: Moment) -> bool:
    return now.monotonic - sighting.at < SETTLING_SECONDS


def _is_older(worker: PoolWorker, container: Json, now: Moment) -> bool:
    """Whether the clocks say that the worker registered before this container began, or before it ended if it has."""
    state = container.get("state", {})
    ended = state.get("terminated") or container.get("lastState", {}).get("terminated") or {}
    at = state["running"].get("startedAt") if "running" in state else ended.get("finishedAt")
    return at is not None and worker.age > now.day - datetime.fromisoformat(at).timestamp() + MARGIN_SECONDS


def _container(pod: Json | None) -> Json | None:
    """The status of the worker's container."""
    statuses = (pod or {}).get("status", {}).get("containerStatuses") or ()
    return next((one for one in statuses if one["name"] == "worker"), None)
