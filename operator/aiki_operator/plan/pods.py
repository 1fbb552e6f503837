"""What is the matter with a pod: Kubernetes' many ways of saying so, as one reason and one message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from aiki_operator.reporting.hiding import hiding, last_words

Json = Mapping[str, Any]

STUCK_SECONDS = 60.0
"""A pod that has not got ready for so long, without another reason, is in trouble."""
STALLED_SECONDS = 300.0
"""A pod that cannot be scheduled, or is stuck, for so long waits for a person: a node that is ordered comes earlier."""

IMAGE_REASONS = frozenset({"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"})
CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


@dataclass(frozen=True, slots=True)
class PodProblem:
    """Why a pod does not get ready. `lasting` means that waiting does not help: a person must act."""

    reason: str
    message: str
    lasting: bool


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as the plans see it."""

    name: str
    build: str
    ready: bool
    leaving: bool
    ended: bool
    cost: str | None
    trouble: PodProblem | None


def view(pod: Json, *, build_label: str, cost_annotation: str, now: float = 0.0) -> Pod:
    """A pod from its object; `now` is the time of day in Unix seconds, compared with Kubernetes' own times in minutes."""
    meta, status = pod["metadata"], pod.get("status", {})
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in status.get("conditions") or ())
    return Pod(
        name=meta["name"],
        build=(meta.get("labels") or {}).get(build_label, ""),
        ready=ready,
        leaving="deletionTimestamp" in meta,
        ended=status.get("phase") in ("Succeeded", "Failed"),
        cost=(meta.get("annotations") or {}).get(cost_annotation),
        trouble=None if ready else trouble(pod, now),
    )


def worst(pods: Iterable[Pod]) -> PodProblem | None:
    """The trouble to show for many pods: a lasting one before a passing one."""
    found = [pod.trouble for pod in pods if pod.trouble is not None and not pod.leaving]
    return next((one for one in found if one.lasting), found[0] if found else None)


def trouble(pod: Json, now: float = 0.0) -> PodProblem | None:
    """What keeps the pod from being ready, or None where nothing is known to; without the values of its variables."""
    found = _of_status(pod.get("status", {}), now)
    return _stuck(pod, now) if found is None else replace(found, message=hiding(pod)(found.message))


def _of_status(status: Json, now: float) -> PodProblem | None:
    first = (one for one in status.get("initContainerStatuses") or () if not one.get("ready"))
    for container in (*first, *(status.get("containerStatuses") or ())):
        if (found := _container(container)) is not None:
            return found
    return _scheduling(status, now)


def _container(container: Json) -> PodProblem | None:
    waiting = container.get("state", {}).get("waiting") or {}
    ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated")
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in IMAGE_REASONS:
        return PodProblem("ImagePullFailed", f"image {container.get('image')}: {message or reason}", lasting=True)
    if reason in CONFIG_REASONS:
        return PodProblem("ContainerNotCreated", message or reason, lasting=True)
    if ended is not None and container.get("restartCount", 0) >= 1:
        crashes = container["restartCount"]
        lasting = reason == "CrashLoopBackOff" or crashes >= 3
        return PodProblem(
            "CrashLoop",
            f"the container has ended {crashes} times, last {ending(ended, container)}; see `kubectl logs --previous`",
            lasting=lasting,
        )
    if "terminated" in container.get("state", {}) and ended is not None and ended.get("exitCode") != 0:
        return PodProblem("Crashed", f"the container has ended {ending(ended, container)}", lasting=False)
    return None


def ending(ended: Json, container: Json) -> str:
    """How a container has ended, in words."""
    said = last_words(ended.get("message"), str(container.get("name", "")))
    return f"with exit code {ended.get('exitCode')} ({ended.get('reason', 'Error')})" + (f": {said}" if said else "")


def _scheduling(status: Json, now: float) -> PodProblem | None:
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            seconds = now - instant(condition.get("lastTransitionTime"), now)
            return PodProblem(condition.get("reason", "Unschedulable"), condition.get("message", ""), lasting=seconds >= STALLED_SECONDS)
    return None


def _stuck(pod: Json, now: float) -> PodProblem | None:
    """A pod that ought to be ready by now, of which Kubernetes says nothing but where it has got to."""
    status, name = pod.get("status", {}), pod["metadata"]["name"]
    if status.get("phase") in ("Succeeded", "Failed"):
        return None
    since = [one.get("lastTransitionTime") for one in status.get("conditions") or () if one["type"] == "Ready"]
    seconds = now - max(instant(at, now) for at in (*since, status.get("startTime") or pod["metadata"].get("creationTimestamp")))
    if seconds < STUCK_SECONDS:
        return None
    lasting = seconds >= STALLED_SECONDS
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        reason = (container.get("state", {}).get("waiting") or {}).get("reason")
        if reason:
            return PodProblem(reason, f"pod {name} does not get on; `kubectl describe pod {name}` says why", lasting=lasting)
    said = f"pod {name} runs, and its readiness probe fails; see `kubectl describe pod {name}` and `kubectl logs {name}`"
    return PodProblem("NotReady", said, lasting=lasting)


def instant(text: str | None, otherwise: float) -> float:
    """A time of Kubernetes in Unix seconds."""
    return otherwise if text is None else datetime.fromisoformat(text).timestamp()


def refused(workload: Json | None) -> PodProblem | None:
    """Why a Deployment gets no pods: a quota, the namespace's Pod Security level, or pods that have not become ready in time."""
    found = {condition["type"]: condition for condition in (workload or {}).get("status", {}).get("conditions") or ()}
    failure, progress = found.get("ReplicaFailure", {}), found.get("Progressing", {})
    if failure.get("status") == "True":
        return PodProblem("PodsRefused", hiding(workload or {})(failure.get("message", "")), lasting=True)
    if progress.get("reason") == "ProgressDeadlineExceeded":
        return PodProblem("NeverReady", "its pods do not get ready; see `kubectl describe pod`", lasting=True)
    return None


def lacks_pods(kind: str, body: Json) -> bool:
    """Whether a StatefulSet or Job ought to have a pod, by its own status."""
    spec, status = body.get("spec", {}), body.get("status", {})
    if kind == "Job":
        ended = any(
            one["type"] in ("Complete", "Failed", "Suspended") and one["status"] == "True" for one in status.get("conditions") or ()
        )
        return not ended and not status.get("active") and not spec.get("suspend")
    return kind == "StatefulSet" and spec.get("replicas", 1) > 0 and not status.get("readyReplicas")


def not_created(events: Iterable[Json], body: Json) -> PodProblem | None:
    """Why pods of a workload are refused, by the events of its controller; those of another object of the name do not count."""
    found = [one for one in events if one["involvedObject"].get("uid") in (None, body["metadata"].get("uid"))]
    if not found:
        return None
    latest = max(found, key=lambda one: str(one.get("lastTimestamp") or one.get("eventTime") or one["metadata"].get("creationTimestamp")))
    return PodProblem("PodsRefused", hiding(body)(latest.get("message", "")), lasting=True)


def blocking(workload: PodProblem | None, pods: Iterable[Pod]) -> PodProblem | None:
    """What keeps a Deployment from being ready: a lasting trouble of a pod says it best, then the Deployment's own."""
    found = worst(pods)
    if workload is None or (found is not None and found.lasting):
        return found
    return workload if found is None else replace(workload, message=f"{workload.message}: {found.message}")
