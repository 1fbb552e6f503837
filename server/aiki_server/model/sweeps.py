"""What a sweep finds: runs in lost hands, parents whose children are to be told, streams that wait."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID


class Held(NamedTuple):
    """A run in a worker's hands."""

    id: UUID
    namespace: str
    epoch: int
    worker: str


class Closing(NamedTuple):
    """An ended parent; `late` where its end lies back so far that somebody should have told its children."""

    id: UUID
    late: bool


class Backlog(NamedTuple):
    """What waits in one stream; without a pool or a version, what waits for somebody to register them."""

    namespace: str
    pool: str | None
    workflow: str
    version: str | None
    build: str | None
    runs: int
    oldest_seconds: float

    @property
    def place(self) -> tuple[str, str | None, str, str | None, str | None]:
        """Where that is."""
        return self.namespace, self.pool, self.workflow, self.version, self.build
