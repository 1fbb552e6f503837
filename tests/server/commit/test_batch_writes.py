"""Every column of what a batch writes, and everything of what it tells: S1, S9, S12, S24, S30. What ops mean is in the tables of the transitions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from aiki.protocol import ErrorInfo, Finish, Park, QueuedBy, Status
from aiki_server.engine.commit.after_commit import Conclusion
from aiki_server.engine.commit.batch import Batch
from aiki_server.engine.commit.left_behind import Left
from aiki_server.model import ops
from aiki_server.model.rows import Chunk, NewChild, Place, Row
from aiki_server.store.queries.lanes import Change, Known, Progress
from aiki_server.store.queries.trials import Trial
from support.engine.transition_effects import AT, LATER, NOW, RUN, commit, run

OTHER, THIRD = UUID(int=2), UUID(int=3)
SAID: dict[str, Any] = {"entries": '[{"k":"call"}]', "count": 1, "steps": 1}
ERROR = ErrorInfo(type="E", message="m")
HOLD = timedelta(seconds=2)


def batch(*rows: Row, left: Mapping[UUID, Left] | None = None, orders: tuple[tuple[UUID, str], ...] = ()) -> Batch:
    places = {row.id: Place((row.id.int, 10), 20) for row in rows}
    return Batch(Known({row.id: row for row in rows}, places, NOW), known={}, open_events={}, left=left or {}, orders=orders)


def entries(made: Batch) -> list[Any]:
    return [json.loads(chunk.entries) for chunk in made.writes().chunks]


def test_progress_has_every_column():
    made = batch(run())
    made.add(commit(**SAID, state="{}"))
    writes = made.writes()
    assert writes.progress == [
        Progress((1, 10), 20, RUN, was_epoch=7, was_len=4, commit_no=6, history_len=5, steps=7, state="{}", has_children=False)
    ]
    assert writes.chunks == [Chunk(RUN, 5, 1, '[{"k":"call"}]', 7, "w")]
    assert (writes.changes, writes.items, writes.consumed, writes.children, writes.child_cancellations) == ([], [], [], [], [])


def test_a_change_has_every_column():
    made = batch(run(), run(id=OTHER))
    park = Park(inbox_seen=2, due_at=AT + 1, events=["go"], children=True, waits=[{"kind": "retry"}])
    made.add(commit(**SAID, state="{}", park=park, waits="[{}]"))
    made.add(ops.Lose(OTHER, "ns", 7, QueuedBy.LOST))
    waits, lost = made.writes().changes
    assert waits == Change(
        (1, 10), 20, RUN, was_epoch=7, was_len=4, status="waiting", epoch=7, commit_no=6, deliveries=0, history_len=6, steps=7, inbox_seq=2, output=None,
        error=None, state="{}", waits="[{}]", waits_events="go", waits_children=True, waits_retry=True, due_at=LATER, has_children=False,
        closes_children=False, cancel_requested=False, pause_requested=False, finished_at=None,
    )  # fmt: skip
    assert (lost.id, lost.ctid, lost.status, lost.epoch, lost.commit_no, lost.deliveries, lost.history_len, lost.steps, lost.inbox_seq) == (
        OTHER, (2, 10), "queued", 8, 0, 3, 5, 6, 2,
    )  # fmt: skip
    assert (lost.state, lost.output) == (None, None)


def test_an_end_is_written_with_its_instant():
    made = batch(run(claimed_at=NOW - HOLD))
    made.add(commit(**SAID, finish=Finish(status=Status.FAILED, error=ERROR)))
    (change,) = made.writes().changes
    assert (change.status, change.finished_at, change.error) == ("failed", NOW, ERROR.model_dump_json())
    assert made.effects.conclusions == [Conclusion("ns", "flow", "failed", ERROR.model_dump_json())]
    assert made.effects.served == [("ns", "main", 2.0)]


def test_a_run_that_did_not_change_hides_none_behind_it():
    made = batch(run(), run(id=OTHER))
    made.add(ops.Lose(OTHER, "ns", 7, QueuedBy.LOST))
    assert [change.id for change in made.writes().changes] == [OTHER]


def test_a_child_is_born_where_it_was_placed_and_noted_where_it_was_drawn():
    made = batch(run())
    drawn = ops.Child(OTHER, "other", "2.0", "side", "new", '"in"', "abandon", "trial")
    unknown = ops.Child(THIRD, "third", None, None, None, "1", "cancel", "trial")
    made.add(commit(**SAID, born=(drawn, unknown)))
    assert made.writes().children == [
        NewChild(OTHER, "ns", "other", "2.0", "side", "new", '"in"', RUN, "abandon"),
        NewChild(THIRD, "ns", "third", None, None, None, "1", RUN, "cancel"),
    ]
    assert made.drawn == [Trial(OTHER, "ns", "side", "new", "trial"), Trial(THIRD, "ns", "", "", "trial")]


def test_nobody_is_drawn_where_nothing_is_tried():
    made = batch(run())
    made.add(commit(**SAID, born=(ops.Child(OTHER, "other", "2.0", "side", None, "1", "cancel"),)))
    assert (made.drawn, made.carried_out) == ([], {})


# ---- orders that are repeated ---------------------------------------------------------------------------------------

PAUSE, RESUME = ops.Pause(RUN, "ns", "a"), ops.Resume(RUN, "ns", "b")


def test_an_order_counts_once_in_its_batch():
    made = batch(run("queued"))
    answers = [made.add(op) for op in (PAUSE, RESUME, PAUSE)]
    assert made.carried_out == {(RUN, "a"): None, (RUN, "b"): None}
    (change,) = made.writes().changes
    assert change.status == "queued"
    assert answers[2] == answers[1]
    assert made.without_effect == 1
    assert [chunk[0] for chunk in entries(made)] == [{"k": "paused", "at": AT}, {"k": "queued", "at": AT, "by": "resume"}]


def test_an_order_that_was_carried_out_before_changes_nothing():
    before = run("queued")
    made = batch(before, orders=((RUN, "a"),))
    assert made.add(PAUSE) == ops.Changed(before)
    assert made.add(ops.Pause(RUN, "ns", "c")) != ops.Changed(before)
    assert made.carried_out == {(RUN, "c"): None}


def test_an_order_without_an_id_counts_each_time():
    made = batch(run("queued"))
    for op in (ops.Pause(RUN, "ns"), ops.Resume(RUN, "ns"), ops.Pause(RUN, "ns")):
        made.add(op)
    assert made.writes().changes[0].status == "paused"
    assert made.carried_out == {}


@pytest.mark.parametrize("op", [ops.Pause(OTHER, "ns", "a"), ops.Pause(RUN, "other", "a")])
def test_an_order_that_finds_nothing_is_not_noted(op: ops.Pause):
    made = batch(run("queued"), orders=((RUN, "a"),))
    assert isinstance(made.add(op), ops.Missing)
    assert (made.carried_out, made.without_effect) == ({}, 1)


def test_an_order_that_the_state_does_not_allow_may_be_given_again():
    made = batch(run("completed"))
    assert isinstance(made.add(PAUSE), ops.Conflict)
    assert made.carried_out == {}


# ---- what is told ---------------------------------------------------------------------------------------------------


def test_what_a_run_leaves_behind_is_said_of_that_run():
    made = batch(run(), run(id=OTHER), left={RUN: Left(None, ['[{"k":"call","c":1,"a":"task:pay"},{"k":"done","c":1}]'])})
    for one in (RUN, OTHER):
        made.add(ops.Cancel(one, "ns", None, force=True))
    says = [change.error or "" for change in made.writes().changes]
    assert ["task:pay" in text for text in says] == [True, False]
    assert "there was nothing to compensate" in says[1]


def test_an_event_is_written_at_the_instant_of_its_batch():
    made = batch(run("waiting", waits_events="go"))
    made.add(ops.Deliver(RUN, "ns", "go", "1", "e"))
    assert entries(made) == [[{"k": "queued", "at": AT, "by": "event"}]]


def test_the_end_of_a_child_is_written_at_the_instant_of_its_batch():
    made = batch(run("waiting", waits_children=True), run(id=OTHER, parent=RUN))
    made.add(ops.Cancel(OTHER, "ns", None, force=True))
    assert entries(made)[1] == [{"k": "queued", "at": AT, "by": "child"}]


def test_events_are_counted_from_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("aiki_server.engine.commit.transitions.MAX_OPEN_EVENTS", 2)
    made = batch(run())
    answers = [made.add(ops.Deliver(RUN, "ns", "go", "1", str(number))) for number in range(3)]
    assert [type(answer) for answer in answers] == [ops.Accepted, ops.Accepted, ops.Full]
    monkeypatch.setattr("aiki_server.engine.commit.transitions.MAX_OPEN_EVENTS", 1)
    assert isinstance(batch(run()).add(ops.Deliver(RUN, "ns", "go", "1", "e")), ops.Accepted)


@pytest.mark.parametrize(
    ("before", "op", "rung", "served"),
    [
        (run("queued"), ops.Deliver(RUN, "ns", "go", "1", "e"), False, False),
        (run("running"), ops.Deliver(RUN, "ns", "go", "1", "e"), False, False),
        (run("waiting", waits_events="go"), ops.Deliver(RUN, "ns", "go", "1", "e"), True, False),
        (run("running"), ops.Lose(RUN, "ns", 7, QueuedBy.LOST), True, True),
        (run("running", claimed_at=None), ops.Lose(RUN, "ns", 7, QueuedBy.LOST), True, False),
        (run("running", pool=None), ops.Cancel(RUN, "ns", None, force=True), False, False),
        (run("waiting", waits_events="go"), ops.Pause(RUN, "ns"), False, False),
    ],
)
def test_a_ring_and_a_service_time_where_there_is_one(before: Row, op: ops.Op, rung: bool, served: bool):
    made = batch(before)
    made.add(op)
    made.writes()
    assert made.effects.queued == ({("ns", "main", "flow", "1.0", None): [RUN]} if rung else {})
    assert made.effects.served == ([("ns", "main", 0.0)] if served else [])


def test_rows_are_remembered_that_an_op_is_likely_to_change_next():
    rows = [run(id=UUID(int=number)) for number in range(1, 7)]
    made = batch(*rows, run("queued", id=UUID(int=9)))
    unchanged, goes_on, for_event, for_time, lost, paused = (row.id for row in rows)
    ways: dict[UUID, dict[str, Any]] = {
        goes_on: {},
        for_event: {"park": Park(inbox_seen=2, due_at=None, events=["go"], children=False, waits=[])},
        for_time: {"park": Park(inbox_seen=2, due_at=AT, events=[], children=False, waits=[])},
        paused: {"stop": ERROR},
    }
    for one, members in ways.items():
        said = commit(**SAID, **members)
        made.add(ops.Commit(one, "ns", "w", said.op))
    made.add(ops.Lose(lost, "ns", 7, QueuedBy.LOST))
    assert [row.id for row in made.remembered()] == [goes_on, for_event]
    assert made.remembered()[0].commit_no == 6
    assert unchanged not in [row.id for row in made.remembered()]
