"""What the events that workflows wait for take, as workers have registered it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from aiki_server.store.connections import Db
from aiki_server.store.queries.registry import ROWS_A_SLICE
from aiki_server.store.statements import SQL

MOST_OF_A_NAMESPACE = 10_000
MOST_BYTES_OF_A_NAMESPACE = 16 * 1024 * 1024
"""What is more is not stored: payloads of those events are not checked."""


class EventSchema(NamedTuple):
    """That workers of a build have registered this schema for an event of a version; `build` is '' outside Kubernetes."""

    namespace: str
    workflow: str
    version: str
    pool: str
    build: str
    event: str
    digest: str


async def of(db: Db, namespaces: Collection[str]) -> list[EventSchema]:
    """All of these namespaces, without their texts; read in slices, as registrations are."""
    async with db.transaction():
        return [EventSchema(*record) async for record in db.cursor(SQL["event_schemas.of"], namespaces, prefetch=ROWS_A_SLICE)]


async def texts(db: Db, rows: Sequence[EventSchema]) -> dict[str, str]:
    """By digest, the texts of these."""
    return {record[0]: record[1] for record in await db.fetch(SQL["event_schemas.texts"], *zip(*rows, strict=True))}


async def register(
    db: Db,
    *,
    namespace: str,
    worker: str,
    pool: str,
    build: str | None,
    versions: Sequence[tuple[str, str]],
    schemas: Sequence[tuple[str, str, str, str, str]],
) -> None:
    """A worker carries these versions, whose events take this: workflow, version, event, digest and text. Within the transaction that registers it."""
    place = namespace, pool, build or ""
    carried, given = sorted(set(versions)), sorted(set(schemas))
    workflows, numbers, events, digests, written = zip(*given, strict=True) if given else ((), (), (), (), ())
    await db.execute(SQL["event_schemas.replace"], *place, worker, *zip(*carried, strict=True), workflows, numbers, events, digests)
    if given:
        most = MOST_OF_A_NAMESPACE, MOST_BYTES_OF_A_NAMESPACE
        await db.execute(SQL["event_schemas.register"], *place, workflows, numbers, events, digests, written, *most)
