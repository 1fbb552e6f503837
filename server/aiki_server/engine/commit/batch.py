"""The ops of one transaction, decided one after the other over the rows that it locked.

Pure: no I/O. An op sees what the ops before it in the batch did. What a run's end means for its parent is decided right
behind it, because the parent's row is locked too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from uuid import UUID

from aiki.protocol import Status
from aiki_server.engine.commit.after_commit import Conclusion, Effects
from aiki_server.engine.commit.left_behind import Left
from aiki_server.engine.commit.transitions import NOTHING_LEFT, Decision, child_ended, decide
from aiki_server.model import ops
from aiki_server.model.instants import micros
from aiki_server.model.rows import Chunk, Ended, NewChild, NewItem, Row
from aiki_server.store.queries.lanes import Change, Known, Progress, Writes
from aiki_server.store.queries.trials import Trial

# Looked up once: a member of an enumeration costs as much as five comparisons, and each commit comes by here.
_QUEUED = Status.QUEUED
_RUNNING = Status.RUNNING
_WAITING = Status.WAITING


class Batch:
    """Feed it ops by `add`; then `writes` is what to write and `effects` what to do after the commit."""

    def __init__(
        self,
        known_rows: Known,
        *,
        known: Mapping[tuple[UUID, str], int],
        open_events: Mapping[UUID, int],
        left: Mapping[UUID, Left] = MappingProxyType({}),
        orders: Collection[tuple[UUID, str]] = frozenset(),
    ) -> None:
        self.now = micros(known_rows.now)
        self.effects = Effects()
        self.without_effect = 0
        """How many ops changed nothing: what they were answered no write will confirm."""
        self._now_at = known_rows.now
        self._before = known_rows.rows
        self._places = known_rows.places
        self._rows = dict(known_rows.rows)
        self._known = dict(known)
        self._open = dict(open_events)
        self._left = left
        self._chunks: list[Chunk] = []
        self._items: list[NewItem] = []
        self._consumed: list[tuple[UUID, int]] = []
        self._children: list[NewChild] = []
        self._child_cancellations: list[tuple[UUID, UUID]] = []
        self._outputs: dict[UUID, str] = {}
        self._states: dict[UUID, str] = {}
        self._orders = orders
        self.carried_out: dict[tuple[UUID, str], None] = {}
        """Orders to note, by run and id: a repetition of one changes nothing."""
        self.drawn: list[Trial] = []
        """Children that a roll-out draws: to be noted in the same transaction."""

    def add(self, op: ops.Op) -> ops.Answer:
        """Decide one op; its answer holds once everything is committed."""
        row = self._rows.get(op.run)
        decision = self._deliver(row, op) if isinstance(op, ops.Deliver) else self._decide(row, op)
        if row is None or decision.row is None:
            self.without_effect += 1
        else:
            self._apply(row, decision)
        return decision.answer

    def writes(self) -> Writes:
        """Everything to write, each run once."""
        progress: list[Progress] = []
        changes: list[Change] = []
        for run, row in self._rows.items():
            before = self._before[run]
            if row is before:
                continue
            if _only_progressed(before, row):
                progress.append(
                    Progress(*self._at(before), row.commit_no, row.history_len, row.steps, self._states.get(run), row.has_children)
                )
            else:
                changes.append(self._change(before, row))
                self._note(before, row)
        return Writes(progress, changes, self._chunks, self._items, self._consumed, self._children, self._child_cancellations)

    def remembered(self) -> list[Row]:
        """The rows that are likely to be written next by an op: in workers' hands after the writes, or waiting for an event."""
        return [
            row
            for run, row in self._rows.items()
            if row is not self._before[run] and (row.status == _RUNNING or (row.status == _WAITING and row.waits_events is not None))
        ]

    def _decide(self, row: Row | None, op: ops.Op) -> Decision:
        if isinstance(op, ops.Pause | ops.Resume | ops.Retry) and op.id is not None and row is not None and row.namespace == op.namespace:
            order = (op.run, op.id)
            if order in self._orders or order in self.carried_out:
                return Decision(ops.Changed(row))
            decision = decide(row, op, now=self.now)
            if isinstance(decision.answer, ops.Changed):
                self.carried_out[order] = None
            return decision
        return decide(row, op, now=self.now, left=self._left.get(op.run, NOTHING_LEFT)) if self._left else decide(row, op, now=self.now)

    def _deliver(self, row: Row | None, op: ops.Deliver) -> Decision:
        known = self._known.get((op.run, op.event_id))
        decision = decide(row, op, now=self.now, known=known, open_events=self._open.get(op.run, 0))
        if decision.item is not None:
            self._known[op.run, op.event_id] = decision.item.seq
            self._open[op.run] = self._open.get(op.run, 0) + 1
        return decision

    def _apply(self, before: Row, decision: Decision) -> None:
        row = decision.row
        assert row is not None
        run = row.id
        self._rows[run] = row
        if decision.chunk is not None:
            self._chunks.append(decision.chunk)
        if decision.item is not None:
            self._items.append(decision.item)
        if decision.consumed:
            self._consumed.extend([(run, seq) for seq in decision.consumed])
        if decision.children:
            self._bear(row, decision.children, frozenset(decision.cancel_children))
        if decision.cancel_children:
            self._child_cancellations.extend([(child, run) for child in decision.cancel_children])
            self.effects.cancelled_children.extend(decision.cancel_children)
        if decision.output is not None:
            self._outputs[run] = decision.output
        if decision.state is not None:
            self._states[run] = decision.state
        if decision.inbox_pending and row.worker is not None:
            self.effects.inbox_pending.append((row.namespace, row.worker, run))
        if row.finished_at is not None and before.finished_at is None:
            self._ended(row)

    def _bear(self, row: Row, children: Sequence[ops.Child], cancelled: Collection[UUID]) -> None:
        for child in children:
            id_, workflow, version, pool, build, input_, on_parent_close, trial = child
            if trial is not None:
                self.drawn.append(Trial(id_, row.namespace, pool or "", build or "", trial))
            self._children.append(NewChild(id_, row.namespace, workflow, version, pool, build, input_, row.id, on_parent_close))
            if on_parent_close == "abandon" or id_ not in cancelled:  # else it ends before it begins
                self.effects.ring((row.namespace, pool, workflow, version, build), id_)

    def _ended(self, row: Row) -> None:
        end = Ended(row.id, row.namespace, row.status, self._outputs.get(row.id), row.error)
        self.effects.ended.append(end)
        self.effects.conclusions.append(Conclusion(row.namespace, row.workflow, row.status, row.error))
        if row.closes_children:
            self.effects.closing.append(row.id)
        parent = self._rows.get(row.parent) if row.parent is not None else None
        if parent is not None:
            told = child_ended(parent, ops.ChildEnded(row.id, end.status, end.output, end.error), now=self.now)
            if told.row is not None:
                self._apply(parent, told)

    def _at(self, before: Row) -> tuple[tuple[int, int], int, UUID, int, int]:
        """The first columns of what is written: an `At`, not made, for it is only unpacked."""
        return *self._places[before.id], before.id, before.epoch, before.history_len

    def _change(self, before: Row, row: Row) -> Change:
        return Change(
            *self._at(before), row.status, row.epoch, row.commit_no, row.deliveries, row.history_len, row.steps, row.inbox_seq, self._outputs.get(row.id), row.error,
            self._states.get(row.id), row.waits, row.waits_events, row.waits_children, row.waits_retry, row.due_at, row.has_children,
            row.closes_children, row.cancel_requested, row.pause_requested, row.finished_at,
        )  # fmt: skip

    def _note(self, before: Row, row: Row) -> None:
        """What a changed run means for those outside; judged by where it is at the end of the batch."""
        if row.status == _QUEUED:
            if before.status != _QUEUED:
                self.effects.ring((row.namespace, row.pool, row.workflow, row.version, row.build), row.id)
        elif row.status == _WAITING:
            self.effects.due_by(row.due_at)
        if before.status == _RUNNING and row.status != _RUNNING and before.claimed_at is not None and row.pool is not None:
            self.effects.served.append((row.namespace, row.pool, (self._now_at - before.claimed_at).total_seconds()))


def _only_progressed(before: Row, row: Row) -> bool:
    return (
        row.status == _RUNNING
        and row.deliveries == 0  # what is written so forgives all deliveries (S9)
        and row.inbox_seq == before.inbox_seq
        and row.pause_requested == before.pause_requested
        and row.cancel_requested == before.cancel_requested
    )
