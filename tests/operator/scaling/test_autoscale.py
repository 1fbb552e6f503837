"""What the autoscaler decides, case by case, with the sentence that it gives for it."""

from __future__ import annotations

from typing import Any

import pytest

from aiki_operator.scaling.autoscale import (
    FIRST_POD,
    UNKNOWN,
    Demand,
    LoadRates,
    ScaledBuild,
    ScalingDecision,
    ScalingInputs,
    ScalingPolicy,
    ScalingState,
    Unknown,
    decide,
    slots_needed,
)

POLICY = ScalingPolicy(0, 20, 10)
SECOND_EACH = LoadRates(0.0, 1.0)


def once(policy: ScalingPolicy = POLICY, *builds: ScaledBuild, rates: LoadRates = SECOND_EACH, now: float = 1000.0) -> ScalingDecision:
    return decide(policy, ScalingState(), ScalingInputs(builds, rates), now)[0]


def one(
    demand: Demand | Unknown, *, replicas: int = 0, policy: ScalingPolicy = POLICY, rates: LoadRates = SECOND_EACH, **build: Any
) -> ScalingDecision:
    return once(policy, ScaledBuild("b", replicas, demand, **build), rates=rates)


@pytest.mark.parametrize(
    ("demand", "rates", "pods"),
    [
        pytest.param(Demand(), LoadRates(), 0, id="nothing to do"),
        pytest.param(Demand(queued=1), LoadRates(0.0, 1.0), 1, id="one run"),
        pytest.param(Demand(queued=400), LoadRates(0.0, 2.0), 3, id="a backlog of 800 s within 30 s"),
        pytest.param(Demand(queued=400), LoadRates(), 20, id="unknown duration: a slot for each, up to the maximum"),
        pytest.param(Demand(queued=400), LoadRates(0.0, 3600.0), 20, id="longer than the drain time: a slot for each"),
        pytest.param(Demand(running=25), LoadRates(0.0, 1.0), 3, id="what runs keeps its slots"),
        pytest.param(Demand(running=8), LoadRates(8.0, 1.0), 1, id="arrivals cost no more than there is work"),
        pytest.param(Demand(queued=40, running=40), LoadRates(40.0, 2.0), 8, id="arrivals and backlog, capped by the work"),
        pytest.param(Demand(queued=1000, running=40), LoadRates(40.0, 2.0), 17, id="Little's law with headroom, and the backlog"),
    ],
)
def test_pods_follow_the_load(demand: Demand, rates: LoadRates, pods: int) -> None:
    assert one(demand, rates=rates).replicas == pods


def test_a_full_pod_is_not_one_too_many() -> None:
    assert slots_needed(ScalingPolicy(0, 9, 3), Demand(queued=30), LoadRates(0.0, 3.0), 0.0) == pytest.approx(3.0)
    assert one(Demand(queued=30), policy=ScalingPolicy(0, 9, 3), rates=LoadRates(0.0, 3.0)).replicas == 1


def test_decision_says_why_in_numbers() -> None:
    reason = one(Demand(queued=3, running=2, due=(1001.0, 5000.0)), rates=LoadRates(0.5, 2.0)).targets[0].reason
    assert reason == "queued 3, running 2, due soon 1, arriving 0.5/s, taking 2 s: 2 slots, 10 a pod"
    assert "taking unknown" in one(Demand(queued=3), rates=LoadRates()).targets[0].reason


@pytest.mark.parametrize(("due", "pods"), [(1015.0, 1), (1015.1, 0), (900.0, 1)])
def test_a_pod_is_there_before_a_timer_is_due(due: float, pods: int) -> None:
    assert one(Demand(due=(due,))).replicas == pods


def test_many_timers_at_once_get_pods_for_all() -> None:
    assert one(Demand(due=(1010.0,) * 200), rates=LoadRates(0.0, 60.0)).replicas == 20


def test_unknown_load_holds_the_size() -> None:
    decision = one(UNKNOWN, replicas=7)
    assert (decision.replicas, decision.known) == (7, False)
    assert "held" in decision.targets[0].reason


def test_partial_load_lets_grow_but_not_shrink() -> None:
    assert one(Demand(queued=40), replicas=1, rates=LoadRates(), partial=True).replicas == 4
    held = one(Demand(queued=1), replicas=3, partial=True)
    assert (held.replicas, held.known) == (3, False)
    assert "Redis does not answer" in held.targets[0].reason


def test_new_build_gets_one_pod_until_it_has_registered() -> None:
    for demand in (Demand(), UNKNOWN):
        first = one(demand, starting=True).targets[0]
        assert (first.replicas, first.reason) == (1, FIRST_POD)
    assert one(UNKNOWN, replicas=3, starting=True).replicas == 3


def test_minimum_and_maximum_are_named_where_they_cut() -> None:
    raised, cut = one(Demand(), policy=ScalingPolicy(2, 20, 10)), one(Demand(queued=999), policy=ScalingPolicy(0, 5, 10), rates=LoadRates())
    assert (raised.replicas, raised.limit) == (2, "minReplicas")
    assert (cut.replicas, cut.limit, cut.targets[0].wanted) == (5, "maxReplicas", 100)
    assert one(Demand(queued=10)).limit is None


def test_arrivals_and_minimum_go_to_the_latest_build_only() -> None:
    rates = LoadRates(100.0, 1.0)
    busy = Demand(queued=30, running=5)
    latest, older = ScaledBuild("new", 0, Demand()), ScaledBuild("old", 1, busy, latest=False)
    decision = once(ScalingPolicy(3, 20, 10), latest, older, rates=rates)
    assert {target.build: target.replicas for target in decision.targets} == {"new": 3, "old": 1}
    assert decision.of("old") is not None
    assert decision.of("gone") is None


def test_older_builds_finish_first_and_every_build_with_work_gets_a_pod() -> None:
    latest = ScaledBuild("new", 0, Demand(queued=100))
    older = ScaledBuild("old", 5, Demand(running=50), latest=False)
    decision = once(ScalingPolicy(0, 5, 10), latest, older, rates=LoadRates())
    assert {target.build: target.replicas for target in decision.targets} == {"new": 1, "old": 5}
    assert decision.limit == "maxReplicas"


@pytest.mark.parametrize("demand", [UNKNOWN, Demand(), Demand(queued=500)])
def test_fixed_size_is_what_it_is(demand: Demand | Unknown) -> None:
    decision = one(demand, policy=ScalingPolicy(0, 20, 10, fixed=3))
    assert decision.replicas == 3
    assert decision.targets[0].reason == "fixed at 3 by spec.replicas"


def test_fixed_size_is_obeyed_at_once_in_both_directions() -> None:
    assert one(Demand(queued=500), replicas=9, policy=ScalingPolicy(0, 20, 10, fixed=3)).replicas == 3
    assert one(UNKNOWN, replicas=9, policy=ScalingPolicy(0, 20, 10, fixed=0)).replicas == 0


def test_fixed_size_is_that_of_the_latest_build_and_zero_that_of_all() -> None:
    builds = (ScaledBuild("new", 0, Demand()), ScaledBuild("old", 2, Demand(running=15), latest=False))
    assert [target.replicas for target in once(ScalingPolicy(0, 20, 10, fixed=4), *builds).targets] == [4, 2]
    assert [target.replicas for target in once(ScalingPolicy(0, 20, 10, fixed=0), *builds).targets] == [0, 0]


def test_scale_in_waits_for_the_window() -> None:
    state, sizes = ScalingState(), dict[int, int]()
    for second in range(0, 130, 10):
        demand = Demand(queued=100) if second == 0 else Demand()
        replicas = sizes[second - 10] if second else 0
        decision, state = decide(POLICY, state, ScalingInputs((ScaledBuild("b", replicas, demand),), LoadRates()), float(second))
        sizes[second] = decision.replicas
    assert [sizes[second] for second in (0, 10, 50, 60, 70)] == [10, 10, 10, 0, 0]


def test_restarted_operator_shrinks_nothing_at_once() -> None:
    decision, state = decide(POLICY, ScalingState(), ScalingInputs((ScaledBuild("b", 8, Demand()),)), 0.0)
    assert decision.replicas == 8
    assert decide(POLICY, state, ScalingInputs((ScaledBuild("b", 8, Demand()),)), 60.0)[0].replicas == 0


def test_state_keeps_no_builds_that_are_gone() -> None:
    _, state = decide(
        POLICY, ScalingState(), ScalingInputs((ScaledBuild("a", 1, Demand()), ScaledBuild("b", 1, Demand(), latest=False))), 0.0
    )
    _, state = decide(POLICY, state, ScalingInputs((ScaledBuild("b", 1, Demand()),)), 1.0)
    assert set(state.windows) == {"b"}


def test_where_runs_are_long_those_that_run_count_as_much_as_those_that_wait() -> None:
    assert slots_needed(POLICY, Demand(queued=10, running=4), LoadRates(0.0, 60.0), 0.0) == 14


def test_an_older_build_gets_nothing_for_arrivals() -> None:
    narrow, busy = ScalingPolicy(0, 20, 1), LoadRates(100.0, 3.0)
    assert one(Demand(queued=10), policy=narrow, rates=busy, latest=False).replicas == 1
    assert one(Demand(queued=10), policy=narrow, rates=busy).replicas == 10
