"""Whether a migration, or another Job that is done once, is done, has failed, or is kept from ending, by its Job and by the pods of that.

The Job alone does not say: Kubernetes calls it failed only after its last try, ten minutes later, and a sidecar that somebody's
webhook puts into the pod keeps it from ending at all. What counts is how the container `migrate` ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiki_operator.names import MIGRATED
from aiki_operator.plan.pods import PodProblem, ending, instant
from aiki_operator.reporting.hiding import hiding

Json = Mapping[str, Any]

RETRY_SECONDS = 60.0
"""A failed migration is tried again after this long."""
FAILURES = 2
"""So often may a migration fail before a person is asked: a database that restarts is the usual reason for one."""
CONTAINER = "migrate"


@dataclass(frozen=True, slots=True)
class ContainerEnding:
    """How the migration in one pod ended. `held` where the pod goes on without it."""

    job: str
    code: int
    said: str
    at: float
    held: bool
    report: str = ""
    """The last line that a success left for the operator, and for nobody else, to read."""


def endings(pods: Iterable[Json], container: str = CONTAINER) -> tuple[ContainerEnding, ...]:
    """The ends of migrations, or of what else a container of this name does; oldest first."""
    found = [ending for pod in pods if (ending := _ending(pod, container)) is not None]
    return tuple(sorted(found, key=lambda one: one.at))


def _ending(pod: Json, name: str) -> ContainerEnding | None:
    labels, status = pod["metadata"].get("labels") or {}, pod.get("status", {})
    container: Json = next((one for one in status.get("containerStatuses") or () if one["name"] == name), {})
    ended = container.get("state", {}).get("terminated")
    if ended is None:
        return None
    words = hiding(pod)(ending(ended, container))
    held = status.get("phase") not in ("Succeeded", "Failed")
    report = ((ended.get("message") or "").strip().splitlines() or [""])[-1] if ended.get("exitCode") == 0 else ""
    return ContainerEnding(
        labels.get("job-name", ""), ended.get("exitCode", -1), words, instant(ended.get("finishedAt"), 0.0), held, report
    )


@dataclass(frozen=True, slots=True)
class JobAttempt:
    """The migration of one image and database, or another thing that is done once: its Job, if there is one, and how its pods ended."""

    name: str
    job: Json | None
    endings: tuple[ContainerEnding, ...]
    what: str = "the migration"
    reason: str = "MigrationFailed"

    @property
    def done(self) -> bool:
        """Whether the schema is there."""
        noted = self.job is not None and MIGRATED in (self.job["metadata"].get("annotations") or {})
        return noted or _since(self.job, "Complete") is not None or any(one.code == 0 for one in self.endings)

    @property
    def kept(self) -> bool:
        """Whether the migration is done and its Job goes on without it."""
        noted = self.job is not None and MIGRATED in (self.job["metadata"].get("annotations") or {})
        return self.job is not None and not noted and any(one.code == 0 and one.held for one in self.endings)

    def trouble(self, before: Mapping[str, Json]) -> PodProblem | None:
        """That it has failed. Until it succeeds, another try does not take the word back: `before` are the conditions so far."""
        failures = [one for one in self.endings if one.code != 0]
        count = max(len(failures), (self.job or {}).get("status", {}).get("failed", 0))
        over = _since(self.job, "Failed") is not None
        if not count and not over:
            return self._repeated(before)
        ended = f" ended {failures[-1].said}" if failures else " failed"
        message = f"{self.what}{ended}; it is tried again; see `kubectl logs job/{self.name}`"
        return PodProblem(self.reason, message, lasting=over or count >= FAILURES or self._repeated(before) is not None)

    def _repeated(self, before: Mapping[str, Json]) -> PodProblem | None:
        stalled = before.get("Stalled", {})
        if self.done or stalled.get("status") != "True" or stalled.get("reason") != self.reason:
            return None
        mark = f"Job {self.name}: "
        said = str(stalled.get("message", ""))
        return PodProblem(self.reason, said.removeprefix(mark), lasting=True) if said.startswith(mark) else None

    def is_over(self, now: float) -> bool:
        """Whether it is time to try again: the Job has given up, or its pod stays although the migration in it has failed."""
        ended = _since(self.job, "Failed")
        held = next((one.at for one in self.endings if one.code != 0 and one.held), None)
        return not self.done and any(at is not None and now - at > RETRY_SECONDS for at in (ended, held))


def _since(job: Json | None, condition: str) -> float | None:
    """Since when a condition of the Job is true, in Unix seconds."""
    conditions = (job or {}).get("status", {}).get("conditions") or ()
    times = (instant(one.get("lastTransitionTime"), 0.0) for one in conditions if one["type"] == condition and one["status"] == "True")
    return next(times, None)
