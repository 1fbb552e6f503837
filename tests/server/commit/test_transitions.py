"""Laws of the pure decisions: S7, S12, S13, S14, S27, S29, over random sequences of ops, claims and timers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aiki.protocol import TERMINAL, CommitOp, ErrorInfo, Finish, Park, QueuedBy, Status
from aiki_server.engine.commit.batch import Batch
from aiki_server.engine.commit.transitions import Decision, child_ended, decide
from aiki_server.model import ops
from aiki_server.model.rows import NewItem, Place, Row
from aiki_server.store.queries.lanes import Known, Writes
from support.engine.folding import folded

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
PARENT, CHILD = UUID(int=1), UUID(int=2)
RUNS = st.sampled_from([PARENT, CHILD])
EDGES = {
    "scheduled": {"queued", "paused", "cancelled"},
    "queued": {"running", "paused", "cancelled", "failed", "waiting"},
    "running": {"queued", "waiting", "paused", "completed", "failed", "cancelled"},
    "waiting": {"queued", "paused", "cancelled"},
    "paused": {"queued", "cancelled", "waiting"},
}
ERROR = ErrorInfo(type="E", message="m")


def born(run: UUID, *, parent: UUID | None = None, status: str = "queued", due: datetime | None = None) -> Row:
    return Row(
        id=run, namespace="ns", workflow="flow", version="1.0", pool="main", build=None, status=status, epoch=0, worker=None, commit_no=0, deliveries=0,
        history_len=0, steps=0, inbox_seq=0, inbox_acked_seq=0, error=None, waits=None, waits_events=None, waits_children=False, waits_retry=False, due_at=due, parent=parent,
        on_parent_close="cancel", has_children=False, closes_children=False, cancel_requested=False, pause_requested=False, created_at=EPOCH, started_at=None,
        claimed_at=None, finished_at=None, ref=None,
    )  # fmt: skip


class Runs(RuleBasedStateMachine):
    """A parent and its child, kept as the database would, changed by batches of one op or more."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = {PARENT: born(PARENT, status="scheduled", due=EPOCH), CHILD: born(CHILD, parent=PARENT)}
        self.history: dict[UUID, list[dict[str, Any]]] = {PARENT: [], CHILD: []}
        self.inbox: dict[UUID, list[int]] = {PARENT: [], CHILD: []}
        self.known: dict[tuple[UUID, str], int] = {}
        self.last: dict[UUID, tuple[ops.Commit, ops.Answer]] = {}
        self.now = EPOCH

    def apply(self, *wanted: ops.Op) -> list[ops.Answer]:
        self.now += timedelta(seconds=1)
        before = dict(self.rows)
        batch = Batch(
            Known(dict(self.rows), {run: Place((run.int, 0), 1) for run in self.rows}, self.now), known=self.known, open_events={}
        )
        answers = [batch.add(op) for op in wanted]
        self.write(batch.writes())
        for run, row in self.rows.items():
            steps = path(before[run].status, row.status)
            assert steps, f"{before[run].status} -> {row.status} by {wanted}"
        return answers

    def write(self, writes: Writes) -> None:
        for progress in writes.progress:
            run = progress.id
            self.rows[run] = self.rows[run]._replace(
                commit_no=progress.commit_no,
                history_len=progress.history_len,
                steps=progress.steps,
                has_children=progress.has_children,
                deliveries=0,
            )
        for change in writes.changes:
            fields = {name: value for name, value in change._asdict().items() if name in Row._fields}
            run = change.id
            self.rows[run] = self.rows[run]._replace(**fields)
        for chunk in writes.chunks:
            found = json.loads(chunk.entries)
            assert (chunk.seq, chunk.size) == (len(self.history[chunk.run]) + 1, len(found))
            self.history[chunk.run] += found
        for item in writes.items:
            assert item.seq == len(self.inbox[item.run]) + 1
            self.inbox[item.run].append(item.seq)
            if item.event_id is not None:
                self.known[item.run, item.event_id] = item.seq

    @rule(run=RUNS)
    def claim(self, run: UUID) -> None:
        row = self.rows[run]
        if row.status == "queued":
            self.rows[run] = row._replace(
                status="running",
                epoch=row.epoch + 1,
                worker="w",
                commit_no=0,
                deliveries=row.deliveries + 1,
                started_at=row.started_at or self.now,
                claimed_at=self.now,
            )

    @rule(run=RUNS)
    def fire(self, run: UUID) -> None:
        row = self.rows[run]
        if row.status in ("waiting", "scheduled") and row.due_at is not None:
            if row.status == "waiting":
                self.history[run].append({"k": "queued"})
                row = row._replace(history_len=row.history_len + 1)
            self.rows[run] = row._replace(
                status="queued", waits=None, waits_events=None, waits_children=False, waits_retry=False, due_at=None
            )

    def commit(self, run: UUID, *, offset: int = 1, **members: Any) -> None:
        row = self.rows[run]
        members = {"entries": '[{"k":"call"}]', "count": 1, "steps": 1} | members
        op = ops.Commit(run, "ns", "w", CommitOp(run=run.hex, epoch=row.epoch, number=row.commit_no + offset, **members))
        (answer,) = self.apply(op)
        if not isinstance(answer, ops.Stale | ops.Refused):
            self.last[run] = (op, answer)

    @rule(run=RUNS)
    def progress(self, run: UUID) -> None:
        self.commit(run)

    @rule(run=RUNS)
    def say_nothing(self, run: UUID) -> None:
        """S9: what is written without an entry is no progress, and forgives no delivery."""
        before = self.rows[run]
        self.commit(run, entries="[]", count=0, steps=0, state="{}")
        assert self.rows[run].deliveries == before.deliveries

    @rule(run=RUNS, behind=st.booleans())
    def finish_that_looks_at_its_inbox(self, run: UUID, behind: bool) -> None:
        """S24: it ends nothing while something came in."""
        before = self.rows[run]
        seen = 0 if behind else before.inbox_seq
        finish = Finish(status=Status.COMPLETED, output="1", inbox_seen=seen)
        op = CommitOp(run=run.hex, epoch=before.epoch, number=before.commit_no + 1, entries='[{"k":"completed"}]', count=1, finish=finish)
        (answer,) = self.apply(ops.Commit(run, "ns", "w", op))
        if before.inbox_seq > seen and before.status == "running":
            assert isinstance(answer, ops.InboxPending)
            assert self.rows[run] == before
        elif before.status == "running":
            assert self.rows[run].status == "completed"
            self.last.pop(run, None)

    @rule(run=RUNS)
    def cancel_by_force(self, run: UUID) -> None:
        before = self.rows[run].status
        self.apply(ops.Cancel(run, "ns", None, force=True))
        assert self.rows[run].status == (before if before in TERMINAL else "cancelled")

    @rule(run=RUNS, events=st.sampled_from([[], ["go"]]), children=st.booleans(), due=st.booleans(), inbox_seen=st.booleans())
    def park(self, run: UUID, events: list[str], children: bool, due: bool, inbox_seen: bool) -> None:
        number = self.rows[run].inbox_seq if inbox_seen else 0
        self.commit(run, park=Park(inbox_seen=number, due_at=2**50 if due else None, events=events, children=children, waits=[]))

    @rule(run=RUNS)
    def release(self, run: UUID) -> None:
        self.commit(run, release=True)

    @rule(run=RUNS)
    def stop(self, run: UUID) -> None:
        before = self.rows[run]
        self.commit(run, stop=ERROR)
        if before.status == "running" and before.cancel_requested:
            assert self.rows[run].status == "cancelled"

    @rule(run=RUNS, status=st.sampled_from(["completed", "failed", "cancelled"]))
    def finish(self, run: UUID, status: str) -> None:
        kind = {"failed": "failed_run"}.get(status, status)
        error = None if status == "completed" else ERROR
        self.commit(
            run, entries=f'[{{"k":"{kind}"}}]', finish=Finish(status=Status(status), output="1" if error is None else None, error=error)
        )

    @rule(run=RUNS)
    def repeat(self, run: UUID) -> None:
        if run not in self.last:
            return
        op, first = self.last[run]
        before = self.rows[run]
        (answer,) = self.apply(op)
        assert self.rows[run] == before
        if before.epoch == op.op.epoch and before.commit_no == op.op.number:
            same = type(answer) is type(first) or (isinstance(first, ops.InboxPending) and before.status != "running")
            asked_since = isinstance(answer, ops.InboxPending) and (before.pause_requested or before.cancel_requested)
            assert same or asked_since, (first, answer)

    @rule(run=RUNS, stale=st.sampled_from([{"epoch": -1}, {"epoch": 99}, {"worker": "x"}, {"namespace": "other"}]))
    def stale(self, run: UUID, stale: dict[str, Any]) -> None:
        row = self.rows[run]
        epoch = stale.get("epoch", row.epoch)
        op = CommitOp(run=run.hex, epoch=epoch, number=row.commit_no + 1, entries='[{"k":"call"}]', count=1)
        (answer,) = self.apply(ops.Commit(run, stale.get("namespace", "ns"), stale.get("worker", "w"), op))
        assert isinstance(answer, ops.Stale)
        assert self.rows[run] == row

    @rule(run=RUNS, name=st.sampled_from(["go", "other"]), event_id=st.sampled_from(["a", "b", "c", "d", "e"]))
    def event(self, run: UUID, name: str, event_id: str) -> None:
        known, newest = self.known.get((run, event_id)), self.rows[run].inbox_seq
        (answer,) = self.apply(ops.Deliver(run, "ns", name, "1", event_id))
        if known is not None:
            assert answer == ops.Accepted(known, created=False)
            assert self.rows[run].inbox_seq == newest

    @rule(run=RUNS, kind=st.sampled_from([ops.Pause, ops.Resume, ops.Retry, ops.Poison]))
    def order(self, run: UUID, kind: Any) -> None:
        self.apply(kind(run, "ns"))

    @rule(run=RUNS)
    def cancel(self, run: UUID) -> None:
        status = self.rows[run].status
        (answer,) = self.apply(ops.Cancel(run, "ns", None))
        if status not in TERMINAL:
            assert isinstance(answer, ops.Changed)
            assert answer.row.cancel_requested or answer.row.status == "cancelled"

    @rule(run=RUNS, by=st.sampled_from([QueuedBy.LOST, QueuedBy.RELEASED]))
    def lose(self, run: UUID, by: ops.Departure) -> None:
        row = self.rows[run]
        self.apply(ops.Lose(run, "ns", row.epoch, by))
        if row.status == "running":
            assert self.rows[run].epoch == row.epoch + 1

    @rule()
    def many_at_once(self) -> None:
        for run in (PARENT, CHILD):
            self.claim(run)
        self.apply(
            ops.Deliver(PARENT, "ns", "go", "1", "x"),
            ops.Cancel(CHILD, "ns", None),
            ops.Pause(PARENT, "ns"),
            ops.Deliver(CHILD, "ns", "go", "1", "y"),
        )

    @invariant()
    def a_status_is_the_fold_of_its_history(self) -> None:
        for run, row in self.rows.items():
            assert len(self.history[run]) == row.history_len
            assert row.status in folded(self.history[run])

    @invariant()
    def an_end_is_the_last_and_only_one(self) -> None:
        for run, row in self.rows.items():
            ends = [index for index, entry in enumerate(self.history[run]) if entry["k"] in ("completed", "failed_run", "cancelled")]
            assert len(ends) == (1 if row.status in TERMINAL else 0)
            assert not ends or ends == [len(self.history[run]) - 1]
            assert (row.finished_at is not None) == (row.status in TERMINAL)

    @invariant()
    def the_database_would_take_it(self) -> None:
        for row in self.rows.values():
            assert row.status != "waiting" or row.due_at or row.waits_events or row.waits_children
            assert row.inbox_seq == len(self.inbox[row.id])

    @invariant()
    def a_waiting_parent_has_not_missed_its_child(self) -> None:
        parent, child = self.rows[PARENT], self.rows[CHILD]
        if child.status in TERMINAL and parent.status not in TERMINAL:
            assert parent.inbox_seq >= 1


def path(before: str, after: str) -> bool:
    """Whether legal edges lead from one status to the other; a batch may take several."""
    reached, frontier = {before}, {before}
    for _ in range(3):
        frontier = {to for status in frontier for to in EDGES.get(status, ())} - {"running"}
        reached |= frontier
    return after in reached and not (before in TERMINAL and after != before)


TestRuns = Runs.TestCase
TestRuns.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)


def test_an_op_of_another_namespace_finds_nothing():
    row = born(PARENT)
    assert decide(row, ops.Pause(PARENT, "other"), now=0).answer == ops.Missing()
    assert decide(None, ops.Pause(PARENT, "ns"), now=0).answer == ops.Missing()


END = ops.ChildEnded(CHILD, "failed", "1", '{"type":"E"}')


@pytest.mark.parametrize(
    ("status", "waits_children", "after"),
    [("waiting", True, "queued"), ("waiting", False, "waiting"), ("running", True, "running"), ("running", False, "running"), ("paused", True, "paused"),
     ("queued", True, "queued")],
)  # fmt: skip
def test_the_end_of_a_child_comes_whole_and_wakes_only_a_parent_that_waits_for_it(status, waits_children, after):
    row = born(PARENT, status=status)._replace(inbox_seq=4, waits_events="go", waits_children=waits_children)
    decision = child_ended(row, END, now=7)
    assert decision.row is not None
    assert (decision.row.status, decision.row.inbox_seq) == (after, 5)
    assert decision.item == NewItem(PARENT, 5, "child", None, "1", CHILD, "failed", '{"type":"E"}', None)
    woken = status != after
    assert (decision.queued, decision.inbox_pending) == (woken, status == "running")
    assert (None if decision.chunk is None else json.loads(decision.chunk.entries)) == (
        [{"k": "queued", "at": 7, "by": "child"}] if woken else None
    )


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_the_end_of_a_child_changes_nothing_of_a_parent_that_has_ended(status):
    row = born(PARENT, status=status)
    assert child_ended(row, END, now=7) == Decision(ops.Changed(row))
