"""A lane: the group commit of everything that changes runs. One transaction at a time, rows locked in id order.

All ops of a run take the same lane, so they are decided in the order of arrival. What came of a batch is told to the world
after its commit. A collision with another transaction, or a lost connection, repeats the batch: ops are idempotent
by commit number, event id or state, so an unknown outcome does no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from uuid import UUID

from aiki.protocol import MAX_OPEN_EVENTS
from aiki_server.engine import ops
from aiki_server.engine.batch import Batch
from aiki_server.engine.batcher import Batcher
from aiki_server.engine.clock import DatabaseClock
from aiki_server.engine.effects import Effects
from aiki_server.engine.repeat import repeated
from aiki_server.faults import Faults
from aiki_server.store import lanes
from aiki_server.store.database import Db, Pool
from aiki_server.store.lanes import Locked


class Lanes:
    """`submit` answers ops; `batchers` have to be running."""

    def __init__(self, pool: Pool, *, count: int, clock: DatabaseClock, after: Callable[[Effects], None], faults: Faults) -> None:
        self._pool = pool
        self._clock = clock
        self._after = after
        self._faults = faults
        self.batchers: list[Batcher[ops.Op, ops.Answer]] = [Batcher(f"ops of lane {number}", self._apply) for number in range(count)]

    async def submit(self, wanted: Sequence[ops.Op]) -> list[ops.Answer]:
        """The answers to these ops, in order; everything is committed by then."""
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
        answers, effects = await repeated(lambda: self._transact(batch))
        self._faults.at("after_commit")
        if effects.queued:
            self._faults.at("after_dispatch_commit")
        self._after(effects)
        return answers

    async def _transact(self, batch: list[ops.Op]) -> tuple[list[ops.Answer], Effects]:
        async with self._pool.acquire() as db, db.transaction():
            locked = await lanes.lock(db, {op.run for op in batch}, ending={op.run for op in batch if _may_end(op)})
            decided = await _look(db, locked, batch)
            self._clock.read(decided.now)
            answers = [decided.add(op) for op in batch]
            writes = decided.writes()
            if any(writes):
                await lanes.write(db, writes)
            answers = await _with_items(db, batch, answers)
            self._faults.at("before_commit")
        return answers, decided.effects


def _may_end(op: ops.Op) -> bool:
    return op.op.finish is not None if isinstance(op, ops.Commit) else isinstance(op, ops.Cancel | ops.Poison)


async def _look(db: Db, locked: Locked, batch: list[ops.Op]) -> Batch:
    """The batch, with what events have to know besides their runs."""
    events = [(op.run, op.event_id) for op in batch if isinstance(op, ops.Deliver)]
    if not events:
        return Batch(locked, known={}, open_events={})
    crowded = {run for run, _ in events if run in locked.rows and locked.rows[run].news >= MAX_OPEN_EVENTS}
    known = await lanes.known_events(db, events)
    return Batch(locked, known=known, open_events=await lanes.open_events(db, crowded) if crowded else {})


async def _with_items(db: Db, batch: list[ops.Op], answers: list[ops.Answer]) -> list[ops.Answer]:
    """Where the answer is that something came in: what it is."""
    asked = [(op.run, answer.seen) for op, answer in zip(batch, answers, strict=True) if isinstance(answer, ops.Fresh)]
    if not asked:
        return answers
    found = await lanes.news(db, asked)
    return [
        ops.Fresh(answer.seen, tuple(item for item in found.get(op.run, ()) if item.seq > answer.seen))
        if isinstance(answer, ops.Fresh)
        else answer
        for op, answer in zip(batch, answers, strict=True)
    ]
