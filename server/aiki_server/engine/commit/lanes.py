"""A lane: the group commit of everything that changes runs. One transaction at a time.

Commits to runs that this server knows, because it gave them out or wrote them last, are decided over what it knows and written by one
statement, which writes nothing if it knows wrong; so are events that come alone. All else, among it commits that cancel children, and what
that refused, locks the rows in id order, decides, and writes.

All ops of a run take the same lane, so they are decided in the order of arrival. What came of a batch is told to the world
after its commit. A collision with another transaction, or a lost connection, repeats the batch: ops are idempotent
by commit number, event id or state, so an unknown outcome does no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from uuid import UUID

from aiki.protocol import MAX_OPEN_EVENTS
from aiki_server.engine.commit.after_commit import Effects
from aiki_server.engine.commit.batch import Batch
from aiki_server.engine.commit.last_look import LastLook
from aiki_server.engine.commit.left_behind import Left
from aiki_server.engine.commit.row_cache import Held
from aiki_server.engine.runtime.batcher import Batcher
from aiki_server.engine.runtime.clock import DatabaseClock
from aiki_server.engine.runtime.retry import repeated
from aiki_server.faults import Faults
from aiki_server.model import ops
from aiki_server.model.instants import instant, micros
from aiki_server.model.rows import Row
from aiki_server.store.connections import Db, Pool
from aiki_server.store.queries import lanes, trials
from aiki_server.store.queries.lanes import Known


class Lanes:
    """`submit` answers ops; `batchers` have to be running."""

    def __init__(
        self, pool: Pool, *, count: int, clock: DatabaseClock, held: Held, after: Callable[[Effects], None], faults: Faults
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._held = held
        self._after = after
        self._faults = faults
        self._last_look = LastLook()
        self.quick = 0
        """How many ops were written without reading their rows."""
        self.batchers: list[Batcher[ops.Op, ops.Answer]] = [Batcher(f"ops of lane {number}", self._apply) for number in range(count)]

    async def submit(self, wanted: Sequence[ops.Op]) -> list[ops.Answer]:
        """The answers to these ops, in order; everything is committed by then."""
        if self._last_look.under_way and isinstance(wanted[0], ops.Deliver):
            await self._last_look.over(wanted[0].run)
        if len(wanted) == 1:
            return await self._lane(wanted[0].run).put(list(wanted))
        shares: dict[Batcher[ops.Op, ops.Answer], list[int]] = {}
        for index, op in enumerate(wanted):
            shares.setdefault(self._lane(op.run), []).append(index)
        asked = [lane.put([wanted[index] for index in indexes]) for lane, indexes in shares.items()]
        answers: list[ops.Answer] = [ops.Missing()] * len(wanted)
        for indexes, found in zip(shares.values(), await asyncio.gather(*asked), strict=True):
            for index, answer in zip(indexes, found, strict=True):
                answers[index] = answer
        return answers

    def _lane(self, run: UUID) -> Batcher[ops.Op, ops.Answer]:
        return self.batchers[run.int % len(self.batchers)]

    async def _apply(self, batch: list[ops.Op]) -> list[ops.Answer]:
        quick, answers = self._quick(batch), dict[int, ops.Answer]()
        if quick:
            answers |= await repeated(lambda: self._advance(quick))
        self.quick += len(answers)
        slow = {index: op for index, op in enumerate(batch) if index not in answers}
        if slow:
            answers |= await repeated(lambda: self._transact(slow))
        answered = [answers[index] for index in range(len(batch))]
        self._last_look.see(batch, answered)
        return answered

    def _quick(self, batch: list[ops.Op]) -> Mapping[int, ops.Op]:
        """The commits to runs whose rows are known; all ops of a run go the same way, so that they stay in order.

        Events only where there is nothing else: the timers, or another replica, may have changed what waits, and the commits beside
        them should not have to be written twice for that.
        """
        if all(isinstance(op, ops.Deliver) for op in batch):
            return dict(enumerate(batch)) if all(self._takes(op.run) for op in batch) else {}
        known = {index: op for index, op in enumerate(batch) if isinstance(op, ops.Commit) and self._knows(op)}
        if len(known) == len(batch):
            return known
        others = {op.run for index, op in enumerate(batch) if index not in known}
        return {index: op for index, op in known.items() if op.run not in others}

    def _knows(self, op: ops.Commit) -> bool:
        known = self._held.get(op.run)
        if known is None or known[0].epoch != op.op.epoch or op.cancel_children:
            return False
        if op.op.stop is not None and known[0].cancel_requested:
            return False
        if op.children and any(child.trial is not None for child in op.children):
            return False
        return op.op.finish is None or known[0].parent is None

    def _takes(self, run: UUID) -> bool:
        """Whether an event can be stored without counting those that nobody consumed."""
        known = self._held.get(run)
        return known is not None and known[0].inbox_seq < MAX_OPEN_EVENTS

    async def _advance(self, batch: Mapping[int, ops.Op]) -> dict[int, ops.Answer]:
        """Decide over the rows as this server left them, and write in one statement: it writes nothing if somebody changed one since.

        Then, and where an op would have no effect that the write confirms, nothing is answered and the rows are locked after all.
        """
        era = self._held.era
        # In the order of ids, in which everybody locks.
        known = {run: self._held.get(run) for run in sorted({op.run for op in batch.values()}, key=_number)}
        rows, places = {run: pair[0] for run, pair in known.items() if pair}, {run: pair[1] for run, pair in known.items() if pair}
        decided = Batch(Known(rows, places, instant(self._clock.now())), known={}, open_events={})
        answers = [decided.add(op) for op in batch.values()]
        if decided.without_effect or len(rows) < len(known):
            return {}
        self._faults.at("before_commit")
        async with self._pool.acquire() as db:
            try:
                written = await lanes.write(db, decided.writes())
            except lanes.ChangedMeanwhileError:
                self._held.replace(rows, {}, era=era)
                return {}
            self._committed(decided, written, rows, era=era)
            answers = await _with_items(db, batch.values(), answers)
        return dict(zip(batch, answers, strict=True))

    async def _transact(self, batch: Mapping[int, ops.Op]) -> dict[int, ops.Answer]:
        """Lock the rows, decide, write."""
        wanted, era = batch.values(), self._held.era
        async with self._pool.acquire() as db:
            async with db.transaction():
                locked = await lanes.lock(db, {op.run for op in wanted}, ending={op.run for op in wanted if _may_end(op)})
                decided = await _look(db, locked, wanted)
                self._clock.read(decided.now)
                answers = [decided.add(op) for op in wanted]
                writes = decided.writes()
                written = await lanes.write(db, writes) if any(writes) else None
                if decided.carried_out:
                    await lanes.note_orders(db, list(decided.carried_out))
                if writes.child_cancellations:
                    await lanes.note_child_cancellations(db, writes.child_cancellations)
                if decided.drawn:
                    await trials.note(db, decided.drawn)
                answers = await _with_items(db, wanted, answers)
                self._faults.at("before_commit")
            if written is not None:
                self._committed(decided, written, locked.rows, era=era)
        return dict(zip(batch, answers, strict=True))

    def _committed(self, decided: Batch, written: lanes.Written, rows: Mapping[UUID, Row], *, era: int) -> None:
        """Remember what was written, and tell the world."""
        self._clock.read(micros(written.now))
        self._held.replace(rows, {row.id: (row, written.places[row.id]) for row in decided.remembered()}, era=era)
        self._faults.at("after_commit")
        if decided.effects.queued:
            self._faults.at("after_dispatch_commit")
        self._after(decided.effects)


def _number(run: UUID) -> int:
    return run.int


def _may_end(op: ops.Op) -> bool:
    if isinstance(op, ops.Commit):
        return op.op.finish is not None or op.op.stop is not None
    return isinstance(op, ops.Cancel | ops.GiveUpTelling | ops.Poison)


def _may_end_without_its_code(row: Row | None, op: ops.Op) -> bool:
    if row is None or row.finished_at is not None:
        return False
    if isinstance(op, ops.Commit):
        return op.op.stop is not None and row.cancel_requested
    return isinstance(op, ops.GiveUpTelling) or (isinstance(op, ops.Cancel) and op.force)


async def _look(db: Db, locked: Known, batch: Collection[ops.Op]) -> Batch:
    """The batch, with what events, and runs that end without their code, have to know besides their rows."""
    events = [(op.run, op.event_id) for op in batch if isinstance(op, ops.Deliver)]
    ending = {op.run for op in batch if _may_end_without_its_code(locked.rows.get(op.run), op)}
    left = {run: Left(*found) for run, found in (await lanes.left(db, ending)).items()} if ending else {}
    asked = [(op.run, op.id) for op in batch if isinstance(op, ops.Pause | ops.Resume | ops.Retry) and op.id is not None]
    orders = await lanes.known_orders(db, asked) if asked else frozenset()
    if not events:
        return Batch(locked, known={}, open_events={}, left=left, orders=orders)
    crowded = {run for run, _ in events if run in locked.rows and locked.rows[run].inbox_seq >= MAX_OPEN_EVENTS}
    known = await lanes.known_events(db, events)
    return Batch(locked, known=known, open_events=await lanes.open_events(db, crowded) if crowded else {}, left=left, orders=orders)


async def _with_items(db: Db, batch: Collection[ops.Op], answers: list[ops.Answer]) -> list[ops.Answer]:
    """Where the answer is that something came in: what it is."""
    asked: dict[UUID, int] = {}  # an op may meet its own repetition in a batch
    namespaces: dict[UUID, str] = {}
    for op, answer in zip(batch, answers, strict=True):
        if isinstance(answer, ops.InboxPending):
            asked[op.run] = max(0, min(answer.inbox_seen, asked.get(op.run, answer.inbox_seen)))
            namespaces[op.run] = op.namespace
    if not asked:
        return answers
    # Perhaps not all: the worker goes on with what it is told, as if the rest had come later, and meets that where it parks or ends next.
    found = (await lanes.inbox_after(db, [(run, inbox_seen, namespaces[run]) for run, inbox_seen in asked.items()])).of
    return [
        answer._replace(items=tuple(item for item in found.get(op.run, ()) if item.seq > answer.inbox_seen))
        if isinstance(answer, ops.InboxPending)
        else answer
        for op, answer in zip(batch, answers, strict=True)
    ]
