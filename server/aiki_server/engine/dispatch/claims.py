"""Claims: queued runs become a worker's, with all it needs to go on. Many claims share one statement.

The statement itself is the guard: queued, of the worker's namespace, pool and build, of a version it carries, and the
worker's lease holds. What it does not return was stale, foreign or malformed, and the worker drops it; where the run is queued
still and the worker may have it, the worker keeps the ring, for nobody else has read it: there was no room, or its lease had lapsed. A worker
that was declared lost while it claimed is told so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple
from uuid import UUID

from aiki.protocol import MAX_ANSWER_BYTES, MAX_DELIVERIES
from aiki_server.engine.commit.row_cache import Held
from aiki_server.engine.runtime.batcher import Batcher
from aiki_server.faults import Faults
from aiki_server.model import ops
from aiki_server.model.keys import RunKey, WorkerKey
from aiki_server.model.rows import Brought, ClaimedRow, Granted, Item, Row
from aiki_server.model.workers import Carrier
from aiki_server.store.connections import Db, Pool
from aiki_server.store.queries import claims

NOTHING = Brought([], [])


class Claim(NamedTuple):
    """A worker asks for these runs, or for any up to `limit`. The carrier is of the worker's namespace."""

    worker: WorkerKey
    carrier: Carrier
    runs: tuple[UUID, ...] | None
    limit: int
    held: tuple[UUID, ...] | None
    """The answer to an earlier one was lost: what the worker was given besides these is given again."""


class Claimed(NamedTuple):
    """A run that is the worker's now."""

    row: Row
    input: str
    history: list[str]
    inbox: list[Item]
    more: bool
    """Both are empty, for they are too large to come along."""


class Given(NamedTuple):
    """The answer to a claim."""

    runs: list[Claimed]
    remaining: list[UUID]
    """Of the runs asked for, those that are queued still and that the worker may have: there was no room for them, or its lease had lapsed."""
    more: bool
    """There is more that an earlier, lost answer had granted."""
    known: bool
    """False where nothing was given because the worker was declared lost."""


class _Missed(NamedTuple):
    """Of the runs that were named and not given, those that are queued still."""

    poisoned: list[ops.Op]
    remaining: set[tuple[WorkerKey, UUID]]
    """Those that the worker may have."""
    lost: set[WorkerKey]
    """The workers that were given nothing because they were declared lost."""


class _Room:
    """How many bytes the answers of a batch may have yet, for each namespace, so that none of them fills the memory of the server."""

    def __init__(self) -> None:
        self._left: dict[str, int] = {}
        self.cut: set[WorkerKey] = set()
        """Who was not given again all that an earlier, lost answer had granted."""

    async def grant_again(self, worker: WorkerKey, ask: Callable[[int], Awaitable[Granted]]) -> list[ClaimedRow]:
        """What is granted again within the room that there is."""
        granted = await self._granted(worker, ask)
        if granted.cut:
            self.cut.add(worker)
        return granted.rows

    async def grant(self, worker: WorkerKey, ask: Callable[[int], Awaitable[Granted]]) -> list[ClaimedRow]:
        """What is granted within the room that there is."""
        return (await self._granted(worker, ask)).rows

    async def _granted(self, worker: WorkerKey, ask: Callable[[int], Awaitable[Granted]]) -> Granted:
        room = self._left.get(worker.namespace, MAX_ANSWER_BYTES)
        granted = await ask(room) if room >= claims.LARGEST_BYTES else Granted([], 0, cut=True)
        self._left[worker.namespace] = room - granted.spent
        return granted


class Claims:
    """`batcher` answers claims; it has to be running. `submit` takes the ops that end poisoned runs, `granted` is told what was queued and is not any more."""

    def __init__(
        self,
        pool: Pool,
        *,
        lease: float,
        submit: Callable[[list[ops.Op]], Awaitable[list[ops.Answer]]],
        held: Held,
        granted: Callable[[list[Claimed]], None],
        faults: Faults,
    ) -> None:
        self._pool = pool
        self._lease = lease
        self._submit = submit
        self._held = held
        self._granted = granted
        self._faults = faults
        self.granted_again = 0
        """Runs that an answer which got lost had granted, and that their workers asked for."""
        self.batcher: Batcher[Claim, Given] = Batcher("claims", self._apply, limit=100, repeatable=False)

    async def _apply(self, wanted: list[Claim]) -> list[Given]:
        # Not repeated after any error: the runs may be claimed, and a second claim would not find them. Each worker of the batch is
        # told that its claim failed, and says with the next one what it holds.
        era, room = self._held.era, _Room()
        async with self._pool.acquire() as db:
            # What was lost is looked up first: it must not find what this batch itself gives out.
            rows = [row for claim in wanted if claim.held is not None for row in await _lost(db, claim, claim.held, room)]
            again = len(rows)
            self.granted_again += again
            rows.extend(await self._by_id(db, wanted, room))
            for claim in wanted:
                if claim.runs is None and (claim.carrier.versions or claim.carrier.own):
                    rows.extend(await self._any(db, claim, room))
            self._faults.at("after_claim")
            for one in rows:
                self._held.put(one.row, one.place, era=era)
            missed = await self._missed(db, wanted, rows)
            claimed = await _complete(db, rows)
        self._granted(claimed[again:])
        if missed.poisoned:
            await self._submit(missed.poisoned)
        return _shared_out(wanted, claimed, room, missed)

    async def _any(self, db: Db, claim: Claim, room: _Room) -> list[ClaimedRow]:
        async def ask(size: int) -> Granted:
            name, limit = claim.worker.worker, claim.limit
            return await claims.claim_any(db, claim.carrier, name, limit=limit, deliveries=MAX_DELIVERIES, lease=self._lease, room=size)

        return await room.grant(claim.worker, ask)

    async def _by_id(self, db: Db, wanted: list[Claim], room: _Room) -> list[ClaimedRow]:
        asked: dict[tuple[Carrier, WorkerKey], list[UUID]] = {}
        for claim in wanted:
            if claim.runs and claim.carrier.versions:
                asked.setdefault((claim.carrier, claim.worker), []).extend(claim.runs)
        rows: list[ClaimedRow] = []
        for (carrier, worker), runs in asked.items():
            rows.extend(await self._named(db, carrier, worker, runs, room))
        return rows

    async def _named(self, db: Db, carrier: Carrier, worker: WorkerKey, runs: list[UUID], room: _Room) -> list[ClaimedRow]:
        async def ask(size: int) -> Granted:
            return await claims.claim(db, carrier, worker.worker, runs, deliveries=MAX_DELIVERIES, lease=self._lease, room=size)

        return await room.grant(worker, ask)

    async def _missed(self, db: Db, wanted: list[Claim], rows: list[ClaimedRow]) -> _Missed:
        carriers = {(claim.worker, run): claim.carrier for claim in wanted for run in claim.runs or ()}
        given = {RunKey(claimed.row.namespace, claimed.row.id) for claimed in rows}
        named = {(worker, run) for worker, run in carriers if RunKey(worker.namespace, run) not in given}
        found = await claims.missed(db, named, deliveries=MAX_DELIVERIES) if named else []
        keyed = [(WorkerKey(one.namespace, one.worker), one) for one in found]
        fitting = [(worker, one) for worker, one in keyed if one.fits(carriers[worker, one.run])]
        return _Missed(
            [ops.Poison(run, namespace) for namespace, run in {RunKey(one.namespace, one.run) for one in found if one.poisoned}],
            {(worker, one.run) for worker, one in fitting},
            {worker for worker, one in fitting if not one.known},
        )


async def _lost(db: Db, claim: Claim, held: tuple[UUID, ...], room: _Room) -> list[ClaimedRow]:
    return await room.grant_again(claim.worker, lambda size: claims.grant_again(db, claim.worker, held=held, room=size))


async def _complete(db: Db, claimed: list[ClaimedRow]) -> list[Claimed]:
    """With what was not brought by the claim itself."""
    missing = [one.row for one in claimed if one.brought is None and not one.large]
    begun = [row.id for row in missing if row.history_len]
    with_inbox = [row.id for row in missing if row.inbox_seq]
    later = await claims.brought(db, begun=begun, with_inbox=with_inbox) if begun or with_inbox else {}
    return [_with(one, one.brought or later.get(one.row.id, NOTHING)) for one in claimed]


def _with(claimed: ClaimedRow, brought: Brought) -> Claimed:
    row = claimed.row
    return Claimed(row, claimed.input, brought.history, [item for item in brought.inbox if item.seq <= row.inbox_seq], claimed.large)


def _shared_out(wanted: list[Claim], claimed: list[Claimed], room: _Room, missed: _Missed) -> list[Given]:
    """Each claim's part; where a worker asked twice at once, a run goes to the claim that named it.

    Another namespace may have a worker of the same name, which asks at the same time: a run goes to its own namespace's.
    """
    shares: list[list[Claimed]] = [[] for _ in wanted]
    named = {(claim.worker, run): index for index, claim in enumerate(wanted) for run in claim.runs or ()}
    any_of = {claim.worker: index for index, claim in enumerate(wanted) if claim.runs is None or claim.held is not None}
    for found in claimed:
        worker = WorkerKey(found.row.namespace, found.row.worker or "")
        index = named.get((worker, found.row.id), any_of.get(worker))
        if index is not None:
            shares[index].append(found)
    return [
        Given(
            share,
            [run for run in claim.runs or () if (claim.worker, run) in missed.remaining],
            more=claim.held is not None and claim.worker in room.cut,
            known=bool(share) or not (claim.runs and claim.worker in missed.lost),
        )
        for claim, share in zip(wanted, shares, strict=True)
    ]
