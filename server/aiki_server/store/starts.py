"""Creating runs."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from aiki_server.store.database import Db
from aiki_server.store.rows import Existing, NewRun
from aiki_server.store.statements import SQL

_INSERT = SQL["starts.insert"]


async def insert(db: Db, runs: Sequence[NewRun]) -> set[UUID]:
    """Create runs; the ids of those that were created, which leaves out those whose id or ref was there."""
    return {record[0] for record in await db.fetch(_INSERT, *zip(*runs, strict=True))}


async def existing(db: Db, runs: Sequence[NewRun]) -> list[Existing]:
    """The runs that stood in the way."""
    arguments = [run.id for run in runs], [run.namespace for run in runs], [run.ref for run in runs]
    return [Existing(*record) for record in await db.fetch(SQL["starts.existing"], *arguments)]
