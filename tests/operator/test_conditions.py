"""Conditions: Ready, Reconciling and Stalled from their parts, and times that move only with the status."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiki_operator.conditions import Condition, refusal, render, summary

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


def test_refused_manifest_stalls_with_the_reason_of_the_api_server() -> None:
    found = refusal("spec.replicas: Invalid value")
    assert words(list(found))["Stalled"] == ("True", "ManifestRefused")
    assert all("spec.replicas: Invalid value" in one.message for one in found if one.type != "Reconciling" or one.status)


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
    assert render([Condition("WorkersRegistered", None, "ServerSilent", "")], before=(), generation=1, now="t")[0]["status"] == "Unknown"


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
