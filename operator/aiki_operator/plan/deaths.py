"""Which workers are dead although their lease still holds: those whose pod is gone, has ended, or has started anew.

Compares the server's list with the pods that are there, so it does not matter what was seen happening or by whom.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiki_operator.plan.load import Worker

MARGIN_SECONDS = 1.0
"""Kubernetes cuts a container's start to the second."""


@dataclass(frozen=True, slots=True)
class Dead:
    """A worker that is gone for good. `pod` is set where the whole pod is, and then must be asked for once more."""

    worker: str
    pod: str | None
    why: str


def dead(workers: Iterable[Worker], pods: Mapping[str, Mapping[str, Any]], now: float) -> list[Dead]:
    """The dead among `workers`; `now` is the time of day, Unix seconds."""
    found = (_judge(worker, pods.get(worker.pod), now) for worker in workers if worker.pod is not None)
    return [one for one in found if one is not None]


def _judge(worker: Worker, pod: Mapping[str, Any] | None, now: float) -> Dead | None:
    if pod is None:
        return Dead(worker.id, worker.pod, "its pod is gone")
    if pod.get("status", {}).get("phase") in ("Failed", "Succeeded"):
        return Dead(worker.id, worker.pod, f"its pod has ended: {pod['status'].get('reason', pod['status']['phase'])}")
    container = next((one for one in pod.get("status", {}).get("containerStatuses") or () if one["name"] == "worker"), None)
    if container is None:
        return None
    running = container.get("state", {}).get("running")
    if running is None:
        ended = "terminated" in container.get("state", {}) or container.get("restartCount", 0) > 0
        return Dead(worker.id, None, "its container has ended") if ended else None
    started = now - datetime.fromisoformat(running["startedAt"]).timestamp()
    if container.get("restartCount", 0) > 0 and worker.age > started + MARGIN_SECONDS:
        return Dead(worker.id, None, "its container was started anew")
    return None
