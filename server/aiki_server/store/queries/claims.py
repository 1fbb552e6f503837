"""Giving queued runs to workers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from asyncpg import Record

from aiki.protocol import MAX_ANSWER_BYTES, MAX_PAYLOAD_BYTES
from aiki_server.model.keys import WorkerKey
from aiki_server.model.rows import Brought, ClaimedRow, Granted, Item, Place, Row
from aiki_server.model.workers import Carrier, Holding, Missed
from aiki_server.store.connections import Db
from aiki_server.store.statements import SQL

_CLAIM = SQL["claims.claim"]
WHOLE_BYTES = MAX_ANSWER_BYTES // 2
"""What a run brings at most to come whole with its claim."""
LARGEST_BYTES = WHOLE_BYTES + MAX_PAYLOAD_BYTES + 4096
"""What any run adds to an answer at most."""


async def claim(db: Db, carrier: Carrier, worker: str, runs: Collection[UUID], *, deliveries: int, lease: float, room: int) -> Granted:
    """Give a worker the runs it asks for, where they are queued and may be claimed, as far as there is room for."""
    carried = [f"{workflow}@{version}" for workflow, version in carrier.versions]
    records = await db.fetch(
        _CLAIM, room, WHOLE_BYTES, runs, worker, carrier.namespace, carrier.pool, carrier.build, carried, deliveries, lease
    )
    return _granted(records, list(map(_claimed_with_all, records)))


async def claim_any(db: Db, carrier: Carrier, worker: str, *, limit: int, deliveries: int, lease: float, room: int) -> Granted:
    """Give a worker up to `limit` queued runs of the carrier's versions."""
    wanted = sorted(carrier.versions | carrier.own)
    workflows, versions = zip(*wanted, strict=True)
    namespace, pool, build, any_run, _ = carrier
    asked = (worker, namespace, pool, build, workflows, versions, deliveries, limit, lease, [version in any_run for version in wanted])
    records = await db.fetch(SQL["claims.claim_any"], room, WHOLE_BYTES, *asked)
    return _granted(records, list(map(_claimed, records)))


async def grant_again(db: Db, worker: WorkerKey, *, held: Collection[UUID], room: int) -> Granted:
    """Give a worker anew what is in its hands and not among what it knows to hold."""
    records = await db.fetch(SQL["claims.grant_again"], room, WHOLE_BYTES, *worker, held)
    return _granted(records, list(map(_claimed, records)))


async def brought(db: Db, *, begun: Collection[UUID], with_inbox: Collection[UUID]) -> dict[UUID, Brought]:
    """What comes with each run: with those that have `begun` a history, with those `with_inbox` an inbox."""
    found: dict[UUID, Brought] = {}
    for record in await db.fetch(SQL["claims.brought"], begun, with_inbox):
        item = Item(*record)
        history, inbox = found.setdefault(item.run, Brought([], []))
        if item.kind:
            inbox.append(item)
        else:
            history.append(item.payload or "")
    return found


async def replay_page(db: Db, run: UUID, *, chunk: int, item: int, inbox_seq: int) -> tuple[list[tuple[int, str]], list[Item], bool]:
    """Chunks and items of a run behind those, each chunk with its number, as many as an answer may hold; and whether there is more."""
    records = await db.fetch(SQL["claims.replay_page"], run, chunk, item, inbox_seq, MAX_ANSWER_BYTES)
    chunks = [(record["seq"], record["payload"]) for record in records if record["kind"] is None]
    items = [Item(run, record["seq"], *record[:7]) for record in records if record["kind"] is not None]
    return chunks, items, bool(records) and len(records) < records[0]["total"]


async def missed(db: Db, named: Collection[tuple[WorkerKey, UUID]], *, deliveries: int) -> list[Missed]:
    """Of the runs that workers named and were not given, those that are queued still."""
    namespaces, names, runs = zip(*((*worker, run) for worker, run in named), strict=True)
    return [Missed(*record) for record in await db.fetch(SQL["claims.missed"], namespaces, names, runs, deliveries)]


async def all_poisoned(db: Db, *, deliveries: int) -> list[tuple[UUID, str]]:
    """Queued runs that were delivered too often, with their namespaces; a thousand at most."""
    return [(record[0], record[1]) for record in await db.fetch(SQL["claims.all_poisoned"], deliveries)]


async def held(db: Db, asked: Sequence[tuple[UUID, int]], *, worker: WorkerKey) -> dict[UUID, Holding]:
    """How it is with each run and epoch that a worker asks after."""
    runs, epochs = zip(*asked, strict=True)
    records = await db.fetch(SQL["claims.holding"], runs, epochs, *worker)
    return {record[0]: Holding(*record[1:]) for record in records}


async def ack_inbox(db: Db, acked: Sequence[tuple[UUID, int]]) -> None:
    """Remember up to which item the workers of these runs have read what came in."""
    await db.execute(SQL["claims.ack_inbox"], *zip(*acked, strict=True))


def _claimed_with_all(record: Record) -> ClaimedRow:
    *columns, input_, ctid, xmin, large, _, _, complete, chunks, seqs, kinds, names, payloads, children, statuses, errors, ats = record
    row = Row(*columns)
    if not complete:
        return ClaimedRow(row, input_, Place(ctid, xmin), large)
    columns_of_items = (seqs, kinds, names, payloads, children, statuses, errors, ats)
    items = [Item(row.id, *item) for item in zip(*columns_of_items, strict=True)] if seqs else []
    return ClaimedRow(row, input_, Place(ctid, xmin), large, Brought(chunks or [], items))


def _claimed(record: Record) -> ClaimedRow:
    *columns, input_, ctid, xmin, large, _, _ = record
    return ClaimedRow(Row(*columns), input_, Place(ctid, xmin), large)


def _granted(records: Sequence[Record], rows: list[ClaimedRow]) -> Granted:
    return Granted(rows, records[0]["spent"], records[0]["cut"]) if records else Granted([], 0, cut=False)
