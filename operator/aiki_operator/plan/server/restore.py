"""A new managed Postgres that begins with a backup: the Job that fills its volume, and the Job that fences what it finds.

What is there says what is to be done. Until the restore is done there is no StatefulSet, so no Postgres can make a
database of its own on the volume; once there is one, no restore is ever begun, whatever the spec says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aiki_operator.manifests import server
from aiki_operator.manifests.databases import restore as manifests
from aiki_operator.manifests.databases import statefulset
from aiki_operator.manifests.server import Sources
from aiki_operator.plan.pods import Pod, PodProblem, worst
from aiki_operator.plan.server.migration import ContainerEnding, JobAttempt
from aiki_operator.reporting.conditions import Condition
from aiki_operator.spec.server import ManagedDatabase, ServerSpec

Json = Mapping[str, Any]
Key = tuple[str, str]
COMPONENTS = ("restore", "fence")


class Restoring:
    """How far the restore of a server is; made for one plan, of what it has observed."""

    def __init__(
        self,
        spec: ServerSpec,
        objects: Mapping[Key, Json],
        endings: Mapping[str, tuple[ContainerEnding, ...]],
        *,
        pods: Mapping[str, tuple[Pod, ...]],
        no_pods: Mapping[Key, PodProblem],
        claims: Mapping[str, Json],
        before: Mapping[str, Json],
    ) -> None:
        database = spec.database
        self._spec = spec
        self._objects = objects
        self._pods, self._no_pods = pods, no_pods
        self._claims, self._before = claims, before
        self._database = database if isinstance(database, ManagedDatabase) else None
        self._restore = None if self._database is None else self._database.restore
        if self._restore is None:
            self._attempts: dict[str, JobAttempt] = {}
            return
        names = {"restore": manifests.job_name(spec.owner, self._restore), "fence": server.fence_name(spec, self._restore)}
        words = {"restore": ("the restore", "RestoreFailed"), "fence": ("the fence", "FenceFailed")}
        self._attempts = {
            part: JobAttempt(name, objects.get(("Job", name)), tuple(one for one in endings.get(part, ()) if one.job == name), *words[part])
            for part, name in names.items()
        }

    @property
    def asked(self) -> bool:
        """Whether the spec asks for a restore."""
        return self._restore is not None

    @property
    def holds_up(self) -> bool:
        """Whether Postgres must not start yet."""
        there = ("StatefulSet", statefulset.postgres_name(self._spec.owner)) in self._objects
        return self.asked and not there and not self._attempts["restore"].done

    @property
    def fenced(self) -> bool:
        """Whether servers may start."""
        return not self.asked or self._attempts["fence"].done

    def volume(self) -> Iterator[Json]:
        """What fills the volume: the claim, if there is none, and the Job."""
        if self._database is None or self._restore is None or not self.holds_up:
            return
        owner, claim = self._spec.owner, statefulset.claim_name(statefulset.postgres_name(self._spec.owner))
        if claim not in self._claims:
            yield statefulset.postgres_claim(owner, self._database)
        yield manifests.job(owner, self._database, self._restore, data_claim=claim, data=statefulset.PGDATA)

    def fence(self, sources: Sources) -> Iterator[Json]:
        """What fences the database, once it has its schema."""
        if self._restore is not None:
            yield server.fence(self._spec, sources, self._restore)

    def attempts(self) -> Iterator[JobAttempt]:
        """The Jobs, which are kept for as long as the spec asks for the restore."""
        yield from self._attempts.values()

    def filled(self) -> Condition | None:
        """What is to be said of the database while the restore is under way."""
        if not self.holds_up:
            return None
        return self._trouble("DatabaseReady", "restore") or Condition("DatabaseReady", False, "Restoring", self._words())

    def condition(self, migrated: Condition) -> Condition | None:
        """Whether the database has been restored and fenced."""
        if self._restore is None:
            return None
        if self.fenced:
            when = "the end of its log" if self._restore.time is None else f"{self._restore.time:%Y-%m-%d %H:%M:%S} UTC"
            message = f"the database was restored to {when}, and what came later is not taken; restoreFrom may be taken out"
            return Condition("Restored", True, "Restored", message)
        if self.holds_up:
            return self._trouble("Restored", "restore") or Condition("Restored", False, "Restoring", self._words())
        if not migrated.status:
            return Condition("Restored", False, migrated.reason, migrated.message)
        message = f"Job {self._attempts['fence'].name} takes the database from whoever worked on it"
        return self._trouble("Restored", "fence") or Condition("Restored", False, "Fencing", message)

    def _trouble(self, kind: str, part: str) -> Condition | None:
        attempt = self._attempts[part]
        found = self._no_pods.get(("Job", attempt.name)) or attempt.trouble(self._before) or worst(self._pods.get(part, ()))
        return None if found is None else Condition(kind, False, found.reason, f"Job {attempt.name}: {found.message}")

    def _words(self) -> str:
        return f"Job {self._attempts['restore'].name} fills the volume from the backup"
