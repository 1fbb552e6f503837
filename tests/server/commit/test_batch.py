"""What a batch writes and whom it tells, op by op: S10, S15, S24, S28, S29. The laws of single rows are in test_transitions.py."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from aiki.protocol import MAX_OPEN_EVENTS, CommitOp, ErrorInfo, Finish, Park, Status
from aiki_server.engine.commit.batch import Batch
from aiki_server.model import ops
from aiki_server.model.rows import Place, Row
from aiki_server.store.queries.lanes import Known

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PARENT, CHILD, OTHER = UUID(int=1), UUID(int=2), UUID(int=3)
PLACE = ("ns", "main", "flow", "1.0", None)


def held(run: UUID = PARENT, **more: Any) -> Row:
    known: dict[str, Any] = {
        "id": run, "namespace": "ns", "workflow": "flow", "version": "1.0", "pool": "main", "status": "running", "epoch": 1, "worker": "w",
        "on_parent_close": "cancel", "created_at": NOW, "started_at": NOW, "claimed_at": NOW,
        "commit_no": 0, "deliveries": 1, "history_len": 0, "steps": 0, "inbox_seq": 0, "inbox_acked_seq": 0,
    }  # fmt: skip
    flags = dict.fromkeys(
        ("waits_children", "waits_retry", "has_children", "closes_children", "cancel_requested", "pause_requested"), False
    )
    values: dict[str, Any] = {**dict.fromkeys(Row._fields), **flags, **known, **more}
    return Row(**values)


def batch(*rows: Row, open_events: dict[UUID, int] | None = None) -> Batch:
    places = {row.id: Place((row.id.int, 0), 1) for row in rows}
    return Batch(Known({row.id: row for row in rows}, places, NOW), known={}, open_events=open_events or {})


def commit(
    run: UUID = PARENT, *, children: tuple[ops.Child, ...] = (), cancel_children: tuple[UUID, ...] = (), **members: Any
) -> ops.Commit:
    started = [{"id": one.id.hex, "workflow": one.workflow, "input": one.input} for one in children]
    members = {"entries": '[{"k":"call"}]', "count": 1, "children": started} | members
    return ops.Commit(run, "ns", "w", CommitOp(run=run.hex, epoch=1, number=1, **members), children, "[]", cancel_children)


def finish(run: UUID, output: str | None = None, error: ErrorInfo | None = None) -> ops.Commit:
    status = Status.COMPLETED if error is None else Status.FAILED
    kind = "completed" if error is None else "failed_run"
    return commit(run, entries=f'[{{"k":"{kind}"}}]', finish=Finish(status=status, output=output, error=error))


def child(id_: UUID = CHILD, *, policy: str = "cancel") -> ops.Child:
    return ops.Child(id_, "flow", "1.0", "main", None, '"in"', policy)


def test_children_are_written_and_rung_where_they_run():
    made = batch(held())
    made.add(commit(children=(child(), child(OTHER, policy="abandon"))))
    writes = made.writes()
    born = writes.children
    assert [(one.id, one.namespace, one.parent, one.input, one.on_parent_close) for one in born] == [
        (CHILD, "ns", PARENT, '"in"', "cancel"),
        (OTHER, "ns", PARENT, '"in"', "abandon"),
    ]
    assert made.effects.queued == {PLACE: [CHILD, OTHER]}
    assert writes.progress[0].has_children is True


@pytest.mark.parametrize(("policy", "rung"), [("cancel", []), ("abandon", [CHILD])])
def test_a_child_that_ends_before_it_begins_is_not_rung(policy: str, rung: list[UUID]):
    made = batch(held())
    made.add(commit(children=(child(policy=policy),), cancel_children=(CHILD,)))
    assert made.effects.queued.get(PLACE, []) == rung
    assert made.writes().child_cancellations == [(CHILD, PARENT)]
    assert made.effects.cancelled_children == [CHILD]


def test_what_was_consumed_and_the_state_are_written_with_the_commit():
    made = batch(held(inbox_seq=2))
    made.add(commit(consumed=[1, 2], state='{"a":1}'))
    writes = made.writes()
    assert writes.consumed == [(PARENT, 1), (PARENT, 2)]
    assert [(one.state, one.has_children) for one in writes.progress] == [('{"a":1}', False)]


@pytest.mark.parametrize("error", [None, ErrorInfo(type="E", message="m")], ids=["completed", "failed"])
def test_an_end_is_told_to_the_waiters_and_to_the_parent_with_what_it_brings(error: ErrorInfo | None):
    parent = held(status="waiting", waits_children=True, worker=None)
    made = batch(parent, held(CHILD, parent=PARENT), held(OTHER))
    made.add(finish(OTHER, "3"))
    made.add(finish(CHILD, None if error else "7", error))
    status, output, text = ("completed", "7", None) if error is None else ("failed", None, error.model_dump_json())
    assert [tuple(end) for end in made.effects.ended] == [(OTHER, "ns", "completed", "3", None), (CHILD, "ns", status, output, text)]
    writes = made.writes()
    (item,) = writes.items
    assert (item.run, item.seq, item.kind, item.child, item.status, item.payload, item.error) == (
        PARENT,
        1,
        "child",
        CHILD,
        status,
        output,
        text,
    )
    assert {change.id: (change.status, change.output, change.error) for change in writes.changes} == {
        PARENT: ("queued", None, None),
        CHILD: (status, output, text),
        OTHER: ("completed", "3", None),
    }
    assert made.effects.queued == {PLACE: [PARENT]}


def test_a_parent_that_runs_is_told_that_something_came_in():
    made = batch(held(), held(CHILD, parent=PARENT))
    made.add(finish(CHILD, "7"))
    assert made.effects.inbox_pending == [("ns", "w", PARENT)]
    assert made.effects.queued == {}


def test_a_run_that_nobody_holds_is_news_to_nobody():
    made = batch(held(status="paused", worker=None))
    made.add(ops.Deliver(PARENT, "ns", "go", "1", "e"))
    assert made.effects.inbox_pending == []
    assert [item.seq for item in made.writes().items] == [1]


def test_a_parent_with_children_asks_for_a_sweep_when_it_ends():
    made = batch(held(has_children=True), held(OTHER))
    made.add(finish(PARENT, "1"))
    made.add(finish(OTHER, "1"))
    assert made.effects.closing == [PARENT]
    assert {change.id: (change.has_children, change.closes_children) for change in made.writes().changes} == {
        PARENT: (True, True),
        OTHER: (False, False),
    }


def test_requests_that_a_run_has_not_heard_are_kept():
    made = batch(held(), held(OTHER))
    made.add(ops.Cancel(PARENT, "ns", None))
    made.add(ops.Pause(OTHER, "ns"))
    asked = {change.id: (change.cancel_requested, change.pause_requested) for change in made.writes().changes}
    assert asked == {PARENT: (True, False), OTHER: (False, True)}


def test_a_park_writes_what_it_waits_for():
    made = batch(held(has_children=True))
    due = 1_900_000_000_000_000
    park = Park(inbox_seen=0, due_at=due, events=["a", "b"], children=True, waits=[{"kind": "retry"}])
    made.add(commit(park=park))
    (change,) = made.writes().changes
    assert (change.status, change.waits_events, change.waits_children, change.waits_retry, change.has_children) == (
        "waiting",
        "a,b",
        True,
        True,
        True,
    )
    assert change.due_at is not None
    assert made.effects.due == change.due_at
    assert [(namespace, pool) for namespace, pool, _ in made.effects.served] == [("ns", "main")]


def test_events_beyond_the_limit_are_refused_though_they_come_in_one_batch():
    made = batch(held(inbox_seq=MAX_OPEN_EVENTS), open_events={PARENT: MAX_OPEN_EVENTS - 2})
    answers = [made.add(ops.Deliver(PARENT, "ns", "go", "1", f"e{number}")) for number in range(4)]
    assert [isinstance(answer, ops.Full) for answer in answers] == [False, False, True, True]


def test_an_event_that_is_repeated_in_its_batch_is_stored_once():
    made = batch(held())
    answers = [made.add(ops.Deliver(PARENT, "ns", "go", "1", "e")) for _ in range(2)]
    assert answers == [ops.Accepted(1, created=True), ops.Accepted(1, created=False)]
    assert len(made.writes().items) == 1


def test_ops_that_change_nothing_are_counted():
    made = batch(held(), held(OTHER, status="paused", worker=None))
    assert made.without_effect == 0
    for op in (ops.Pause(OTHER, "ns"), ops.Pause(UUID(int=9), "ns"), ops.Pause(PARENT, "ns")):
        made.add(op)
    assert made.without_effect == 2


def test_a_row_is_written_where_it_was_and_as_it_was():
    made = batch(held(epoch=1, history_len=5))
    made.add(commit())
    (progress,) = made.writes().progress
    assert progress[:5] == ((1, 0), 1, PARENT, 1, 5)
