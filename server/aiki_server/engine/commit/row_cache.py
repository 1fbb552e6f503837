"""The rows of runs in workers' hands or waiting for an event, as this server last wrote them.

So the next commit of a run, or the event, need not read it again.

Only a hint. A row is used together with the place where it lies and the transaction that wrote it, and a write that does not
find this run so there writes nothing; then the rows are locked and read. Holds what it is given up to a bound; the oldest go first.

An era ends with each lost connection, for the next one may lead to another server (a failover, a restored copy), where the same places
and transactions are other ones. What was learnt in an earlier era is neither kept nor taken in.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from aiki_server.model.rows import Place, Row

MOST = 20_000
"""Some 30 MB."""


class Held:
    """Rows and places by run. Read `era` before a statement, and give it with what the statement found."""

    def __init__(self) -> None:
        self.era = 0
        self._known: dict[UUID, tuple[Row, Place]] = {}

    def forget(self) -> None:
        """A connection was lost: nothing that is known here need be true of what the next one leads to."""
        self.era += 1
        self._known.clear()

    def get(self, run: UUID) -> tuple[Row, Place] | None:
        """What is known of a run."""
        return self._known.get(run)

    def put(self, row: Row, place: Place, *, era: int) -> None:
        """What the run is now, and where it lies."""
        self._known.pop(row.id, None)
        if era != self.era:
            return
        self._known[row.id] = row, place
        if len(self._known) > MOST:
            del self._known[next(iter(self._known))]

    def replace(self, runs: Mapping[UUID, object], after: Mapping[UUID, tuple[Row, Place]], *, era: int) -> None:
        """Forget what was known of `runs`; know `after` instead."""
        for run in runs:
            self._known.pop(run, None)
        for row, place in after.values():
            self.put(row, place, era=era)
