"""Conditions: Ready, Reconciling and Stalled from their parts, and times that move only with the status."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiki_operator.reporting.conditions import Condition, overruled, render, summary, turns

laws = settings(deadline=None, max_examples=40)  # a busy machine breaks no law

FINE = Condition("DatabaseReady", True, "Running", "it runs")
WAITS = Condition("RolloutComplete", False, "Starting", "waiting for the first pod")
STUCK = Condition("RolloutComplete", False, "CrashLoop", "the container has ended 3 times")


def words(conditions: list[Condition]) -> dict[str, tuple[str, str]]:
    return {one.type: (one.word, one.reason) for one in conditions}


@pytest.mark.parametrize(
    ("stalled", "waiting", "expected"),
    [
        (None, None, {"Ready": ("True", "Ready"), "Reconciling": ("False", "Done"), "Stalled": ("False", "Progressing")}),
        (None, WAITS, {"Ready": ("False", "Starting"), "Reconciling": ("True", "Starting"), "Stalled": ("False", "Progressing")}),
        (STUCK, STUCK, {"Ready": ("False", "CrashLoop"), "Reconciling": ("False", "Stalled"), "Stalled": ("True", "CrashLoop")}),
    ],
)
def test_summary_is_one_of_three(stalled: Condition | None, waiting: Condition | None, expected: dict[str, tuple[str, str]]) -> None:
    found = summary([FINE, WAITS], stalled=stalled, waiting_for=waiting)
    assert words(found[:3]) == expected
    assert found[3:] == [FINE, WAITS]


REFUSED = Condition("RolloutComplete", False, "ManifestRefused", "spec.replicas: Invalid value")


def test_one_word_over_the_plan_s_is_what_ready_and_stalled_say() -> None:
    found = overruled(summary([FINE, WAITS], stalled=None, waiting_for=None), REFUSED, lasting=True)
    assert words(list(found)) == words([REFUSED, *summary([], stalled=REFUSED, waiting_for=REFUSED), FINE])
    passing = overruled(summary([FINE, WAITS], stalled=None, waiting_for=None), REFUSED, lasting=False)
    assert words(list(passing))["Reconciling"] == ("True", "ManifestRefused")
    stays = overruled(summary([FINE, STUCK], stalled=STUCK, waiting_for=STUCK), FINE, lasting=False)
    assert words(list(stays))["Stalled"] == ("True", "CrashLoop")


def rendered(part: Condition, *, stalled: bool = False) -> list[dict[str, Any]]:
    conditions = summary([part], stalled=part if stalled else None, waiting_for=None if part.status else part)
    return render(conditions, before=(), generation=1, now="t1")


@pytest.mark.parametrize(
    ("before", "part", "stalled", "told"),
    [
        pytest.param(None, WAITS, False, [], id="a step on the way is no event"),
        pytest.param(WAITS, STUCK, True, [("CrashLoop", True)], id="trouble is a warning"),
        pytest.param(STUCK, STUCK, True, [], id="the same trouble is told once"),
        pytest.param(
            WAITS, Condition("RolloutComplete", False, "Unschedulable", ""), False, [("Unschedulable", True)], id="passing trouble"
        ),
        pytest.param(STUCK, REFUSED, True, [("ManifestRefused", True)], id="another trouble is told too"),
        pytest.param(STUCK, Condition("RolloutComplete", True, "Serving", ""), False, [("Ready", False)], id="the end of trouble"),
        pytest.param(WAITS, Condition("RolloutComplete", True, "Serving", ""), False, [], id="the end of a start is the plan's to tell"),
    ],
)
def test_trouble_and_its_end_are_events(before: Condition | None, part: Condition, stalled: bool, told: list[tuple[str, bool]]) -> None:
    known = [] if before is None else rendered(before, stalled=before is STUCK)
    now = summary([part], stalled=part if stalled else None, waiting_for=None if part.status else part)
    assert [(one.reason, one.warning) for one in turns(known, now)] == told


def test_each_step_of_a_server_is_an_event() -> None:
    steps = [Condition("RolloutComplete", False, reason, "") for reason in ("WaitingForSecrets", "Migrating", "Migrating", "RollingOut")]
    steps.append(Condition("RolloutComplete", True, "Serving", ""))
    known: list[dict[str, Any]] = []
    told = []
    for step in steps:
        told += [one.reason for one in turns(known, summary([step], stalled=None, waiting_for=None if step.status else step), story=True)]
        known = rendered(step)
    assert told == ["WaitingForSecrets", "Migrating", "RollingOut", "Serving"]


def test_every_condition_speaks_of_a_generation() -> None:
    assert [one["observedGeneration"] for one in render([FINE, WAITS], before=(), generation=7, now="t1")] == [7, 7]


def test_transition_time_moves_only_with_the_status() -> None:
    before = render([FINE, WAITS], before=(), generation=1, now="t1")
    later = render([FINE, STUCK], before=before, generation=2, now="t2")
    assert [one["lastTransitionTime"] for one in later] == ["t1", "t1"]
    assert [one["reason"] for one in later] == ["Running", "CrashLoop"]
    healed = render([Condition("RolloutComplete", True, "Serving", "")], before=later, generation=2, now="t3")
    assert healed[0]["lastTransitionTime"] == "t3"


def test_unknown_is_a_status_of_its_own() -> None:
    assert (
        render([Condition("WorkersRegistered", None, "ServerUnreachable", "")], before=(), generation=1, now="t")[0]["status"] == "Unknown"
    )


def test_long_messages_are_cut() -> None:
    assert len(render([Condition("Ready", False, "Long", "x" * 9999)], before=(), generation=1, now="t")[0]["message"]) == 1024


conditions = st.lists(
    st.builds(
        Condition, st.sampled_from(["Ready", "Stalled", "A", "B"]), st.sampled_from([True, False, None]), st.just("R"), st.text(max_size=5)
    ),
    unique_by=lambda one: one.type,
)


@laws
@given(conditions, conditions)
def test_rendering_twice_changes_nothing(earlier: list[Condition], now: list[Condition]) -> None:
    before = render(earlier, before=(), generation=1, now="t1")
    once = render(now, before=before, generation=2, now="t2")
    assert render(now, before=once, generation=2, now="t3") == once
