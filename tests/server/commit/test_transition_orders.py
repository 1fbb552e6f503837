"""What comes from outside does to a run, in full: S9, S12, S13, S24, S26, S27, S30, S33. Each row: a run, what is asked, and everything that happens."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aiki.protocol import MAX_OPEN_EVENTS, QueuedBy
from aiki_server.engine.commit.left_behind import Left
from aiki_server.model import ops
from aiki_server.model.rows import NewItem, Row
from support.engine.transition_effects import AT, LATER, NOW, RUN, check, commit, run

PAUSE, RESUME, RETRY, POISON = ops.Pause(RUN, "ns"), ops.Resume(RUN, "ns"), ops.Retry(RUN, "ns"), ops.Poison(RUN, "ns")
NOTHING: dict[str, Any] = {}
SLEEPING: dict[str, Any] = {"waits": "[{}]", "waits_events": "a,go", "waits_children": True, "waits_retry": True, "due_at": NOW}
AWAKE: dict[str, Any] = {"waits": None, "waits_events": None, "waits_children": False, "waits_retry": False, "due_at": None}
DONE = '[{"k":"call","c":1,"a":"task:pay"},{"k":"done","c":1}]'
STANDS = "Nothing was compensated: no `finally` and no saga of it ran, and what it had done stands: task:pay."
NOTHING_STANDS = "No task of it had ended, so there was nothing to compensate."


def queued(by: str) -> dict[str, Any]:
    return {"k": "queued", "at": AT, "by": by}


def paused() -> dict[str, Any]:
    return {"k": "paused", "at": AT}


def conflict(why: str) -> dict[str, Any]:
    return {"answer": ops.Conflict(why)}


def cancelled(message: str, kind: str = "Cancelled", status: str = "cancelled", **row: Any) -> dict[str, Any]:
    """The end of a run by a message of the server's."""
    error = {"type": kind, "message": message, "stack": None, "retryable": False}
    entry = {"k": "failed_run" if status == "failed" else status, "at": AT, "e": error}
    return {"row": {"status": status, "error": json.dumps(error, separators=(",", ":")), "finished_at": NOW, **row}, "entries": [entry]}


def cases(*given: tuple[Row, dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("before", "after"), given, ids=[f"{number}-{row.status}" for number, (row, _) in enumerate(given)])


@pytest.mark.parametrize("op", [PAUSE, RESUME, RETRY, POISON, ops.Cancel(RUN, "ns", None), ops.Deliver(RUN, "ns", "go", "1", "e")])
@pytest.mark.parametrize("row", [None, run(namespace="other")])
def test_nobody_reaches_a_run_that_is_not_there_or_another_namespaces(row: Row | None, op: ops.Op):
    check(row, op, {"answer": ops.Missing()})


@pytest.mark.parametrize("row", [None, run(namespace="other")])
def test_a_commit_of_a_run_that_is_not_there_is_stale(row: Row | None):
    check(row, commit(), {"answer": ops.Stale()})


# ---- pause, resume, retry -------------------------------------------------------------------------------------------


@cases(
    (run("completed"), conflict("The run is completed: it cannot be paused.")),
    (run("failed"), conflict("The run is failed: it cannot be paused.")),
    (run("cancelled"), conflict("The run is cancelled: it cannot be paused.")),
    (run("paused"), NOTHING),
    (run("paused", error="{}"), NOTHING),
    (run("running"), {"row": {"pause_requested": True}, "inbox_pending": True}),
    (run("running", pause_requested=True), NOTHING),
    (run("queued"), {"row": {"status": "paused"}, "entries": [paused()]}),
    (run("scheduled", started_at=None, due_at=LATER), {"row": {"status": "paused"}, "entries": [paused()]}),
    (run("waiting", **SLEEPING), {"row": {"status": "paused"}, "entries": [paused()]}),
    (run("waiting", error="{}"), {"row": {"status": "paused", "error": None}, "entries": [paused()]}),
)
def test_pause(before: Row, after: dict[str, Any]):
    check(before, PAUSE, after)


BACK = {"status": "waiting", "waits": '[{"kind":"sleep","due_at":"2030-01-01T00:00:00.000001Z"}]'}
PARKED = {"k": "parked", "at": AT, "on": json.loads(BACK["waits"])}


@cases(
    (run("completed"), conflict("The run is completed: it cannot be resumed.")),
    (run("failed"), conflict("The run is failed: it cannot be resumed.")),
    (run("cancelled"), conflict("The run is cancelled: it cannot be resumed.")),
    (run("running", pause_requested=True), {"row": {"pause_requested": False}, "inbox_pending": True}),
    (run("running"), NOTHING),
    (run("queued"), NOTHING),
    (run("waiting", **SLEEPING), NOTHING),
    (run("scheduled", started_at=None, due_at=LATER), NOTHING),
    (
        run("paused", error="{}", **SLEEPING),
        {"row": {"status": "queued", "error": None, **AWAKE}, "entries": [queued("resume")], "queued": True},
    ),
    (run("paused", started_at=None), {"row": {"status": "queued"}, "entries": [queued("resume")], "queued": True}),
    (
        run("paused", started_at=None, due_at=NOW),
        {"row": {"status": "queued", "due_at": None}, "entries": [queued("resume")], "queued": True},
    ),
    (run("paused", due_at=LATER), {"row": {"status": "queued", "due_at": None}, "entries": [queued("resume")], "queued": True}),
    (run("paused", started_at=None, due_at=LATER), {"row": BACK, "entries": [queued("resume"), PARKED]}),
)
def test_resume(before: Row, after: dict[str, Any]):
    check(before, RESUME, after)


BY_SOMEONE = "The run was paused by someone, not stopped by an error: resume it."


@cases(
    (run("completed", waits_retry=True), conflict("The run is completed: it cannot be retried.")),
    (run("failed"), conflict("The run is failed: it cannot be retried.")),
    (run("cancelled"), conflict("The run is cancelled: it cannot be retried.")),
    (run("queued", error="{}"), NOTHING),
    (run("running"), NOTHING),
    (run("paused"), conflict(BY_SOMEONE)),
    (run("paused", waits_retry=True), conflict(BY_SOMEONE)),
    (run("paused", error="{}"), {"row": {"status": "queued", "error": None}, "entries": [queued("retry")], "queued": True}),
    (run("waiting", **SLEEPING), {"row": {"status": "queued", **AWAKE}, "entries": [queued("retry")], "queued": True}),
    (run("waiting", **SLEEPING | {"waits_retry": False}), conflict("The run is waiting, and does not wait for a retry.")),
    (run("scheduled"), conflict("The run is scheduled, and does not wait for a retry.")),
)
def test_retry(before: Row, after: dict[str, Any]):
    check(before, RETRY, after)


# ---- cancel ---------------------------------------------------------------------------------------------------------

CANCEL, FORCE = ops.Cancel(RUN, "ns", '"late"'), ops.Cancel(RUN, "ns", '"late"', force=True)
ASKED = NewItem(RUN, 3, "cancel", None, '"late"', None, None, None, None)
UNBEGUN = "The run was cancelled before it began: late"
FORCED = "cancelled by force: late; its code was not told."


@pytest.mark.parametrize("op", [CANCEL, FORCE], ids=["asked", "forced"])
@cases(
    (run("cancelled", cancel_requested=True), NOTHING),
    (run("cancelled"), NOTHING),
    (run("completed"), conflict("The run is completed: it cannot be cancelled any more.")),
    (run("completed", cancel_requested=True), conflict("The run is completed: it cannot be cancelled any more.")),
    (run("failed", cancel_requested=True), conflict("The run is failed: it cannot be cancelled any more.")),
    (run("queued", started_at=None), cancelled(UNBEGUN, cancel_requested=True)),
    (run("scheduled", started_at=None, due_at=LATER), cancelled(UNBEGUN, cancel_requested=True, due_at=None)),
    (run("paused", started_at=None, due_at=LATER), cancelled(UNBEGUN, cancel_requested=True, due_at=None)),
)
def test_cancel_of_what_has_ended_or_not_begun(before: Row, after: dict[str, Any], op: ops.Op):
    check(before, op, after)


def test_cancel_without_a_reason():
    before = run("queued", started_at=None)
    check(before, ops.Cancel(RUN, "ns", None), cancelled("The run was cancelled before it began.", cancel_requested=True))


@cases(
    (run("running"), {"row": {"inbox_seq": 3, "cancel_requested": True}, "item": ASKED, "inbox_pending": True}),
    (run("running", pause_requested=True), {"row": {"inbox_seq": 3, "cancel_requested": True, "pause_requested": False}, "item": ASKED, "inbox_pending": True}),
    (run("running", cancel_requested=True), NOTHING),
    (run("waiting", cancel_requested=True, **SLEEPING), NOTHING),
    (run("queued"), {"row": {"inbox_seq": 3, "cancel_requested": True}, "item": ASKED}),
    (run("waiting", due_at=LATER),
     {"row": {"status": "queued", "inbox_seq": 3, "cancel_requested": True, "due_at": None}, "item": ASKED, "entries": [queued("cancel")], "queued": True}),
    (run("paused", error="{}"),
     {"row": {"status": "queued", "inbox_seq": 3, "cancel_requested": True, "error": None}, "item": ASKED, "entries": [queued("cancel")], "queued": True}),
)  # fmt: skip
def test_cancel_is_told_to_the_code(before: Row, after: dict[str, Any]):
    check(before, CANCEL, after)


@cases(
    (
        run("running", has_children=True),
        cancelled(f"{FORCED} {STANDS}", cancel_requested=True, closes_children=True) | {"inbox_pending": True},
    ),
    (run("running", cancel_requested=True), cancelled(f"{FORCED} {STANDS}") | {"inbox_pending": True}),
    (run("waiting", **SLEEPING), cancelled(f"{FORCED} {STANDS}", cancel_requested=True, **AWAKE)),
    (run("paused", pause_requested=True), cancelled(f"{FORCED} {STANDS}", cancel_requested=True, pause_requested=False)),
    (run("queued", cancel_requested=True), cancelled(f"{FORCED} {STANDS}")),
)
def test_cancel_by_force_says_what_stands(before: Row, after: dict[str, Any]):
    check(before, FORCE, after, left=Left(None, [DONE]))


# ---- events ---------------------------------------------------------------------------------------------------------

GO = ops.Deliver(RUN, "ns", "go", '{"x":1}', "e")
EVENT = NewItem(RUN, 3, "event", "go", '{"x":1}', None, None, None, "e")
TAKEN = {"answer": ops.Accepted(3, created=True), "item": EVENT}


@cases(
    (run("completed"), conflict("The run is completed: it takes no more events.")),
    (run("failed"), conflict("The run is failed: it takes no more events.")),
    (run("cancelled"), conflict("The run is cancelled: it takes no more events.")),
    (run("running", waits_events="go"), TAKEN | {"row": {"inbox_seq": 3}, "inbox_pending": True}),
    (run("queued", waits_events="go"), TAKEN | {"row": {"inbox_seq": 3}}),
    (run("paused", waits_events="go"), TAKEN | {"row": {"inbox_seq": 3}}),
    (run("waiting", due_at=LATER), TAKEN | {"row": {"inbox_seq": 3}}),
    (run("waiting", waits_events="going,ergo"), TAKEN | {"row": {"inbox_seq": 3}}),
    (
        run("waiting", **SLEEPING),
        TAKEN | {"row": {"status": "queued", "inbox_seq": 3, **AWAKE}, "entries": [queued("event")], "queued": True},
    ),
)
def test_event(before: Row, after: dict[str, Any]):
    check(before, GO, after, open_events=MAX_OPEN_EVENTS - 1)


@pytest.mark.parametrize("status", ["running", "completed"])
def test_event_that_is_known(status: str):
    check(run(status), GO, {"answer": ops.Accepted(2, created=False)}, known=2, open_events=MAX_OPEN_EVENTS)


def test_event_too_many():
    check(run(), GO, {"answer": ops.Full()}, open_events=MAX_OPEN_EVENTS)
    check(run("completed"), GO, conflict("The run is completed: it takes no more events."), open_events=MAX_OPEN_EVENTS)


# ---- what befalls a run ---------------------------------------------------------------------------------------------


FIRST = {"answer": ops.Stale()}
"""Another server, or the worker itself."""


@pytest.mark.parametrize(("by", "deliveries"), [(QueuedBy.LOST, NOTHING), (QueuedBy.RELEASED, {"deliveries": 2})])
@cases(
    *[(run(status), FIRST) for status in ("queued", "waiting", "scheduled", "paused", "completed", "failed", "cancelled")],
    (run(epoch=6), FIRST),
    (run(epoch=8), FIRST),
    (run(), {"row": {"status": "queued", "epoch": 8, "commit_no": 0}, "queued": True}),
    (run(pause_requested=True), {"row": {"status": "paused", "epoch": 8, "commit_no": 0, "pause_requested": False}, "entries": [paused()]}),
)
def test_loss_of_the_worker(before: Row, after: dict[str, Any], by: ops.Departure, deliveries: dict[str, int]):
    if "row" in after:
        after = after | {"row": after["row"] | deliveries}
    if "queued" in after:
        after = after | {"entries": [queued(by)]}
    check(before, ops.Lose(RUN, "ns", 7, by), after)


def test_a_release_takes_back_no_delivery_that_was_not():
    before = run(deliveries=0)
    after = {"row": {"status": "queued", "epoch": 8, "commit_no": 0}, "entries": [queued("released")], "queued": True}
    check(before, ops.Lose(RUN, "ns", 7, QueuedBy.RELEASED), after)


@cases(
    *[(run(status, cancel_requested=True), NOTHING) for status in ("running", "waiting", "paused", "completed", "failed", "cancelled")],
    (run("queued"), NOTHING),
    (run("queued", cancel_requested=True, epoch=6), NOTHING),
    (run("queued", cancel_requested=True, epoch=8), NOTHING),
    (run("queued", cancel_requested=True, has_children=True),
     cancelled(f"cancelled: late; its code could not be told: no worker of pool main carries flow 1.0. {STANDS}", closes_children=True)),
)  # fmt: skip
def test_nobody_can_tell_the_code(before: Row, after: dict[str, Any]):
    check(before, ops.GiveUpTelling(RUN, "ns", 7), after, left=Left('"late"', [DONE]))


POISONED = (
    "Delivered 3 times without progress: each worker that took it ended or went silent. Look at the workers' logs of run " + RUN.hex + "."
)


@cases(
    *[(run(status), NOTHING) for status in ("running", "waiting", "scheduled", "paused", "completed", "failed", "cancelled")],
    (run("queued"), cancelled(POISONED, "poisoned", "failed")),
    (run("queued", has_children=True), cancelled(POISONED, "poisoned", "failed", closes_children=True)),
)
def test_poison(before: Row, after: dict[str, Any]):
    check(before, POISON, after)


def test_what_is_left_of_a_run_without_tasks():
    check(run(), FORCE, cancelled(f"{FORCED} {NOTHING_STANDS}", cancel_requested=True) | {"inbox_pending": True})
