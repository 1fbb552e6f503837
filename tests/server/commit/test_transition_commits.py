"""What a worker's commit does to its run, in full: S7, S9, S12, S15, S24, S27, S28, S30. Each row: a run, what it says, and everything that happens."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from aiki.protocol import MAX_STEPS, ErrorInfo, Finish, Park, Status
from aiki_server.engine.commit.left_behind import Left
from aiki_server.engine.commit.transitions import decide
from aiki_server.model import ops
from aiki_server.model.instants import micros
from aiki_server.model.rows import Row
from support.engine.transition_effects import AT, NOW, check, commit, run

CALL = {"k": "call"}
SAID: dict[str, Any] = {"entries": '[{"k":"call"}] ', "count": 1, "steps": 1}
HEARD: dict[str, Any] = {"row": {"commit_no": 6, "steps": 7, "deliveries": 0}, "entries": [CALL], "writer": "w"}
ERROR = ErrorInfo(type="E", message="m")
TEXT = ERROR.model_dump_json()
DUE = datetime(2031, 1, 1, tzinfo=UTC)
CHILD = ops.Child(UUID(int=2), "flow", "1.0", "main", None, "1", "cancel")
OK, BACK = ops.Written(parked=False), ops.Written(parked=True)


def queued(by: str) -> dict[str, Any]:
    return {"k": "queued", "at": AT, "by": by}


def park(
    *, inbox_seen: int = 2, due: bool = False, events: tuple[str, ...] = (), children: bool = False, kinds: tuple[str, ...] = ()
) -> Park:
    due_at = micros(DUE) if due else None
    return Park(inbox_seen=inbox_seen, due_at=due_at, events=list(events), children=children, waits=[{"kind": kind} for kind in kinds])


def end(status: str = "completed", **more: Any) -> Finish:
    output, error = ("1", None) if status == "completed" else (None, ERROR)
    return Finish(status=Status(status), output=output, error=error, **more)


def after(answer: ops.Answer, row: dict[str, Any], *entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What happens where the worker said `SAID` and the server adds `entries`."""
    return {**HEARD, "answer": answer, "row": HEARD["row"] | row, "entries": [CALL, *entries], **more}


def cases(*given: tuple[Any, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("before", "said", "then"), given, ids=map(str, range(len(given))))


# ---- what is not written --------------------------------------------------------------------------------------------

EVERY_WAY = [{}, {"release": True}, {"park": park()}, {"stop": ERROR}, {"finish": end()}]


@pytest.mark.parametrize("way", EVERY_WAY)
@pytest.mark.parametrize(
    ("before", "said"),
    [
        (run(), {"epoch": 6}),
        (run(), {"epoch": 8}),
        (run(), {"worker": "v"}),
        (run(worker=None), {}),
        *[(run(status), {}) for status in ("queued", "waiting", "scheduled", "paused", "completed", "failed", "cancelled")],
        (run(), {"epoch": 6, "number": 5}),
        (run(), {"worker": "v", "number": 5}),
    ],
)
def test_a_commit_of_somebody_elses_run_is_stale(before: Row, said: dict[str, Any], way: dict[str, Any]):
    check(before, commit(**SAID, **way, **said), {"answer": ops.Stale()})


ORDER = "commit 7 of epoch 7 came after commit 5: send commits of a run one after the other"
STEPS = "a run has at most 50,000 steps: split it into child runs"
FULL: dict[str, Any] = {"steps": MAX_STEPS}


@cases(
    (run(), {"number": 7}, ORDER),
    (run(**FULL), {"steps": 1}, STEPS),
    (run(**FULL), {"steps": 1, "finish": end()}, STEPS),
    (run(), {"consumed": [1, 0]}, "consumed [1, 0], but the inbox ends at 2"),
    (run(), {"consumed": [3]}, "consumed [3], but the inbox ends at 2"),
)
def test_a_commit_that_cannot_be_is_refused_and_says_why(before: Row, said: dict[str, Any], then: str):
    check(before, commit(**said), {"answer": ops.Refused(then)})


@cases(
    (run(**FULL), {}, OK),
    (run(steps=MAX_STEPS - 1), {"steps": 1}, OK),
    (run(**FULL), {"steps": 1, "finish": end("failed")}, OK),
    (run(), {"consumed": [1, 2]}, OK),
)
def test_what_just_fits_is_taken(before: Row, said: dict[str, Any], then: ops.Answer):
    assert decide(before, commit(**said), now=AT).answer == then


@pytest.mark.parametrize("more", [{}, {"consumed": [1], "state": "{}"}])
def test_a_finish_that_has_not_seen_all_goes_back(more: dict[str, Any]):
    check(run(), commit(**SAID, **more, finish=end(inbox_seen=1)), {"answer": ops.InboxPending(1)})


# ---- what is repeated -----------------------------------------------------------------------------------------------

CANCELLED: dict[str, Any] = {"cancel_requested": True}


@cases(
    (run(), {}, OK),
    (run(pause_requested=True), {}, ops.InboxPending(1, pause=True)),
    (run(**CANCELLED), {}, ops.InboxPending(1)),
    (run(**CANCELLED, inbox_acked_seq=2), {}, OK),
    (run(), {"park": park(inbox_seen=1)}, ops.InboxPending(1)),
    (run(pause_requested=True), {"park": park(inbox_seen=1)}, ops.InboxPending(1)),
    (run(commit_no=6), {"park": park(inbox_seen=1)}, OK),
    (run(pause_requested=True), {"release": True}, OK),
    (run(pause_requested=True), {"stop": ERROR}, OK),
    (run("completed"), {"finish": end()}, OK),
    (run("completed", pause_requested=True), {}, OK),
    *[(run(status), {"release": True}, BACK) for status in ("queued", "paused", "waiting")],
    (run("waiting"), {"park": park(due=True)}, BACK),
    (run("paused"), {"stop": ERROR}, BACK),
    (run("queued"), {}, OK),
)
def test_a_repeated_commit_changes_nothing_and_is_answered_as_it_was(before: Row, said: dict[str, Any], then: ops.Answer):
    check(before, commit(**SAID, number=5, **said), {"answer": then})


# ---- the run goes on ------------------------------------------------------------------------------------------------


@cases(
    (run(), SAID, HEARD | {"answer": OK}),
    (run(has_children=True), SAID, HEARD | {"answer": OK}),
    (run(), {"state": "{}"}, {"answer": OK, "row": {"commit_no": 6}, "state": "{}"}),
    (run(), {"consumed": [2]}, {"answer": OK, "row": {"commit_no": 6}, "consumed": (2,)}),
    (run(), {"cancelled": (CHILD.id,)}, {"answer": OK, "row": {"commit_no": 6}, "cancel_children": (CHILD.id,)}),
    (run(), {"born": (CHILD,)}, {"answer": OK, "row": {"commit_no": 6, "has_children": True}, "children": (CHILD,)}),
    (run(pause_requested=True), SAID, HEARD | {"answer": ops.InboxPending(1, pause=True)}),
    (run(pause_requested=True, inbox_acked_seq=2), SAID, HEARD | {"answer": ops.InboxPending(2, pause=True)}),
    (run(**CANCELLED), SAID, HEARD | {"answer": ops.InboxPending(1)}),
    (run(**CANCELLED, inbox_acked_seq=2), SAID, HEARD | {"answer": OK}),
)
def test_progress(before: Row, said: dict[str, Any], then: dict[str, Any]):
    check(before, commit(**said), then)


# ---- the run is given back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "then"),
    [
        ({"finish": end()}, {"answer": OK, "output": "1", "row": {"status": "completed", "finished_at": NOW, "closes_children": True}}),
        ({"park": park(inbox_seen=1)}, {"answer": ops.InboxPending(1), "row": {}}),
        ({"release": True, "count": 0, "entries": "[]"},
         {"answer": BACK, "row": {"status": "queued", "deliveries": 2}, "entries": [queued("released")], "queued": True}),
    ],
)  # fmt: skip
def test_what_comes_with_it_is_kept(way: dict[str, Any], then: dict[str, Any]):
    rest: dict[str, Any] = {"consumed": [1], "state": "{}", "born": (CHILD,), "cancelled": (CHILD.id,)}
    kept = {"consumed": (1,), "state": "{}", "children": (CHILD,), "cancel_children": (CHILD.id,)}
    said: dict[str, Any] = SAID | way
    row = {"commit_no": 6, "steps": 7, "deliveries": 0, "has_children": True} | then["row"]
    check(run(), commit(**said, **rest), {"entries": [CALL], "writer": "w"} | then | kept | {"row": row})


@cases(
    (run(), end(), after(OK, {"status": "completed", "finished_at": NOW}, output="1")),
    (run(), end(inbox_seen=2), after(OK, {"status": "completed", "finished_at": NOW}, output="1")),
    (run(), end("failed"), after(OK, {"status": "failed", "finished_at": NOW, "error": TEXT})),
    (run(**CANCELLED), end("cancelled"), after(OK, {"status": "cancelled", "finished_at": NOW, "error": TEXT})),
    (run(has_children=True, pause_requested=True), end(),
     after(OK, {"status": "completed", "finished_at": NOW, "closes_children": True, "pause_requested": False}, output="1")),
)  # fmt: skip
def test_finish(before: Row, said: Finish, then: dict[str, Any]):
    check(before, commit(**SAID, finish=said), then)


STOPPED = {"k": "paused", "at": AT, "e": json.loads(TEXT)}


@pytest.mark.parametrize("asked", [False, True])
def test_stop(asked: bool):
    row = {"status": "paused", "error": TEXT} | ({"pause_requested": False} if asked else {})
    check(run(pause_requested=asked), commit(**SAID, stop=ERROR), after(BACK, row, STOPPED))


def test_a_stop_is_no_lost_delivery():
    row = {"status": "paused", "error": TEXT, "deliveries": 0, "commit_no": 6}
    then = {"answer": BACK, "row": row, "entries": [STOPPED], "writer": "w"}
    check(run(deliveries=9), commit(stop=ERROR), then)


@pytest.mark.parametrize("children", [False, True])
def test_stop_of_a_run_that_is_to_be_cancelled(children: bool):
    message = "cancelled: late; its code could not be told: m No task of it had ended, so there was nothing to compensate."
    error = {"type": "Cancelled", "message": message, "stack": None, "retryable": False}
    row: dict[str, Any] = {"status": "cancelled", "error": json.dumps(error, separators=(",", ":")), "finished_at": NOW}
    row |= {"closes_children": True} if children else {}
    then = after(BACK, row, {"k": "cancelled", "at": AT, "e": error})
    check(run(**CANCELLED, has_children=children), commit(**SAID, stop=ERROR), then, left=Left('"late"', []))


PAUSED = {"k": "paused", "at": AT}
NOTED = '[{"kind":"x"}]'
WAITS = {"status": "waiting", "waits": NOTED}
PARKED = {"k": "parked", "at": AT, "on": json.loads(NOTED)}


@cases(
    (run(), park(inbox_seen=1, due=True), after(ops.InboxPending(1), {})),
    (run(pause_requested=True), park(inbox_seen=1, due=True), after(ops.InboxPending(1), {})),
    (run(pause_requested=True), park(due=True), after(BACK, {"status": "paused", "pause_requested": False}, PAUSED)),
    (run(), park(inbox_seen=3, due=True), after(BACK, WAITS | {"due_at": DUE}, PARKED)),
    (run(), park(due=True), after(BACK, WAITS | {"due_at": DUE}, PARKED)),
    (run(), park(events=("a", "b")), after(BACK, WAITS | {"waits_events": "a,b"}, PARKED)),
    (run(), park(children=True), after(BACK, WAITS | {"waits_children": True}, PARKED)),
    (run(), park(due=True, kinds=("sleep",)), after(BACK, WAITS | {"due_at": DUE}, PARKED)),
    (run(), park(due=True, kinds=("sleep", "retry")), after(BACK, WAITS | {"due_at": DUE, "waits_retry": True}, PARKED)),
    (run(), park(), after(BACK, {"status": "queued"}, queued("released"), queued=True)),
)
def test_park(before: Row, said: Park, then: dict[str, Any]):
    check(before, commit(**SAID, park=said, waits=NOTED), then)


@cases(
    (run(), {}, after(BACK, {"status": "queued"}, queued("released"), queued=True)),
    (run(), {"rewound": True}, after(BACK, {"status": "queued"}, queued("rewound"), queued=True)),
    (run(pause_requested=True), {}, after(BACK, {"status": "paused", "pause_requested": False}, PAUSED)),
    (run(pause_requested=True), {"rewound": True}, after(BACK, {"status": "paused", "pause_requested": False}, queued("rewound"), PAUSED)),
)
def test_release(before: Row, said: dict[str, Any], then: dict[str, Any]):
    check(before, commit(**SAID, release=True, **said), then)


@pytest.mark.parametrize(("had", "has"), [(3, {"deliveries": 2}), (1, {"deliveries": 0}), (0, {})])
def test_a_release_that_says_nothing_takes_its_delivery_back(had: int, has: dict[str, int]):
    then = {
        "answer": BACK,
        "row": {"status": "queued", "commit_no": 6, **has},
        "entries": [queued("released")],
        "writer": "w",
        "queued": True,
    }
    check(run(deliveries=had), commit(release=True), then)


def test_what_is_said_without_an_entry_writes_no_history():
    check(run(), commit(park=park(inbox_seen=1)), {"answer": ops.InboxPending(1), "row": {"commit_no": 6}})
    row = {"status": "completed", "commit_no": 6, "finished_at": NOW}
    check(run(), commit(finish=end()), {"answer": OK, "row": row, "output": "1"})
