"""What is the matter with a pod, as Kubernetes says it and as a condition says it; and which workers are dead."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiki_operator.names import BUILD_LABEL, DELETION_COST
from aiki_operator.plan.pods import PodProblem, blocking, lacks_pods, not_created, refused, trouble, view, worst
from aiki_operator.plan.pool.dead_workers import SETTLING_SECONDS, Moment, Sighting, dead, update_sightings
from support.operator.objects import container, crash, ended, pod, pod_object, worker

laws = settings(deadline=None, max_examples=60)  # a busy machine breaks no law

STARTED = datetime(2026, 1, 1, 12, tzinfo=UTC)


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


READY = [{"type": "Ready", "status": "True"}]


@pytest.mark.parametrize(
    ("status", "reason", "said", "lasting"),
    [
        pytest.param(container(**waiting("ImagePullBackOff", "not found")), "ImagePullFailed", "onboarding:1: not found", True, id="image"),
        pytest.param(container(**waiting("InvalidImageName")), "ImagePullFailed", "InvalidImageName", True, id="image name"),
        pytest.param(
            container(**waiting("CreateContainerConfigError", 'secret "x" not found')),
            "ContainerNotCreated",
            'secret "x"',
            True,
            id="config",
        ),
        pytest.param(
            container(restarts=2, last=ended(1, message="Traceback\nImportError: no module named flows\n"), **waiting("CrashLoopBackOff")),
            "CrashLoop",
            "has ended 2 times, last with exit code 1 (Error): ImportError: no module named flows; see `kubectl logs --previous`",
            True,
            id="crash loop",
        ),
        pytest.param(
            container(restarts=1, last=ended(137, reason="OOMKilled"), running={}), "CrashLoop", "137 (OOMKilled)", False, id="once"
        ),
        pytest.param(container(restarts=3, last=ended(1), running={}), "CrashLoop", "ended 3 times", True, id="three times"),
        pytest.param(container(terminated=ended(2)), "Crashed", "exit code 2", False, id="just ended"),
    ],
)
def test_trouble_has_a_reason_and_says_what_to_do(status: dict[str, Any], reason: str, said: str, lasting: bool) -> None:
    found = trouble(pod_object("p", containerStatuses=[status]))
    assert found is not None
    assert (found.reason, found.lasting) == (reason, lasting)
    assert said in found.message


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"containerStatuses": None},
        {"containerStatuses": [container(**waiting("ContainerCreating"))]},
        {"containerStatuses": [container(running={})]},
        {"initContainerStatuses": [container("wait", terminated=ended(0))], "containerStatuses": [container(running={})]},
    ],
)
def test_pod_on_its_way_is_no_trouble(status: dict[str, Any]) -> None:
    assert trouble(pod_object("p", **status)) is None


AT = STARTED.timestamp()


def conditioned(**conditions: tuple[str, str]) -> list[dict[str, Any]]:
    """Conditions of a pod that have stood since it was made; by type, a status and a reason."""
    return [
        {"type": name, "status": status, "reason": reason, "lastTransitionTime": STARTED.isoformat()}
        for name, (status, reason) in conditions.items()
    ]


@pytest.mark.parametrize(
    ("seconds", "status", "expected"),
    [
        pytest.param(10, {"conditions": conditioned(PodScheduled=("False", "Unschedulable"))}, ("Unschedulable", False), id="no room"),
        pytest.param(
            300, {"conditions": conditioned(PodScheduled=("False", "Unschedulable"))}, ("Unschedulable", True), id="no room for long"
        ),
        pytest.param(59, {"containerStatuses": [container(**waiting("ContainerCreating"))]}, None, id="on its way"),
        pytest.param(60, {"containerStatuses": [container(**waiting("ContainerCreating"))]}, ("ContainerCreating", False), id="stuck"),
        pytest.param(
            300, {"initContainerStatuses": [container("x", **waiting("PodInitializing"))]}, ("PodInitializing", True), id="stuck for long"
        ),
        pytest.param(60, {"containerStatuses": [container(running={})]}, ("NotReady", False), id="never ready"),
        pytest.param(
            300,
            {"containerStatuses": [container(running={})], "conditions": conditioned(Ready=("False", ""))},
            ("NotReady", True),
            id="never ready for long",
        ),
        pytest.param(999, {"phase": "Failed"}, None, id="ended"),
    ],
)
def test_what_a_pod_waits_for_is_said_and_lasts_after_five_minutes(
    seconds: int, status: dict[str, Any], expected: tuple[str, bool] | None
) -> None:
    found = trouble(pod_object("p", startTime=STARTED.isoformat(), **status), AT + seconds)
    assert (found and (found.reason, found.lasting)) == expected


def test_old_pod_that_has_just_become_unready_is_no_trouble_yet() -> None:
    since = (STARTED + timedelta(hours=1)).isoformat()
    unready = [{"type": "Ready", "status": "False", "lastTransitionTime": since}]
    found = pod_object("p", startTime=STARTED.isoformat(), conditions=unready, containerStatuses=[container(running={})])
    assert trouble(found, AT + 3610) is None


def event(message: str, at: str, uid: str = "u") -> dict[str, Any]:
    return {"metadata": {}, "involvedObject": {"uid": uid}, "message": message, "lastTimestamp": at}


def test_why_there_are_no_pods_is_the_last_word_of_their_controller() -> None:
    body = {"metadata": {"uid": "u"}}
    events = [
        event("older", "2026-01-01T12:00:00Z"),
        event("exceeded quota", "2026-01-01T12:01:00Z"),
        event("other", "2026-01-01T13:00:00Z", "v"),
    ]
    found = not_created(events, body)
    assert (found and (found.reason, found.message, found.lasting)) == ("PodsRefused", "exceeded quota", True)
    assert not_created(events[2:], body) is None


@pytest.mark.parametrize(
    ("kind", "body", "lacks"),
    [
        ("Job", {}, True),
        ("Job", {"status": {"active": 1}}, False),
        ("Job", {"spec": {"suspend": True}}, False),
        ("Job", {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}, False),
        ("StatefulSet", {"spec": {"replicas": 1}}, True),
        ("StatefulSet", {"spec": {"replicas": 0}}, False),
        ("StatefulSet", {"status": {"readyReplicas": 1}}, False),
        ("Deployment", {}, False),
    ],
)
def test_only_what_ought_to_have_pods_is_asked_why_it_has_none(kind: str, body: dict[str, Any], lacks: bool) -> None:
    assert lacks_pods(kind, body) is lacks


def test_init_container_that_ended_well_at_last_is_no_trouble() -> None:
    done = {**container("wait", restarts=4, last=ended(1), terminated=ended(0, reason="Completed")), "ready": True}
    assert trouble(pod_object("p", initContainerStatuses=[done], containerStatuses=[container(running={})])) is None
    looping = {**container("wait", restarts=4, last=ended(1), **waiting("CrashLoopBackOff")), "ready": False}
    found = trouble(pod_object("p", initContainerStatuses=[looping]))
    assert found is not None
    assert found.lasting


def test_pod_without_a_node_waits_for_room() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}
    assert trouble(pod_object("p", phase="Pending", conditions=[condition])) == PodProblem(
        "Unschedulable", "0/3 nodes are available", lasting=False
    )


def test_a_pod_is_read_off_its_status() -> None:
    body = pod_object("p", build="b1", conditions=READY, containerStatuses=[container(restarts=9, last=ended(1), running={})])
    body["metadata"]["annotations"] = {DELETION_COST: "-1000"}
    assert view(body, build_label=BUILD_LABEL, cost_annotation=DELETION_COST) == pod("p", build="b1", cost="-1000")
    body["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert view(body, build_label=BUILD_LABEL, cost_annotation=DELETION_COST).leaving
    over = view(pod_object("p", phase="Failed"), build_label=BUILD_LABEL, cost_annotation=DELETION_COST)
    assert (over.ended, over.ready) == (True, False)


def test_lasting_trouble_is_shown_before_a_passing_one() -> None:
    passing, lasting = crash("Unschedulable", lasting=False), crash("CrashLoop")
    members = [pod("a", ready=False, trouble=passing), pod("b", ready=False, trouble=lasting), pod("c")]
    assert worst(members) == lasting
    assert worst(members[:1]) == passing
    assert worst([pod("d", leaving=True, trouble=lasting)]) is None


def workload(*conditions: dict[str, Any]) -> dict[str, Any]:
    return {"status": {"conditions": list(conditions)}}


def test_deployment_that_may_not_make_pods_says_why() -> None:
    refusal = {"type": "ReplicaFailure", "status": "True", "message": "violates PodSecurity restricted"}
    assert refused(workload(refusal)) == PodProblem("PodsRefused", "violates PodSecurity restricted", lasting=True)
    assert refused(workload({**refusal, "status": "False"})) is None
    assert refused(None) is None
    assert refused({"status": {}}) is None


def test_deployment_whose_pods_never_get_ready_is_given_up_waiting_for() -> None:
    overdue = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "has timed out progressing."}
    found = refused(workload(overdue))
    assert found is not None
    assert (found.reason, found.lasting) == ("NeverReady", True)
    refusal = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
    assert refused(workload(overdue, refusal)) == PodProblem("PodsRefused", "exceeded quota", lasting=True)
    assert refused(workload({**overdue, "status": "True", "reason": "NewReplicaSetAvailable"})) is None


def test_what_blocks_a_deployment_is_said_by_its_pods_where_they_know_best() -> None:
    never = PodProblem("NeverReady", "its pods do not get ready", lasting=True)
    stuck, passing = (
        pod("a", ready=False, trouble=crash()),
        pod("b", ready=False, trouble=PodProblem("Unschedulable", "no node", lasting=False)),
    )
    assert blocking(never, [stuck, passing]) == crash()
    assert blocking(never, [passing]) == PodProblem("NeverReady", "its pods do not get ready: no node", lasting=True)
    assert blocking(never, []) == never
    assert blocking(None, [passing]) == passing.trouble
    assert blocking(None, [pod("c")]) is None


# ---- dead workers


def running(*, restarts: int = 0, skew: float = 0.0) -> dict[str, Any]:
    """A running container, by the clock of a node that is `skew` seconds ahead."""
    started = STARTED + timedelta(seconds=skew)
    return container(restarts=restarts, running={"startedAt": started.isoformat().replace("+00:00", "Z")})


def moment(seconds: float) -> Moment:
    """Some seconds after the first start."""
    return Moment(seconds, (STARTED + timedelta(seconds=seconds)).timestamp())


KNOWN = {"w-p": Sighting(restarts=0, at=0.0)}
"""A worker that was seen when its container ran for the first time."""


@pytest.mark.parametrize(
    ("status", "why"),
    [
        pytest.param({"phase": "Failed", "reason": "Evicted"}, "its pod has ended: Evicted", id="evicted"),
        pytest.param({"phase": "Succeeded"}, "its pod has ended: Succeeded", id="ended"),
        pytest.param({"containerStatuses": [container(terminated=ended(137))]}, "its container has ended", id="killed"),
        pytest.param(
            {"containerStatuses": [container(restarts=1, **waiting("CrashLoopBackOff"))]}, "its container has ended", id="backing off"
        ),
        pytest.param({"containerStatuses": [running(restarts=1)]}, "its container was started anew", id="started anew"),
    ],
)
def test_worker_dies_with_its_container(status: dict[str, Any], why: str) -> None:
    found = dead([worker("p")], {"p": pod_object("p", **status)}, KNOWN, moment(100.0))
    assert [(one.worker, one.why) for one in found] == [("w-p", why)]


def test_worker_whose_pod_is_gone_is_dead_and_the_pod_is_to_be_asked_for() -> None:
    assert [(one.worker, one.pod) for one in dead([worker("p")], {}, {}, moment(0.0))] == [("w-p", "p")]


@pytest.mark.parametrize(
    "status",
    [
        {"phase": "Pending"},
        {"containerStatuses": [container(**waiting("ContainerCreating"))]},
        {"containerStatuses": [running()]},
        {"containerStatuses": [{**running(restarts=3), "name": "sidecar"}]},
    ],
)
def test_worker_of_a_pod_that_lives_is_not_dead(status: dict[str, Any]) -> None:
    assert dead([worker("p")], {"p": pod_object("p", **status)}, KNOWN, moment(100.0)) == []


def test_worker_outside_the_cluster_is_none_of_our_business() -> None:
    assert dead([worker(None)], {}, {}, moment(0.0)) == []


@laws
@given(
    st.lists(st.tuples(st.floats(2, 30), st.floats(0, SETTLING_SECONDS - 1.1)), min_size=1, max_size=4),
    st.floats(-3600, 3600),
    st.booleans(),
)
def test_new_worker_is_never_taken_for_the_dead_one(lives: list[tuple[float, float]], skew: float, late: bool) -> None:
    """Each container's worker registers a second after its start. Either Kubernetes' word is late, or the node's clock is wrong."""
    begins = [sum(seconds + 1 for seconds, _ in lives[:number]) for number in range(len(lives))]
    known: dict[str, Sighting] = {}
    at = 1.0
    while at < begins[-1] + lives[-1][0]:
        registered = [number for number, begin in enumerate(begins) if begin + 1 <= at]
        told = max([number for number, begin in enumerate(begins) if begin + (lives[number][1] if late else 0) <= at], default=0)
        status = running(restarts=told, skew=begins[told] + (0 if late else skew))
        body = pod_object("p", containerStatuses=[status])
        workers = [replace(worker("p", age=at - begins[number] - 1), id=f"w{number}") for number in registered]
        known = update_sightings(workers, {"p": body}, known, moment(at))
        assert f"w{registered[-1]}" not in [one.worker for one in dead(workers, {"p": body}, known, moment(at))] or registered[-1] < told
        at += 1.0


@pytest.mark.parametrize(("lived", "skew"), [(3, 0.0), (30, -3600.0), (30, 3600.0)])
@pytest.mark.parametrize("again", [True, False])
def test_worker_is_dead_as_soon_as_its_container_is_known_to_have_ended(lived: int, skew: float, again: bool) -> None:
    """Within seconds of its start where the clocks are right; whatever they are where it was seen for longer."""
    known: dict[str, Sighting] = {}
    for at in range(lived):
        body = pod_object("p", containerStatuses=[running(skew=skew)])
        known = update_sightings([worker("p", age=at)], {"p": body}, known, moment(at))
        assert dead([worker("p", age=at)], {"p": body}, known, moment(at)) == []
    end = (STARTED + timedelta(seconds=lived + skew)).isoformat()
    status = running(restarts=1, skew=lived + skew) if again else container(terminated={**ended(137), "finishedAt": end})
    body = pod_object("p", containerStatuses=[status])
    known = update_sightings([worker("p", age=lived + 0.1)], {"p": body}, known, moment(lived + 0.1))
    assert [one.worker for one in dead([worker("p", age=lived + 0.1)], {"p": body}, known, moment(lived + 0.1))] == ["w-p"]
