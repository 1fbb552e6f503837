"""Laws of the autoscaler, over random pools, loads and lives of pools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aiki_operator.scaling.autoscale import (
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
)

laws = settings(deadline=None, max_examples=50)  # a busy machine breaks no law

NOW = 10_000.0

count = st.integers(0, 60)
rates = st.builds(LoadRates, st.floats(0, 200), st.none() | st.floats(0.001, 1000))
demand = st.builds(
    Demand,
    queued=count,
    running=count,
    busy_workers=st.integers(0, 6),
    due=st.lists(st.floats(NOW - 100, NOW + 500), max_size=5).map(lambda due: tuple(sorted(due))),
)


@st.composite
def policies(draw: st.DrawFn) -> ScalingPolicy:
    minimum, more = draw(st.integers(0, 5)), draw(st.integers(0, 10))
    return ScalingPolicy(
        minimum,
        max(1, minimum + more),
        draw(st.integers(1, 12)),
        utilization=draw(st.integers(10, 100)) / 100,
        backlog_seconds=draw(st.integers(1, 100)),
        stabilization_seconds=draw(st.integers(0, 120)),
    )


@st.composite
def pools(draw: st.DrawFn, demands: st.SearchStrategy[Demand | Unknown] = demand) -> tuple[ScaledBuild, ...]:
    """One to three builds, the newest first and the latest."""
    return tuple(
        ScaledBuild(f"b{number}", draw(st.integers(0, 8)), draw(demands), latest=number == 0, partial=draw(st.booleans()))
        for number in range(draw(st.integers(1, 3)))
    )


def sizes(decision: ScalingDecision) -> Mapping[str, int]:
    return {target.build: target.replicas for target in decision.targets}


def once(policy: ScalingPolicy, builds: tuple[ScaledBuild, ...], seen: LoadRates) -> ScalingDecision:
    return decide(policy, ScalingState(), ScalingInputs(builds, seen), NOW)[0]


@laws
@given(policies(), pools(), rates, st.integers(0, 2), st.integers(1, 100))
def test_a_larger_backlog_never_asks_for_fewer_pods(
    policy: ScalingPolicy, builds: tuple[ScaledBuild, ...], seen: LoadRates, which: int, more: int
) -> None:
    assume(which < len(builds))
    known = builds[which].demand
    assert not isinstance(known, Unknown)
    grown = replace(builds[which], demand=replace(known, queued=known.queued + more))
    after = once(policy, (*builds[:which], grown, *builds[which + 1 :]), seen)
    before = once(policy, builds, seen)
    assert after.replicas >= before.replicas
    assert sizes(after)[grown.name] >= sizes(before)[grown.name]


@laws
@given(policies(), pools(), rates)
def test_no_build_with_work_has_zero_pods(policy: ScalingPolicy, builds: tuple[ScaledBuild, ...], seen: LoadRates) -> None:
    found = sizes(once(policy, builds, seen))
    for build in builds:
        assert not isinstance(build.demand, Unknown)
        if build.demand.queued or build.demand.running or any(due <= NOW + policy.lead_seconds for due in build.demand.due):
            assert found[build.name] >= 1


@laws
@given(policies(), demand, rates, st.integers(0, 8))
def test_one_build_stays_within_minimum_and_maximum(policy: ScalingPolicy, wanted: Demand, seen: LoadRates, replicas: int) -> None:
    assert policy.minimum <= once(policy, (ScaledBuild("b", replicas, wanted),), seen).replicas <= policy.maximum


@laws
@given(policies(), pools(demand | st.just(UNKNOWN)), rates)
def test_maximum_is_exceeded_by_one_pod_a_build_at_most(policy: ScalingPolicy, builds: tuple[ScaledBuild, ...], seen: LoadRates) -> None:
    assert once(policy, builds, seen).replicas <= policy.maximum + len(builds) - 1


@laws
@given(policies(), pools(st.just(UNKNOWN)), rates)
def test_unknown_load_never_shrinks(policy: ScalingPolicy, builds: tuple[ScaledBuild, ...], seen: LoadRates) -> None:
    assume(sum(build.replicas for build in builds) <= policy.maximum)
    decision = once(policy, builds, seen)
    assert not decision.known
    for build in builds:
        floor = policy.minimum if build.latest else 0
        assert build.replicas <= sizes(decision)[build.name] <= max(build.replicas, floor)


@laws
@given(policies(), demand, rates, st.integers(0, 8), st.lists(st.floats(0, 100), max_size=8))
def test_what_is_missing_for_a_while_changes_nothing(
    policy: ScalingPolicy, wanted: Demand, seen: LoadRates, replicas: int, gaps: list[float]
) -> None:
    """From silence to silence the size stays as it was, however long it lasts."""
    replicas = max(policy.minimum, min(policy.maximum, replicas))
    decision, state = decide(policy, ScalingState(), ScalingInputs((ScaledBuild("b", replicas, wanted),), seen), NOW)
    held, now = decision.replicas, NOW
    for gap in gaps:
        now += gap
        decision, state = decide(policy, state, ScalingInputs((ScaledBuild("b", held, UNKNOWN),), seen), now)
        assert decision.replicas == held


@laws
@given(policies(), demand, rates, st.integers(0, 8))
def test_redis_silent_never_shrinks(policy: ScalingPolicy, wanted: Demand, seen: LoadRates, replicas: int) -> None:
    assume(replicas <= policy.maximum)
    state, now = ScalingState(), NOW
    for second in range(0, 300, 50):
        build = ScaledBuild("b", replicas, replace(wanted, due=()), partial=True)
        decision, state = decide(policy, state, ScalingInputs((build,), seen), now + second)
        assert decision.replicas >= replicas


@laws
@given(policies(), demand, rates, st.integers(0, 8))
def test_constant_load_settles_and_stays(policy: ScalingPolicy, wanted: Demand, seen: LoadRates, replicas: int) -> None:
    """Up at once, then nothing until the window is over, then one step down at most, then nothing."""
    wanted = replace(wanted, due=())
    state, history = ScalingState(), [replicas]
    for second in range(0, 300, 5):
        build = ScaledBuild("b", history[-1], wanted)
        decision, state = decide(policy, state, ScalingInputs((build,), seen), NOW + second)
        history.append(decision.replicas)
    # A size outside the limits is brought back into them first.
    changes = [(before, after) for before, after in pairwise(history[1:]) if before != after]
    assert len(changes) <= 1
    assert all(after < before for before, after in changes)


@laws
@given(policies(), st.lists(st.tuples(st.integers(0, 20), demand), min_size=1, max_size=12), rates)
def test_up_at_once_and_down_to_the_maximum_of_the_window(policy: ScalingPolicy, life: list[tuple[int, Demand]], seen: LoadRates) -> None:
    state, replicas, now = ScalingState(), 0, NOW
    wanted: list[tuple[float, int]] = [(NOW, 0)]
    for seconds, seen_demand in life:
        now += seconds
        decision, state = decide(policy, state, ScalingInputs((ScaledBuild("b", replicas, seen_demand),), seen), now)
        ask = decision.targets[0].wanted
        recent = [size for at, size in wanted if at > now - policy.stabilization_seconds]
        expected = ask if ask >= replicas else min(replicas, max([ask, *recent]))
        assert decision.replicas == min(max(expected, policy.minimum), max(policy.maximum, 1))
        wanted.append((now, ask))
        replicas = decision.replicas


@laws
@given(policies(), demand, rates, st.integers(0, 8))
def test_never_fewer_than_are_busy_while_work_is_queued(policy: ScalingPolicy, wanted: Demand, seen: LoadRates, replicas: int) -> None:
    assume(wanted.queued)
    assert once(policy, (ScaledBuild("b", replicas, wanted),), seen).replicas >= min(wanted.busy_workers, policy.maximum)


@laws
@given(policies(), demand, rates)
def test_never_more_pods_than_work(policy: ScalingPolicy, wanted: Demand, seen: LoadRates) -> None:
    """What is asked for by load alone; the minimum may hold more."""
    due = sum(1 for at in wanted.due if at <= NOW + policy.lead_seconds)
    work = wanted.queued + wanted.running + due
    busy = wanted.busy_workers if wanted.queued else 0
    assert once(policy, (ScaledBuild("b", 0, wanted),), seen).targets[0].wanted <= max(work, busy)


@laws
@given(policies(), st.floats(0, 1000), st.integers(0, 8))
def test_wakes_before_a_known_timer(policy: ScalingPolicy, away: float, replicas: int) -> None:
    """With a turn a second there is a pod from `lead_seconds` before the timer on."""
    due, state = NOW + away, ScalingState()
    for now in (due - policy.lead_seconds, due - policy.lead_seconds / 2, due):
        decision, state = decide(policy, state, ScalingInputs((ScaledBuild("b", replicas, Demand(due=(due,))),)), now)
        assert decision.replicas >= 1


@laws
@given(policies(), pools(demand | st.just(UNKNOWN)), rates)
def test_decision_is_a_function_of_what_it_is_given(policy: ScalingPolicy, builds: tuple[ScaledBuild, ...], seen: LoadRates) -> None:
    assert decide(policy, ScalingState(), ScalingInputs(builds, seen), NOW) == decide(
        policy, ScalingState(), ScalingInputs(builds, seen), NOW
    )
