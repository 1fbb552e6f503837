"""Each kind of action of a pool's plan by itself: builds told apart, sizes, steps, events, and what is not known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aiki_operator.manifests.worker import deployment_name
from aiki_operator.plan.pool.builds import PoolBuilds, build_state, builds_to_forget, is_retired, kept_builds, survey, with_target
from aiki_operator.plan.pool.drain import DrainStep
from aiki_operator.plan.pool.events import drain_notices, promotion_notices, resize_notices, share_name, why
from aiki_operator.plan.pool.plan import versioning_to_tell
from aiki_operator.plan.pool.sizes import next_steps, scaling_inputs, scaling_policy, wanted_sizes
from aiki_operator.plan.pool.state import DeployedBuild, LoadUnavailable, ObservedPool
from aiki_operator.scaling.autoscale import UNKNOWN, Demand, LoadRates, ScalingDecision, SizeTarget
from aiki_operator.scaling.load import BuildLoad, Load, RolloutTrial
from aiki_operator.spec.hours import MinimumWindow
from aiki_operator.spec.pool import Versioning, parse_pool
from support.operator.objects import build_load, load, pod, pool_body, worker

NEW, OLD = parse_pool(pool_body(image="example.com/onboarding:2")), parse_pool(pool_body(image="example.com/onboarding:1"))
SILENT = LoadUnavailable(30, "ServerUnreachable", "the server does not answer")
BOTH = (DeployedBuild(NEW, 1, (pod("n", build=NEW.build),)), DeployedBuild(OLD, 2, (pod("o", build=OLD.build),)))


def surveyed(found: Load | LoadUnavailable, *, serving: str | None = NEW.build, deployed: tuple[DeployedBuild, ...] = BOTH) -> PoolBuilds:
    return survey(NEW, ObservedPool(deployed, found, "c", serving), serving=serving)


# The builds.


def test_target_is_first_whether_it_has_a_deployment_or_not() -> None:
    assert [build.name for build in with_target(NEW, BOTH[::-1])] == [NEW.build, OLD.build]
    assert with_target(NEW, BOTH[1:])[0] == DeployedBuild(NEW, 0, ())


@pytest.mark.parametrize(
    ("known", "serving", "retired"),
    [
        pytest.param(None, NEW.build, True, id="the server does not know it"),
        pytest.param(build_load(OLD.build, promoted=False), None, True, id="it never served"),
        pytest.param(build_load(OLD.build, promoted=False, needed=1), None, False, id="it never served, and a run needs it"),
        pytest.param(build_load(OLD.build), NEW.build, True, id="the target serves in its place"),
        pytest.param(build_load(OLD.build), OLD.build, False, id="it serves"),
        pytest.param(build_load(OLD.build, needed=1), NEW.build, False, id="a run needs it"),
        pytest.param(build_load(OLD.build, running=1), NEW.build, False, id="it has a run in hand"),
    ],
)
def test_build_is_retired_when_nothing_is_left_for_it(known: BuildLoad | None, serving: str | None, retired: bool) -> None:
    reading = load(build_load(NEW.build), *([] if known is None else [known]))
    assert is_retired(NEW, OLD.build, reading, serving) is retired
    assert not is_retired(NEW, NEW.build, reading, serving)


def test_builds_that_served_last_are_kept_and_one_that_never_did_is_not() -> None:
    served = [replace(build_load(name), promoted_at=at) for name, at in (("first", 1.0), ("last", 3.0), ("second", 2.0))]
    reading = load(*served, build_load("never", promoted=False))
    retired = frozenset({"first", "second", "last", "never"})
    assert kept_builds(retired, reading, limit=2) == {"last", "second"}
    assert kept_builds(retired - {"last"}, reading, limit=1) == {"second"}
    assert kept_builds(retired, reading, limit=0) == frozenset()


def test_nothing_is_retired_or_forgotten_while_the_load_is_not_known() -> None:
    builds = surveyed(SILENT)
    assert (builds.retired, builds.kept, builds_to_forget(builds)) == (frozenset(), frozenset(), ())


def test_only_builds_without_pods_are_forgotten() -> None:
    spec = replace(NEW, revision_limit=0)
    reading = load(build_load(NEW.build), build_load(OLD.build), build_load("lost"), build_load("needed", needed=1))
    for old, forgotten in ((BOTH[1], ("lost",)), (DeployedBuild(OLD, 0, ()), (OLD.build, "lost")), (DeployedBuild(OLD, 1, ()), ("lost",))):
        builds = survey(spec, ObservedPool((BOTH[0], old), reading, "c", NEW.build), serving=NEW.build)
        assert builds_to_forget(builds) == forgotten


def test_each_build_has_one_word_for_what_it_does() -> None:
    reading = load(build_load(NEW.build), build_load(OLD.build))
    words = [build_state(surveyed(reading), build, replicas=1) for build in BOTH]
    assert words == ["Serving", "Draining"]
    empty = (BOTH[0], DeployedBuild(OLD, 0, ()))
    assert build_state(surveyed(reading, deployed=empty), empty[1], replicas=0) == "Kept"
    assert build_state(surveyed(reading, serving=OLD.build), BOTH[0], replicas=1) == "Starting"
    tried = replace(reading, trial=RolloutTrial(NEW.build, 10))
    assert build_state(surveyed(tried, serving=OLD.build), BOTH[0], replicas=1) == "Trial"


# The sizes.


def test_hours_raise_the_minimum_and_never_lower_it() -> None:
    spec = parse_pool(pool_body(minReplicas=3))
    for minimum, wanted in ((5, 5), (1, 3)):
        hours = MinimumWindow("08:00", "18:00", "UTC", frozenset(), minimum)
        assert scaling_policy(spec, hours).minimum == wanted
    assert scaling_policy(spec, None).minimum == 3


def test_autoscaler_is_told_that_a_demand_is_unknown_and_never_that_it_is_none() -> None:
    inputs = scaling_inputs(surveyed(SILENT), None)
    assert [build.demand for build in inputs.builds] == [UNKNOWN, UNKNOWN]
    assert inputs.rates == LoadRates()
    never_seen = scaling_inputs(surveyed(load()), None)
    assert [build.demand for build in never_seen.builds] == [Demand()]


def test_first_pod_starts_without_the_server_only_where_no_build_ever_served() -> None:
    nothing = (DeployedBuild(NEW, 0, ()),)
    assert scaling_inputs(surveyed(SILENT, serving=None, deployed=nothing), None).builds[0].starting
    assert not scaling_inputs(surveyed(SILENT, serving=NEW.build, deployed=nothing), None).builds[0].starting


def test_new_runs_count_for_the_build_that_serves_until_the_target_takes_over() -> None:
    reading = load(build_load(NEW.build, promoted=False), build_load(OLD.build))
    found = {build.name: build.latest for build in scaling_inputs(surveyed(reading, serving=OLD.build), None).builds}
    assert found == {NEW.build: False, OLD.build: True}


def decided(**sizes: int) -> ScalingDecision:
    return ScalingDecision(tuple(SizeTarget(name, size, size, "because") for name, size in sizes.items()), known=True)


def test_retired_build_is_to_have_no_pods_and_one_that_is_not_decided_keeps_its_own() -> None:
    retired = surveyed(load(build_load(NEW.build), build_load(OLD.build)))
    assert wanted_sizes(retired, decided(**{NEW.build: 4, OLD.build: 9})) == {NEW.build: 4, OLD.build: 0}
    assert wanted_sizes(surveyed(SILENT), decided()) == {NEW.build: 1, OLD.build: 2}


def test_sizes_are_held_without_the_server_but_for_what_a_person_has_set() -> None:
    builds = surveyed(SILENT)
    held = next_steps(builds, {NEW.build: 3, OLD.build: 0}, {"o": 5.0}, 10.0)
    assert {name: step.replicas for name, step in held.items()} == {NEW.build: 3, OLD.build: 2}
    assert held[OLD.build].since == {"o": 5.0}
    fixed = replace(builds, spec=parse_pool(pool_body(image=NEW.image, replicas=0)))
    assert [step.replicas for step in next_steps(fixed, {NEW.build: 0, OLD.build: 0}, {}, 10.0).values()] == [0, 0]


def test_build_shrinks_by_its_own_workers_only() -> None:
    reading = load(build_load(NEW.build), build_load(OLD.build), workers=(worker("n", build=NEW.build), worker("o", build=OLD.build)))
    steps = next_steps(surveyed(reading), {NEW.build: 1, OLD.build: 0}, {}, 10.0)
    assert (steps[NEW.build].drain, steps[OLD.build].drain) == ((), ("w-o",))


# What people and the server are told.


def test_resize_is_told_of_the_deployments_whose_size_changes() -> None:
    builds = surveyed(load(build_load(NEW.build), build_load(OLD.build, needed=1)))
    steps = {NEW.build: DrainStep(3), OLD.build: DrainStep(2)}
    (notice,) = resize_notices(builds, {NEW.build: 1, OLD.build: 2}, steps, decided(**{NEW.build: 3, OLD.build: 2}))
    assert (notice.reason, notice.about) == ("ScaledUp", frozenset({deployment_name(NEW.owner.name, NEW.build)}))
    assert notice.message == f"build {NEW.build}: 1 to 3 pods: because"
    (smaller,) = resize_notices(builds, {NEW.build: 9}, {NEW.build: DrainStep(3)}, decided())
    assert (smaller.reason, smaller.message) == ("ScaledDown", f"build {NEW.build}: 9 to 3 pods: no run needs it any more")


def test_drain_and_promotion_are_told_of_whom_they_concern() -> None:
    (drain,) = drain_notices({"a": DrainStep(1), "b": DrainStep(1, drain=("w1", "w2"))}, decided(b=0))
    assert (drain.reason, drain.about) == ("Draining", frozenset({"w1", "w2"}))
    (promotion,) = promotion_notices("b")
    assert (promotion.reason, promotion.about) == ("Promoted", frozenset({"b"}))
    assert list(promotion_notices(None)) == []
    assert share_name("b", 10) == "b 10%"


def test_size_that_a_limit_has_cut_says_so() -> None:
    cut = ScalingDecision((SizeTarget("a", 2, 5, "queued 50"), SizeTarget("b", 1, 1, "queued 1")), known=True, limit="maxReplicas")
    assert (why("a", cut), why("b", cut)) == ("queued 50, limited by maxReplicas", "queued 1")


@pytest.mark.parametrize(
    ("found", "told"),
    [
        pytest.param(SILENT, None, id="nobody answers"),
        pytest.param(load(), None, id="the server knows"),
        pytest.param(load(versioning=Versioning.PINNED), "ByVersion", id="the server thinks otherwise"),
        pytest.param(replace(load(), kept=False), "ByVersion", id="the server forgets soon"),
    ],
)
def test_versioning_is_told_where_the_server_needs_it(found: Load | LoadUnavailable, told: str | None) -> None:
    assert versioning_to_tell(NEW, found) == told
