"""The timeline says of each call what ran, where, how often and how long, and of each activation what it replayed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from aiki.cli.output.timeline import StepKind, fold
from aiki.protocol import HistoryEntry

START = datetime(2026, 1, 1, tzinfo=UTC)


def history(*entries: tuple[str, int, dict[str, Any]], worker: str = "w") -> list[HistoryEntry]:
    """Entries as (kind, epoch, data); `at` and `due` in data are seconds after START."""
    made = []
    for seq, (kind, epoch, data) in enumerate(entries, 1):
        at = START + timedelta(seconds=data.get("at", 1e6))
        due = {"due": int((START.timestamp() + data["due"]) * 1_000_000)} if "due" in data else {}
        members = {key: value for key, value in data.items() if key != "at"} | due
        made.append(HistoryEntry(seq=seq, kind=kind, at=at, epoch=epoch, worker=f"{worker}{epoch}", data=members))
    return made


ERROR = {"type": "SMTPException", "message": "451 try again\nlater"}
RETRIED_ELSEWHERE = history(
    ("began", 1, {"at": 1}),
    ("call", 1, {"c": 0, "a": "task:create:h", "l": "create(ann)"}),
    ("done", 1, {"c": 0, "at": 2, "v": "u-1"}),
    ("call", 1, {"c": 1, "a": "task:mail:h", "l": "mail(ann)"}),
    ("attempt", 1, {"c": 1, "n": 1, "at": 3, "e": ERROR, "due": 4}),
    ("queued", 1, {"at": 20, "by": "lost"}),
    ("done", 2, {"c": 1, "at": 21, "v": None}),
    ("call", 2, {"c": 2, "a": "sleep::h", "l": "sleep(1min)", "due": 100}),
    ("parked", 2, {"at": 21, "on": []}),
    ("queued", 2, {"at": 100, "by": "timer"}),
    ("done", 3, {"c": 2, "at": 100.5, "v": None}),
    ("completed", 3, {"at": 100.5}),
)


def test_call_takes_from_the_record_before_it_to_its_own() -> None:
    steps = [step for activation in fold(RETRIED_ELSEWHERE, created_at=START).activations for step in activation.steps]

    assert [step.took for step in steps] == [timedelta(seconds=1), None, timedelta(seconds=19), timedelta(seconds=79.5)]


def test_failed_attempt_says_why_and_when_the_next_may_start() -> None:
    failed = fold(RETRIED_ELSEWHERE, created_at=START).activations[0].steps[1]

    assert (failed.attempt, failed.next_in) == (1, timedelta(seconds=1))
    assert failed.detail.startswith("SMTPException: 451")


def test_each_activation_says_what_it_replayed_and_what_it_ran() -> None:
    activations = fold(RETRIED_ELSEWHERE, created_at=START).activations

    assert [(a.worker, a.replayed, [(s.label, s.attempt) for s in a.steps], a.ended) for a in activations] == [
        ("w1", [], [("create(ann)", None), ("mail(ann)", 1)], "worker lost"),
        ("w2", ["create(ann)"], [("mail(ann)", 2)], "parked"),
        ("w3", ["create(ann)", "mail(ann)"], [("sleep(1min)", None)], "completed"),
    ]


def test_call_that_failed_for_good_is_a_step_and_no_longer_open() -> None:
    entries = history(
        ("began", 1, {"at": 0}),
        ("call", 1, {"c": 0, "a": "task:mail:h", "l": "mail()"}),
        ("attempt", 1, {"c": 0, "n": 1, "at": 1, "e": ERROR, "due": 2}),
        ("failed", 1, {"c": 0, "at": 3, "e": ERROR}),
    )

    timeline = fold(entries, created_at=START)

    assert [(step.kind, step.attempt) for step in timeline.activations[0].steps] == [(StepKind.RETRIED, 1), (StepKind.FAILED, 2)]
    assert timeline.open == []


def test_open_call_and_timed_out_wait_are_told_apart() -> None:
    entries = history(
        ("began", 1, {"at": 0}),
        ("call", 1, {"c": 0, "a": "event:paid:h", "l": "wait(paid)", "due": 5}),
        ("call", 1, {"c": 1, "a": "event:sent:h", "l": "wait(sent)"}),
        ("done", 1, {"c": 0, "at": 5, "v": None, "timeout": True}),
    )

    timeline = fold(entries, created_at=START)

    assert [step.kind for step in timeline.activations[0].steps] == [StepKind.TIMED_OUT]
    assert [call.label for call in timeline.open] == ["wait(sent)"]


def test_child_that_was_given_up_is_a_step_and_no_longer_open() -> None:
    entries = history(
        ("began", 1, {"at": 0}),
        ("call", 1, {"c": 0, "a": "child:ship@1:h", "l": "ship(7)", "run": "r"}),
        ("call", 1, {"c": 1, "a": "sleep::h", "l": "sleep(5s)", "due": 5}),
        ("done", 1, {"c": 1, "at": 5, "v": None}),
        ("child_cancel_requested", 1, {"c": 0}),
    )

    timeline = fold(entries, created_at=START)

    assert [(step.kind, step.label, step.took) for step in timeline.activations[0].steps][1:] == [
        (StepKind.CANCEL_REQUESTED, "ship(7)", timedelta(seconds=5))
    ]
    assert timeline.open == []


def test_child_that_was_given_up_may_still_end_for_code_that_was_changed() -> None:
    entries = history(
        ("began", 1, {"at": 0}),
        ("call", 1, {"c": 0, "a": "child:ship@1:h", "l": "ship(7)", "run": "r"}),
        ("child_cancel_requested", 1, {"c": 0}),
        ("failed", 2, {"c": 0, "at": 3, "e": ERROR}),
    )

    timeline = fold(entries, created_at=START)

    assert [step.kind for activation in timeline.activations for step in activation.steps] == [StepKind.CANCEL_REQUESTED, StepKind.FAILED]


def test_run_that_ended_before_it_began_has_no_activation() -> None:
    entries = [HistoryEntry(seq=1, kind="cancelled", at=START, epoch=0, worker=None, data={"at": 0})]

    assert fold(entries, created_at=START).activations == []


def test_kind_of_a_later_release_is_passed_over() -> None:
    entries = history(("began", 1, {"at": 0}), ("patched", 1, {"at": 1}), ("completed", 1, {"at": 2}))

    assert fold(entries, created_at=START).activations[0].ended == "completed"
