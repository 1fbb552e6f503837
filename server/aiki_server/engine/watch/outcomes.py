"""What came of runs, counted in memory as the engine learns of it: how they ended, how long they were queued, how old events were.

Nothing here asks the database. Each server counts what it did itself, so sums over all servers are the truth. Names that tenants
choose (of workflows, pools and errors) are kept up to a bound for each namespace; what comes later is counted as `other`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from aiki.protocol import EntryKind, QueuedBy, Status
from aiki_server.engine.commit.after_commit import Conclusion
from aiki_server.engine.dispatch.claims import Claimed
from aiki_server.engine.runtime.histogram import Histogram
from aiki_server.model.instants import micros
from aiki_server.model.rows import Item, Row

MOST_WORKFLOWS = 50
MOST_ERRORS = 20
MOST_POOLS = 20
"""Names of each namespace that have figures of their own."""
LONGEST_NAME = 100
OTHER = "other"
QUEUED = f'{{"k":"{EntryKind.QUEUED}","at":'
TAIL = 80
"""The server's entry that says why a run is queued is shorter."""
ERROR_TYPE = re.compile(r'\{"type":"([^"\\]+)"')
REASONS: frozenset[str] = frozenset(QueuedBy)
"""What queues a run that has begun, or has rested; the first time it is its start."""


class Names:
    """The first names that came, and `other` for the rest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: set[str] = set()

    def __call__(self, name: str) -> str:
        """The name under which this one is counted."""
        if name in self._kept:
            return name
        if len(self._kept) >= self._most or len(name) > LONGEST_NAME:
            return OTHER
        self._kept.add(name)
        return name


class Tenant:
    """The figures of one namespace."""

    def __init__(self) -> None:
        self.ended: dict[tuple[str, str, str], int] = {}
        """By workflow, status and kind of error."""
        self.queued: defaultdict[tuple[str, str], Histogram] = defaultdict(Histogram)
        """By the pool and by what queued the run: seconds until a worker had it."""
        self.events: defaultdict[str, Histogram] = defaultdict(Histogram)
        """By the pool: seconds from an event to the worker that has it."""
        self.pools = Names(MOST_POOLS)
        self.workflows = Names(MOST_WORKFLOWS)
        self.errors = Names(MOST_ERRORS)


class Outcomes:
    """One per engine. Its namespaces are those of tokens, so there are few."""

    def __init__(self) -> None:
        self.tenants: dict[str, Tenant] = {}

    def ended(self, conclusions: Iterable[Conclusion]) -> None:
        """These runs ended, and that is committed."""
        for namespace, workflow, status, error in conclusions:
            tenant = self._tenant(namespace)
            kind = "" if error is None or status == Status.COMPLETED else tenant.errors(_kind(error))
            key = (tenant.workflows(workflow), status, kind)
            tenant.ended[key] = tenant.ended.get(key, 0) + 1

    def claimed(self, claimed: Iterable[Claimed]) -> None:
        """Workers were given these runs, which were queued until then."""
        for run in claimed:
            row = run.row
            if row.claimed_at is None or run.more:  # where the history does not come along, nobody here knows since when
                continue
            if row.history_len == 0:
                self._queued(row, "start", (row.claimed_at - row.created_at).total_seconds())
            elif run.history and (why := queued_by(run.history[-1])) is not None:
                by, at = why
                self._queued(row, by, (micros(row.claimed_at) - at) / 1e6)

    def handed_over(self, namespace: str, pool: str, items: Iterable[Item], *, now: datetime) -> None:
        """A worker of this pool that holds a run is told of these for the first time."""
        for item in items:
            if item.kind == "event":
                tenant = self._tenant(namespace)
                tenant.events[tenant.pools(pool)].observe((now - item.at).total_seconds())

    def _queued(self, row: Row, by: str, seconds: float) -> None:
        tenant = self._tenant(row.namespace)
        pool = tenant.pools(row.pool or OTHER)
        tenant.queued[pool, by].observe(seconds)
        if by == QueuedBy.EVENT:
            tenant.events[pool].observe(seconds)

    def _tenant(self, namespace: str) -> Tenant:
        if (tenant := self.tenants.get(namespace)) is None:
            tenant = self.tenants[namespace] = Tenant()
        return tenant


def queued_by(chunk: str) -> tuple[str, int] | None:
    """Why a run is queued and since when, in microseconds, of the last chunk of its history; None where it does not end with that.

    The server writes that entry last, and in one form, so no JSON has to be read for it.
    """
    start = chunk.rfind(QUEUED, max(0, len(chunk) - TAIL))
    if start < 0:
        return None
    at, _, by = chunk[start + len(QUEUED) : -3].partition(',"by":"')
    return (by, int(at)) if by in REASONS and at.isdecimal() else None


def _kind(error: str) -> str:
    """The type of an error, which every ErrorInfo begins with."""
    found = ERROR_TYPE.match(error)
    return OTHER if found is None else found[1]
