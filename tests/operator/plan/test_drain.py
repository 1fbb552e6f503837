"""Scale-in without an interruption (S44): who drains, who goes, and what is safe at each moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiki_operator.plan.pods import Pod
from aiki_operator.plan.pool.drain import GOES_FIRST, DrainStep, shrink
from aiki_operator.scaling.load import PoolWorker
from support.operator.objects import pod, worker

laws = settings(deadline=None, max_examples=60)  # a busy machine breaks no law

NOW = 1000.0


def step(
    pods: list[Pod], workers: list[PoolWorker], *, replicas: int, target: int, since: Mapping[str, float] | None = None, **more: Any
) -> DrainStep:
    return shrink(
        replicas=replicas,
        target=target,
        pods=pods,
        workers=workers,
        since=since or {},
        timeout=more.get("timeout", 300),
        now=more.get("now", NOW),
    )


def test_idlest_worker_drains_first() -> None:
    pods = [pod("a"), pod("b"), pod("c")]
    workers = [worker("a", active=5), worker("b", active=1), worker("c", active=9)]
    found = step(pods, workers, replicas=3, target=2)
    assert (found.replicas, found.drain, found.undrain, found.mark) == (3, ("w-b",), (), ())
    assert found.since == {"b": NOW}


def test_worker_that_is_draining_is_not_told_again_and_stays_the_victim() -> None:
    pods = [pod("a"), pod("b")]
    found = step(pods, [worker("a", active=0), worker("b", active=7, draining=True)], replicas=2, target=1, since={"b": 900.0})
    assert (found.replicas, found.drain, found.undrain, found.since) == (2, (), (), {"b": 900.0})


def test_drained_worker_goes_and_kubernetes_is_told_which() -> None:
    pods = [pod("a"), pod("b")]
    workers = [worker("a", active=3), worker("b", draining=True)]
    found = step(pods, workers, replicas=2, target=1)
    assert (found.replicas, found.mark) == (1, ("b",))
    marked = [pods[0], replace(pods[1], cost=GOES_FIRST)]
    assert step(marked, workers, replicas=2, target=1).mark == ()


def test_idle_worker_goes_only_after_it_was_told() -> None:
    """A run may be claimed between the reading and the order."""
    found = step([pod("a")], [worker("a", active=0)], replicas=1, target=0)
    assert (found.replicas, found.drain) == (1, ("w-a",))


@pytest.mark.parametrize(("heard", "replicas"), [(5.0, 2), (2.0, 1)])
def test_idle_worker_goes_only_after_it_has_heard_of_it(heard: float, replicas: int) -> None:
    """Its heartbeat says what it had before it knew: it may have claimed since."""
    idle = replace(worker("a", draining=True), heard=heard)
    found = step([pod("a"), pod("b")], [idle, worker("b", active=1)], replicas=2, target=1, since={"a": NOW - 3})
    assert found.replicas == replicas


def test_work_that_comes_back_calls_the_drain_off() -> None:
    found = step([pod("a"), pod("b")], [worker("a", active=1, draining=True), worker("b")], replicas=2, target=2, since={"a": 900.0})
    assert (found.replicas, found.undrain, found.since) == (2, ("w-a",), {})
    assert step([pod("a")], [worker("a", draining=True)], replicas=1, target=4).replicas == 4


def test_pod_that_was_given_up_does_not_claim_again_while_kubernetes_has_yet_to_act() -> None:
    pods = [pod("a"), pod("b", cost=GOES_FIRST)]
    workers = [worker("a", active=1), worker("b", draining=True)]
    assert step(pods, workers, replicas=1, target=1).undrain == ()
    assert step(pods, workers, replicas=2, target=2).undrain == ("w-b",)


@pytest.mark.parametrize(("now", "replicas"), [(1300.0, 1), (1300.1, 0)])
def test_drain_that_takes_too_long_ends(now: float, replicas: int) -> None:
    found = step([pod("a")], [worker("a", active=1, draining=True)], replicas=1, target=0, since={"a": 1000.0}, now=now)
    assert found.replicas == replicas


def test_pod_without_a_worker_goes_first_and_at_once() -> None:
    pods = [pod("a"), pod("starting", ready=False), pod("b")]
    found = step(pods, [worker("a", active=1), worker("b", active=1)], replicas=3, target=2)
    assert (found.replicas, found.mark, found.drain) == (2, ("starting",), ())


def test_pods_that_leave_or_have_ended_do_not_count() -> None:
    pods = [pod("a"), pod("b", leaving=True), pod("c", ended=True)]
    found = step(pods, [worker("a", active=1), worker("b"), worker("c")], replicas=1, target=1)
    assert found == DrainStep(1, since={})


def test_size_that_no_pod_stands_for_is_given_up_and_nobody_drains_for_it() -> None:
    """A quota may keep Kubernetes from making pods: those that it made are the ones that stay."""
    pods = [pod("a"), pod("b"), pod("c")]
    found = step(pods, [worker(one.name, active=2) for one in pods], replicas=5, target=3)
    assert (found.replicas, found.drain, found.mark) == (3, (), ())


def test_pod_that_was_marked_and_stayed_is_not_taken_for_it_later() -> None:
    """Kubernetes took another one, or the size went up again: the mark must not outlive its moment."""
    pods = [pod("stale", cost=GOES_FIRST), pod("idle")]
    workers = [worker("stale", active=4), worker("idle", draining=True)]
    found = step(pods, workers, replicas=2, target=1)
    assert (found.replicas, found.mark, found.unmark) == (1, ("idle",), ("stale",))
    assert step(pods, workers, replicas=2, target=2).unmark == ("stale",)
    assert step(pods, workers, replicas=1, target=1).unmark == ()


# ---- laws ---------------------------------------------------------------------------------------------------------

workers = st.tuples(st.integers(0, 5), st.booleans()) | st.none()
members = st.lists(st.tuples(workers, st.booleans(), st.sampled_from([None, GOES_FIRST])), max_size=6)


def build(members: list[Any]) -> tuple[list[Pod], list[PoolWorker]]:
    pods = [pod(f"p{number}", ready=ready, cost=cost) for number, (_, ready, cost) in enumerate(members)]
    known = [worker(f"p{number}", active=one[0], draining=one[1]) for number, (one, _, _) in enumerate(members) if one is not None]
    return pods, known


def taken(pods: list[Pod], workers: list[PoolWorker], found: DrainStep) -> list[Pod]:
    """The pods that Kubernetes deletes: those that are not ready first, then by deletion cost, and of equals the worst choice for us."""
    active = {one.pod: one.active for one in workers}
    costs = {one.name: GOES_FIRST if one.name in found.mark else None if one.name in found.unmark else one.cost for one in pods}
    order = sorted(pods, key=lambda one: (one.ready, costs[one.name] != GOES_FIRST, -active.get(one.name, 0)))
    return order[: max(0, len(pods) - found.replicas)]


@laws
@given(members, st.integers(0, 3), st.integers(0, 8))
def test_no_pod_that_works_is_taken(members: list[Any], missing: int, target: int) -> None:
    pods, known = build(members)
    # A registered worker's pod is ready, but for moments that no plan can foresee.
    pods = [replace(one, ready=one.ready or any(worker.pod == one.name for worker in known)) for one in pods]
    found = step(pods, known, replicas=len(pods) + missing, target=target)
    active = {one.pod: one for one in known}
    for one in taken(pods, known, found):
        assert one.name not in active or (active[one.name].active == 0 and active[one.name].draining)


@laws
@given(members, st.integers(0, 3), st.integers(0, 8))
def test_size_lies_between_what_is_and_what_is_wanted(members: list[Any], missing: int, target: int) -> None:
    pods, known = build(members)
    replicas = len(pods) + missing
    found = step(pods, known, replicas=replicas, target=target)
    assert min(target, replicas) <= found.replicas <= max(target, replicas)
    draining = {one.id for one in known if one.draining}
    stop = (draining | set(found.drain)) - set(found.undrain)
    assert not set(found.drain) & set(found.undrain)
    assert len(stop) <= max(0, len(pods) - target)


@laws
@given(members, st.integers(0, 8))
def test_steps_lead_to_the_target(members: list[Any], target: int) -> None:
    """Orders are followed and work ends: after as many steps as there are pods the size is the wanted one."""
    pods, known = build(members)
    replicas, since = len(pods), dict[str, float]()
    for turn in range(4 * len(pods) + 2):
        found = step(pods, known, replicas=replicas, target=target, since=since, now=NOW + turn)
        gone = {one.name for one in taken(pods, known, found)}
        pods = [replace(one, cost=GOES_FIRST if one.name in found.mark else one.cost) for one in pods if one.name not in gone]
        known = [
            replace(one, draining=(one.draining or one.id in found.drain) and one.id not in found.undrain, active=max(0, one.active - 1))
            for one in known
            if one.pod not in gone
        ]
        replicas, since = found.replicas, dict(found.since or {})
    assert replicas == target
