"""The laws of the soak, on histories that break them: a law that finds nothing there would find nothing anywhere."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from faults.soak import verdict
from faults.soak.load import Errand
from faults.soak.records import Recorded

BEGAN = datetime(2030, 1, 1, tzinfo=UTC)
MICROS = int(BEGAN.timestamp() * 1e6)
SLEEP = {"k": "call", "c": 0, "a": "sleep::1", "l": "sleep(5 s)", "due": MICROS + 5_000_000}


def recorded(*entries: dict[str, Any], trace: list[dict[str, Any]] | None = None, **row: Any) -> Recorded:
    known: dict[str, Any] = {
        "namespace": "left", "workflow": "errand", "status": "completed", "ref": None, "parent": None, "input": "[]", "output": "[]", "error": None,
        "epoch": 9, "build": None, "pool": "main", "finished_at": BEGAN, "cancel_requested": False, "on_parent_close": "cancel", "deliveries": 0,
    }  # fmt: skip
    about: Any = known | row
    return Recorded("a" * 32, about, list(entries), trace=trace or [])


def began(at: float, **more: Any) -> dict[str, Any]:
    return {"what": "begin", "at": at, "epoch": 1, "step": "square", "attempt": 1, "tenant": "left", "build": None, "key": "a-0"} | more


def parked(due: datetime) -> dict[str, Any]:
    return {"k": "parked", "at": MICROS, "on": [{"kind": "sleep", "due_at": due.isoformat()}]}


DUE = BEGAN + timedelta(seconds=5)
WOKEN = {"k": "queued", "by": "timer"}


@pytest.mark.parametrize(
    ("law", "broken", "sound"),
    [
        (
            verdict._timers,
            [SLEEP, {"k": "done", "c": 0, "at": MICROS + 4_999_000}],
            [SLEEP, {"k": "done", "c": 0, "at": MICROS + 5_000_000}],
        ),
        (verdict._timers, [parked(DUE), WOKEN | {"at": MICROS + 4_000_000}], [parked(DUE), WOKEN | {"at": MICROS + 5_100_000}]),
        (verdict._timers, [parked(DUE), WOKEN | {"at": MICROS + 90_000_000}], [parked(DUE), WOKEN | {"at": MICROS + 9_000_000}]),
    ],
    ids=["ends early", "wakes early", "wakes late"],
)
def test_a_timer_that_fires_early_or_very_late_is_found(law: Any, broken: list[Any], sound: list[Any]) -> None:
    assert len(list(law(recorded(*broken)))) == 1
    assert list(law(recorded(*sound))) == []


def test_epochs_that_overlap_are_found() -> None:
    assert list(verdict._epochs(recorded(trace=[began(1), began(2, epoch=2), began(3, epoch=2)]))) == []
    (found,) = verdict._epochs(recorded(trace=[began(1), began(2, epoch=2), began(3)]))
    assert found.startswith("S6 square began in epoch 1, 1.000 s after")


def test_a_run_in_strange_hands() -> None:
    assert [found[:3] for found in verdict._places(recorded(trace=[began(1, tenant="right")]))] == ["I45"]
    pinned = recorded(trace=[began(1, build="b2")], pool="pinned", build="b1")
    assert [found[:3] for found in verdict._places(pinned)] == ["S11"]


@pytest.mark.parametrize(("at", "resumed_at", "count"), [(20.0, 30.0, 1), (12.0, 30.0, 0), (31.0, 30.0, 0)])
def test_a_pause_that_is_not_kept(at: float, resumed_at: float, count: int) -> None:
    one = Errand("left", "errand-1", [], paused_at=10.0, resumed_at=resumed_at)
    assert len(list(verdict._rested(one, recorded(trace=[began(at)])))) == count


def child_of(parent: Recorded, **row: Any) -> Recorded:
    child = recorded(**row)
    child.id = "b" * 32
    parent.entries.append({"k": "call", "c": 0, "a": "child::1", "l": "errand", "run": child.id})
    return child


def test_a_child_whose_parent_has_not_ended() -> None:
    parent = recorded(finished_at=None, status="running")
    child = child_of(parent, status="cancelled")
    assert [found[:3] for found in verdict._rightly_cancelled(parent, child)] == ["S29"]
    assert [found[:4] for found in verdict._told(parent, child)] == ["S24 "]


def test_a_child_that_was_given_up_is_rightly_cancelled() -> None:
    parent = recorded(finished_at=None, status="running")
    child = child_of(parent, status="cancelled")
    parent.entries.append({"k": "child_cancel_requested", "c": 0})
    assert list(verdict._rightly_cancelled(parent, child)) == []


def test_a_failure_that_was_not_planned() -> None:
    error = json.dumps({"type": "BoomError", "message": "m"})
    planned = recorded({"k": "failed_run"}, status="failed", error=error, input='[["boom", 1]]', history_len=1)
    surprising = recorded({"k": "failed_run"}, status="failed", error=error, input='[["square", 1, 0]]', history_len=1)
    planned.seqs = surprising.seqs = [1]
    assert list(verdict._history(planned)) == []
    assert [found[:3] for found in verdict._history(surprising)] == ["S15"]


def test_a_law_that_cannot_be_judged_is_a_violation() -> None:
    run = recorded({"k": "done", "c": 7, "at": 1})
    assert [found for found in verdict.judged("timers", run, verdict._timers(run)) if "cannot be judged" in found]
