"""Creating runs."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from aiki_server.model.rows import Existing, NewRun
from aiki_server.store.connections import Db
from aiki_server.store.queries import trials
from aiki_server.store.queries.trials import Trial
from aiki_server.store.statements import SQL

_INSERT = SQL["starts.insert"]


async def insert(db: Db, runs: Sequence[NewRun]) -> set[UUID]:
    """Create runs; the ids of those that were created, which leaves out those whose id or ref was there."""
    *columns, drawn = zip(*runs, strict=True)
    if not any(drawn):
        return {record[0] for record in await db.fetch(_INSERT, *columns)}
    async with db.transaction():
        created = {record[0] for record in await db.fetch(_INSERT, *columns)}
        if found := [_trial(run) for run in runs if run.trial is not None and run.id in created]:
            await trials.note(db, found)
    return created


def _trial(run: NewRun) -> Trial:
    return Trial(run.id, run.namespace, run.pool or "", run.build or "", run.trial or "")


async def existing(db: Db, runs: Sequence[NewRun]) -> list[Existing]:
    """The runs that stood in the way."""
    arguments = [run.id for run in runs], [run.namespace for run in runs], [run.ref for run in runs]
    return [Existing(*record) for record in await db.fetch(SQL["starts.existing"], *arguments)]
