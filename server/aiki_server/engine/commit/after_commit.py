"""What is done after a commit, and may be lost without harm: everything here has a fallback that asks Postgres.

Immutable once built; a lane collects one per transaction and hands it to whoever rings, wakes and counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from aiki_server.model.rows import Ended

Place = tuple[str, str | None, str, str | None, str | None]
"""Namespace, pool, workflow, version and build; a pool or version that is not known yet is None."""
Stream = tuple[str, str, str, str, str | None]
"""A place that is known: it has a stream."""


class Conclusion(NamedTuple):
    """That a run ended, and how; `error` is the JSON text of an ErrorInfo."""

    namespace: str
    workflow: str
    status: str
    error: str | None


@dataclass(slots=True)
class Effects:
    """Of one transaction."""

    queued: dict[Stream, list[UUID]] = field(default_factory=dict)
    """Runs that may be claimed, by where."""
    unserved: set[Place] = field(default_factory=set)
    """Where runs are that nobody could serve when they were started: somebody may have registered meanwhile."""
    inbox_pending: list[tuple[str, str, UUID]] = field(default_factory=list)
    """Namespace, worker, run: the worker has something to fetch."""
    ended: list[Ended] = field(default_factory=list)
    conclusions: list[Conclusion] = field(default_factory=list)
    """Of the same runs, what is counted."""
    closing: list[UUID] = field(default_factory=list)
    """Ended runs whose children are to be told."""
    cancelled_children: list[UUID] = field(default_factory=list)
    """Children of runs that go on without them: they are to be told."""
    due: datetime | None = None
    """The earliest of the new due times."""
    served: list[tuple[str, str, float]] = field(default_factory=list)
    """Namespace, pool and seconds of each activation that ended."""

    def ring(self, place: Place, run: UUID) -> None:
        """The run may be claimed there; one that nobody serves yet is rung when somebody does."""
        namespace, pool, workflow, version, build = place
        if pool is not None and version is not None:
            self.queued.setdefault((namespace, pool, workflow, version, build), []).append(run)
        else:
            self.unserved.add(place)

    def due_by(self, at: datetime | None) -> None:
        """Something is due at `at`."""
        if at is not None and (self.due is None or at < self.due):
            self.due = at
