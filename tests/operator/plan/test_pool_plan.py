"""What a pool needs: builds that start, take over, drain and go, and what people are told meanwhile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aiki_operator.manifests.worker import deployment
from aiki_operator.names import CONFIG
from aiki_operator.plan.difference import marked
from aiki_operator.plan.pods import Pod, PodProblem
from aiki_operator.plan.pool.plan import PoolMemory, PoolPlan, plan
from aiki_operator.plan.pool.state import DeployedBuild, LoadUnavailable, ObservedPool
from aiki_operator.scaling.autoscale import LoadRates
from aiki_operator.scaling.load import EMPTY_LOAD, Load, UnservedKind
from aiki_operator.spec.pool import PoolSpec, Versioning, parse_pool
from support.operator.objects import build_load, crash, load, pod, pool_body, worker

NOW = 1000.0
NEW, OLD = parse_pool(pool_body(image="example.com/onboarding:2")), parse_pool(pool_body(image="example.com/onboarding:1"))
SILENT = LoadUnavailable(30, "ServerUnreachable", "the server does not answer")


def deployed(spec: PoolSpec, replicas: int = 0, *pods: Pod, refused: PodProblem | None = None) -> DeployedBuild:
    return DeployedBuild(spec, replicas, pods, refused)


def planned(
    *builds: DeployedBuild,
    load: Load | LoadUnavailable = EMPTY_LOAD,
    spec: PoolSpec = NEW,
    serving: str | None = None,
    config: str | None = "c",
    **memory: Any,
) -> PoolPlan:
    return plan(spec, ObservedPool(builds, load, config, serving), PoolMemory(**memory), NOW)[0]


def sizes(found: PoolPlan) -> dict[str, int]:
    return {manifest["metadata"]["labels"]["aiki.dev/build"]: manifest["spec"]["replicas"] for manifest in found.apply}


def conditions(found: PoolPlan) -> dict[str, tuple[str, str]]:
    return {one.type: (one.word, one.reason) for one in found.conditions}


def states(found: PoolPlan) -> dict[str, str]:
    return {build["name"]: build["state"] for build in found.builds}


def ready_pod(spec: PoolSpec, name: str) -> Pod:
    return pod(name, build=spec.build)


# ---- the first build ----------------------------------------------------------------------------------------------


def test_new_pool_gets_one_pod_to_learn_what_it_carries() -> None:
    found = planned()
    assert found.apply == (marked(deployment(NEW, replicas=1, config="c")),)
    assert (found.promote, found.serving, states(found)) == (None, None, {NEW.build: "Starting"})
    told = conditions(found)
    assert (told["RolloutComplete"], told["WorkersRegistered"]) == (("False", "Starting"), ("False", "NotRegistered"))
    assert [notice.reason for notice in found.notices] == ["ScaledUp"]


def test_nothing_starts_before_the_client_secret_is_there() -> None:
    found = planned(config=None, load=LoadUnavailable(0, "ServerNotReady", "no client Secret yet"))
    assert (found.apply, found.notices) == ((), ())


def test_ready_is_not_enough_and_registered_is_not_enough() -> None:
    build = deployed(NEW, 1, ready_pod(NEW, "p"))
    unpromoted = build_load(NEW.build, promoted=False)
    assert planned(build, load=load()).promote is None
    assert planned(build, load=load(unpromoted)).promote is None
    starting = deployed(NEW, 1, pod("p", build=NEW.build, ready=False))
    assert planned(starting, load=load(unpromoted, workers=(worker("p", build=NEW.build),))).promote is None
    leaving = deployed(NEW, 1, pod("p", build=NEW.build, leaving=True))
    assert planned(leaving, load=load(unpromoted, workers=(worker("p", build=NEW.build),))).promote is None
    other = load(unpromoted, workers=(worker("elsewhere", build=NEW.build),))
    assert planned(build, load=other).promote is None


def test_ready_and_registered_build_takes_over() -> None:
    found = planned(
        deployed(NEW, 1, ready_pod(NEW, "p")), load=load(build_load(NEW.build, promoted=False), workers=(worker("p", build=NEW.build),))
    )
    assert (found.promote, found.serving, states(found)) == (NEW.build, NEW.build, {NEW.build: "Serving"})
    assert conditions(found)["Ready"] == ("True", "Ready")
    assert "Promoted" in [notice.reason for notice in found.notices]


def test_promoted_build_is_not_promoted_again() -> None:
    reading = load(build_load(NEW.build), workers=(worker("p", build=NEW.build),))
    assert planned(deployed(NEW, 1, ready_pod(NEW, "p")), load=reading, serving=NEW.build).promote is None


def test_promotion_that_the_status_missed_is_done_again() -> None:
    """Killed between the server's answer and the status: doing it twice is harmless, not doing it is not."""
    reading = load(build_load(NEW.build), workers=(worker("p", build=NEW.build),))
    assert planned(deployed(NEW, 1, ready_pod(NEW, "p")), load=reading, serving=None).promote == NEW.build


# ---- one build after another --------------------------------------------------------------------------------------

BOTH = (deployed(NEW, 1, ready_pod(NEW, "n")), deployed(OLD, 2, ready_pod(OLD, "o1"), ready_pod(OLD, "o2")))
WORKERS = (worker("n", build=NEW.build), worker("o1", build=OLD.build), worker("o2", build=OLD.build))


def test_new_build_starts_beside_the_old_one() -> None:
    found = planned(
        deployed(OLD, 2, ready_pod(OLD, "o1"), ready_pod(OLD, "o2")),
        load=load(build_load(OLD.build, running=12, busy_workers=2)),
        serving=OLD.build,
    )
    assert sizes(found) == {NEW.build: 1, OLD.build: 2}
    assert states(found) == {NEW.build: "Starting", OLD.build: "Serving"}
    assert conditions(found)["Reconciling"] == ("True", "Starting")


def test_until_it_serves_the_new_build_gets_no_load_and_no_minimum() -> None:
    spec = parse_pool(pool_body(image=NEW.image, minReplicas=3))
    reading = load(build_load(OLD.build, queued=100), rates=LoadRates(50.0, 1.0))
    found = planned(deployed(OLD, 3, *(ready_pod(OLD, f"o{number}") for number in range(3))), load=reading, spec=spec, serving=OLD.build)
    assert sizes(found)[NEW.build] == 1
    assert sizes(found)[OLD.build] >= 3


def test_old_build_keeps_pods_for_what_it_alone_carries() -> None:
    reading = load(build_load(NEW.build), build_load(OLD.build, needed=3, running=3, busy_workers=1), workers=WORKERS)
    found = planned(*BOTH, load=reading, serving=NEW.build)
    assert found.forget == ()
    assert states(found) == {NEW.build: "Serving", OLD.build: "Draining"}
    assert next(build for build in found.builds if build["name"] == OLD.build)["openRuns"] == 3
    assert sizes(found)[OLD.build] >= 1


def test_old_build_holds_zero_pods_while_its_runs_sleep_and_wakes_before_their_timer() -> None:
    asleep = deployed(OLD, 0)
    serving = deployed(NEW, 1, ready_pod(NEW, "n"))
    sleeping = load(build_load(NEW.build), build_load(OLD.build, needed=1, due=(NOW + 3600,)), workers=WORKERS[:1])
    found = planned(serving, asleep, load=sleeping, serving=NEW.build)
    assert (sizes(found)[OLD.build], found.forget) == (0, ())
    due = load(build_load(NEW.build), build_load(OLD.build, needed=1, due=(NOW + 15,)), workers=WORKERS[:1])
    assert sizes(planned(serving, asleep, load=due, serving=NEW.build))[OLD.build] == 1


def test_timers_of_the_pool_wake_the_latest_build_unless_runs_are_pinned() -> None:
    spec = parse_pool(pool_body(image=NEW.image, versioning="Pinned"))
    due = load(build_load(NEW.build), due=(NOW + 5,))
    pinned = load(build_load(NEW.build), due=(NOW + 5,), versioning=Versioning.PINNED)
    assert sizes(planned(deployed(NEW), load=due, serving=NEW.build)) == {NEW.build: 1}
    assert sizes(planned(deployed(NEW), load=pinned, spec=spec, serving=NEW.build)) == {NEW.build: 0}


def test_old_build_drains_when_its_last_run_ends_and_goes_when_its_pods_are_gone() -> None:
    reading = load(build_load(NEW.build), build_load(OLD.build), workers=WORKERS)
    draining = planned(*BOTH, load=reading, serving=NEW.build)
    assert set(draining.drain) == {"w-o1", "w-o2"}
    assert (sizes(draining)[OLD.build], draining.forget) == (2, ())
    drained = load(
        build_load(NEW.build),
        build_load(OLD.build),
        workers=(WORKERS[0], *(worker(p, build=OLD.build, draining=True) for p in ("o1", "o2"))),
    )
    empty = planned(*BOTH, load=drained, serving=NEW.build)
    assert (sizes(empty)[OLD.build], set(empty.mark), empty.forget) == (0, {"o1", "o2"}, ())
    leaving = planned(BOTH[0], deployed(OLD, 0, pod("o1", build=OLD.build, leaving=True)), load=drained, serving=NEW.build)
    assert leaving.forget == ()
    gone = BOTH[0], deployed(OLD, 0)
    assert planned(*gone, load=drained, serving=NEW.build, spec=replace(NEW, revision_limit=0)).forget == (OLD.build,)
    kept = planned(*gone, load=drained, serving=NEW.build)
    assert (kept.forget, states(kept)) == ((), {NEW.build: "Serving", OLD.build: "Kept"})


def test_pinned_runs_keep_their_build() -> None:
    """The server counts them as needing it; the plan asks nothing else."""
    spec = parse_pool(pool_body(image=NEW.image, versioning="Pinned"))
    reading = load(build_load(NEW.build), build_load(OLD.build, needed=2), workers=WORKERS, versioning=Versioning.PINNED)
    found = planned(BOTH[0], deployed(OLD, 0), load=reading, spec=spec, serving=NEW.build)
    assert (found.forget, found.versioning, sizes(found)[OLD.build]) == ((), None, 0)


def test_server_is_told_how_builds_share_runs_only_where_it_thinks_otherwise() -> None:
    spec = parse_pool(pool_body(image=NEW.image, versioning="Pinned"))
    assert planned(load=load(), spec=spec).versioning == "Pinned"
    assert planned(load=load(versioning=Versioning.PINNED)).versioning == "ByVersion"
    assert planned(load=load()).versioning is None
    assert planned(load=replace(load(), kept=False)).versioning == "ByVersion"  # said again: the server forgets what nobody keeps
    assert planned(load=SILENT, spec=spec).versioning is None


def test_build_that_came_back_is_promoted_again() -> None:
    reading = load(build_load(OLD.build), build_load(NEW.build), workers=WORKERS)
    found = planned(*BOTH, load=reading, spec=OLD, serving=NEW.build)
    assert (found.promote, found.serving) == (OLD.build, OLD.build)


def test_build_without_a_deployment_is_forgotten_once_it_is_idle() -> None:
    lost = load(build_load(NEW.build), build_load("gone"), build_load("needed", needed=1), workers=WORKERS)
    assert planned(BOTH[0], load=lost, serving=NEW.build).forget == ("gone",)


def test_server_that_has_forgotten_the_build_gets_a_pod_to_learn_it_again() -> None:
    """A new database behind the server: a pool at zero would stay unknown to it, and so at zero, for ever."""
    found = planned(deployed(NEW, 0), load=EMPTY_LOAD, serving=NEW.build)
    assert sizes(found) == {NEW.build: 1}
    back = load(build_load(NEW.build, promoted=False), workers=(worker("n", build=NEW.build),))
    assert planned(BOTH[0], load=back, serving=NEW.build).promote == NEW.build


# ---- builds that are broken ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (deployed(NEW, 1, pod("n", build=NEW.build, ready=False, trouble=crash("CrashLoop"))), "CrashLoop"),
        (deployed(NEW, 1, pod("n", build=NEW.build, ready=False, trouble=crash("ImagePullFailed"))), "ImagePullFailed"),
        (deployed(NEW, 1, refused=PodProblem("PodsRefused", "exceeded quota", lasting=True)), "PodsRefused"),
        (deployed(NEW, 1, pod("n", build=NEW.build, ready=False), refused=PodProblem("NeverReady", "late", lasting=True)), "NeverReady"),
    ],
)
def test_broken_build_stalls_with_a_reason_and_takes_nothing(build: DeployedBuild, reason: str) -> None:
    busy = load(build_load(OLD.build, running=15, busy_workers=2, queued=2), workers=WORKERS[1:])
    found = planned(build, BOTH[1], load=busy, serving=OLD.build)
    assert (found.promote, found.serving, found.forget, found.drain) == (None, OLD.build, (), ())
    assert sizes(found) == {NEW.build: 1, OLD.build: 2}
    told = conditions(found)
    assert (told["Ready"], told["Stalled"], told["RolloutComplete"]) == (("False", reason), ("True", reason), ("False", reason))
    message = next(one.message for one in found.conditions if one.type == "Stalled")
    assert NEW.image in message
    assert f"build {OLD.build} goes on serving" in message


def test_passing_trouble_is_told_but_does_not_stall() -> None:
    passing = crash("Unschedulable", lasting=False)
    told = conditions(planned(deployed(NEW, 1, pod("n", build=NEW.build, ready=False, trouble=passing)), load=load()))
    assert (told["Reconciling"], told["Stalled"][0]) == (("True", "Unschedulable"), "False")


NO_ROOM = crash("Unschedulable", lasting=False)


@pytest.mark.parametrize(
    ("members", "wanted", "ready", "told"),
    [
        pytest.param((ready_pod(NEW, "a"), ready_pod(NEW, "b")), 2, ("True", "Ready"), ("True", "AllReady"), id="all is well"),
        pytest.param((), 0, ("True", "Ready"), ("True", "NoneWanted"), id="nothing is wanted"),
        pytest.param(
            (ready_pod(NEW, "a"), pod("b", build=NEW.build, ready=False)), 2, ("True", "Ready"), ("False", "Starting"), id="one starts"
        ),
        pytest.param(
            (ready_pod(NEW, "a"), pod("b", build=NEW.build, ready=False, trouble=NO_ROOM)),
            2,
            ("False", "Unschedulable"),
            ("False", "Unschedulable"),
            id="no room for one",
        ),
        pytest.param(
            (pod("b", build=NEW.build, ready=False, trouble=NO_ROOM),),
            1,
            ("False", "Unschedulable"),
            ("False", "Unschedulable"),
            id="no room at all",
        ),
        pytest.param(
            (ready_pod(NEW, "a"), pod("b", build=NEW.build, ready=False, trouble=crash(lasting=False))),
            2,
            ("True", "Ready"),
            ("False", "Starting"),
            id="one is started again",
        ),
        pytest.param(
            (pod("b", build=NEW.build, ready=False, trouble=crash(lasting=False)),),
            1,
            ("False", "CrashLoop"),
            ("False", "CrashLoop"),
            id="the only one is started again",
        ),
        pytest.param(
            (ready_pod(NEW, "a"), pod("b", build=NEW.build, ready=False, trouble=crash("ImagePullFailed"))),
            2,
            ("False", "ImagePullFailed"),
            ("False", "ImagePullFailed"),
            id="the image went",
        ),
    ],
)
def test_conditions_say_what_the_pods_of_a_promoted_build_lack(
    members: tuple[Pod, ...], wanted: int, ready: tuple[str, str], told: tuple[str, str]
) -> None:
    spec = parse_pool(pool_body(image=NEW.image, replicas=wanted))
    reading = load(build_load(NEW.build), workers=tuple(worker(one.name, build=NEW.build) for one in members if one.ready))
    found = conditions(planned(deployed(NEW, wanted, *members), load=reading, spec=spec, serving=NEW.build))
    assert (found["Ready"], found["PodsReady"]) == (ready, told)


def test_pods_of_an_old_build_that_has_runs_to_end_count_too() -> None:
    reading = load(build_load(NEW.build), build_load(OLD.build, needed=1, queued=1), workers=WORKERS[:1])
    old = deployed(OLD, 1, pod("o", build=OLD.build, ready=False, trouble=crash("ImagePullFailed")))
    told = conditions(planned(BOTH[0], old, load=reading, serving=NEW.build))
    assert (told["RolloutComplete"], told["PodsReady"], told["Stalled"]) == (
        ("True", "Serving"), ("False", "ImagePullFailed"), ("True", "ImagePullFailed"),
    )  # fmt: skip
    idle = load(build_load(NEW.build), build_load(OLD.build), workers=WORKERS[:1])
    assert conditions(planned(BOTH[0], old, load=idle, serving=NEW.build))["Ready"] == ("True", "Ready")


def test_quota_that_stops_a_promoted_build_is_told() -> None:
    refused = PodProblem("PodsRefused", "exceeded quota", lasting=True)
    reading = load(build_load(NEW.build, running=9, busy_workers=1, queued=40), rates=LoadRates(0.0, 60.0), workers=WORKERS[:1])
    told = conditions(planned(deployed(NEW, 4, ready_pod(NEW, "n"), refused=refused), load=reading, serving=NEW.build))
    assert told["Stalled"] == ("True", "PodsRefused")


def test_broken_build_that_the_spec_gave_up_goes() -> None:
    broken = parse_pool(pool_body(image="example.com/onboarding:broken"))
    member = pod("x", build=broken.build, ready=False, trouble=crash())
    reading = load(build_load(OLD.build), workers=WORKERS[1:])
    found = planned(deployed(broken, 1, member), BOTH[1], load=reading, spec=OLD, serving=OLD.build)
    assert (sizes(found)[broken.build], found.mark, found.forget) == (0, ("x",), ())
    assert conditions(found)["Ready"] == ("True", "Ready")
    assert planned(deployed(broken, 0), BOTH[1], load=reading, spec=OLD, serving=OLD.build).forget == (broken.build,)


# ---- runs that nobody serves --------------------------------------------------------------------------------------


def unserved(seconds: float, *, servable: bool = False, build: str | None = None) -> UnservedKind:
    return UnservedKind("signup", "1.0", build, 3, seconds, servable)


@pytest.mark.parametrize(
    ("found", "spec", "told", "ready"),
    [
        pytest.param((), {}, ("True", "AllServed"), "True", id="none"),
        pytest.param((unserved(9),), {}, ("True", "AllServed"), "True", id="a build may register yet"),
        pytest.param((unserved(10),), {}, ("False", "NoWorkerServes"), "False", id="nobody carries it"),
        pytest.param((unserved(10, build="old"),), {}, ("False", "NoWorkerServes"), "False", id="its build cannot"),
        pytest.param(
            (unserved(10, build="gone", servable=True),), {}, ("False", "NoWorkerServes"), "False", id="its build has no Deployment"
        ),
        pytest.param((unserved(59, servable=True),), {}, ("True", "AllServed"), "True", id="its pod starts"),
        pytest.param((unserved(60, servable=True),), {}, ("False", "WorkersGone"), "False", id="its pod does not start"),
        pytest.param((unserved(60, servable=True, build=NEW.build),), {}, ("False", "WorkersGone"), "False", id="nor on its build"),
        pytest.param((unserved(60, servable=True),), {"replicas": 0}, ("False", "Paused"), "True", id="paused"),
    ],
)
def test_runs_that_nobody_reads_are_a_condition(
    found: tuple[UnservedKind, ...], spec: dict[str, Any], told: tuple[str, str], ready: str
) -> None:
    reading = replace(load(build_load(NEW.build), workers=WORKERS[:1]), unserved=found)
    made = planned(BOTH[0], load=reading, spec=parse_pool(pool_body(image=NEW.image, **spec)), serving=NEW.build)
    assert (conditions(made)["RunsServed"], conditions(made)["Ready"][0]) == (told, ready)
    if told[1] == "NoWorkerServes":
        assert conditions(made)["Stalled"] == ("True", "NoWorkerServes")
        assert "3 of signup 1.0" in made.conditions[0].message


# ---- what is not known --------------------------------------------------------------------------------------------


def test_silent_server_changes_no_size() -> None:
    found = planned(*BOTH, load=SILENT, serving=NEW.build)
    assert sizes(found) == {NEW.build: 1, OLD.build: 2}
    assert (found.promote, found.forget, found.drain, found.undrain, found.notices) == (None, (), (), (), ())
    told = conditions(found)
    assert (told["ServerReachable"], told["ScalingActive"]) == (("False", "ServerUnreachable"), ("False", "LoadUnknown"))
    assert (told["WorkersRegistered"], told["Ready"]) == (("Unknown", "ServerUnreachable"), ("False", "ServerUnreachable"))


def test_short_silence_is_not_reported_but_holds_the_size_all_the_same() -> None:
    found = planned(*BOTH, load=LoadUnavailable(9, "ServerUnreachable", "no answer"), serving=NEW.build)
    assert sizes(found) == {NEW.build: 1, OLD.build: 2}
    told = conditions(found)
    assert (told["ServerReachable"], told["Ready"], told["ScalingActive"]) == (
        ("True", "Answering"),
        ("True", "Ready"),
        ("False", "LoadUnknown"),
    )


def test_missing_server_stalls_at_once() -> None:
    told = conditions(planned(config=None, load=LoadUnavailable(0, "ServerNotFound", "there is no AikiServer", lasting=True)))
    assert (told["Stalled"], told["Ready"]) == (("True", "ServerNotFound"), ("False", "ServerNotFound"))


def test_silent_redis_holds_and_says_so() -> None:
    reading = load(build_load(NEW.build), complete=False, workers=WORKERS[:1])
    found = planned(BOTH[0], load=reading, serving=NEW.build)
    assert sizes(found) == {NEW.build: 1}
    assert conditions(found)["ScalingActive"] == ("False", "RedisUnavailable")


def test_drain_that_had_begun_is_remembered_through_silence() -> None:
    _, memory = plan(NEW, ObservedPool(BOTH, SILENT, "c", NEW.build), PoolMemory(draining={"o1": 900.0}), NOW)
    assert memory.draining == {"o1": 900.0}


# ---- sizes that people set ----------------------------------------------------------------------------------------


def test_fixed_size_is_followed_and_says_how_to_undo_it() -> None:
    spec = parse_pool(pool_body(image=NEW.image, replicas=4))
    found = planned(BOTH[0], load=load(build_load(NEW.build), workers=WORKERS[:1]), spec=spec, serving=NEW.build)
    assert sizes(found) == {NEW.build: 4}
    scaling = next(one for one in found.conditions if one.type == "ScalingActive")
    assert (scaling.word, scaling.reason) == ("False", "FixedSize")
    assert """kubectl patch aikiworkerpool onboarding --type=merge -p '{"spec":{"replicas":null}}'""" in scaling.message


def test_fixed_zero_is_followed_even_without_the_server() -> None:
    spec = parse_pool(pool_body(image=NEW.image, replicas=0))
    assert sizes(planned(*BOTH, load=SILENT, spec=spec, serving=NEW.build)) == {NEW.build: 0, OLD.build: 0}


@pytest.mark.parametrize(
    ("limits", "queued", "reason"),
    [({"maxReplicas": 2}, 100, "MaxReplicas"), ({"minReplicas": 2}, 0, "MinReplicas"), ({}, 1, "WithinLimits")],
)
def test_limits_are_named(limits: dict[str, Any], queued: int, reason: str) -> None:
    spec = parse_pool(pool_body(image=NEW.image, **limits))
    reading = load(build_load(NEW.build, queued=queued), rates=LoadRates(), workers=WORKERS[:1])
    assert conditions(planned(BOTH[0], load=reading, spec=spec, serving=NEW.build))["ScalingLimited"][1] == reason


# ---- what is written ----------------------------------------------------------------------------------------------


def test_changed_secret_rolls_the_pods_of_every_build() -> None:
    found = planned(*BOTH, load=load(build_load(NEW.build), build_load(OLD.build, needed=1)), serving=NEW.build, config="changed")
    assert [one["spec"]["template"]["metadata"]["annotations"][CONFIG] for one in found.apply] == ["changed", "changed"]


def test_every_change_is_an_event_with_its_numbers() -> None:
    reading = load(build_load(NEW.build, queued=400), rates=LoadRates(0.0, 2.0), workers=WORKERS[:1])
    found = planned(deployed(NEW, 0), load=reading, serving=NEW.build)
    assert [(one.reason, one.warning) for one in found.notices] == [("ScaledUp", False)]
    assert f"build {NEW.build}: 0 to 3 pods: queued 400, running 0" in found.notices[0].message
    cut = planned(deployed(NEW, 0), load=reading, spec=parse_pool(pool_body(image=NEW.image, maxReplicas=1)), serving=NEW.build)
    assert cut.notices[0].message.endswith("limited by maxReplicas")
