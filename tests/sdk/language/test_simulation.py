"""`aiki.testing`: workflows in a unit test, days in milliseconds, with and without crashes."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Literal

import pytest

from aiki import ChildFailed, Event, NonRetryable, Retry, Run, RunCancelled, RunFailed, task, task_context, testing, workflow
from aiki.protocol import Status
from aiki.testing import Simulation, Stuck


@task
async def create(email: str) -> str:
    return f"user {email}"


@task(retry=Retry.exponential(max_attempts=5, base_delay=2))
async def verify(email: str) -> str:
    if task_context().attempt < 3:
        raise OSError("the server is away")
    return task_context().key


@task
def deactivate(user: str) -> None: ...


verified = Event("verified", dict)
onboarding = workflow("onboarding")
parent = workflow("parent")


@onboarding.v("1.0")
async def onboarding_v1(run: Run, email: str) -> bool:
    user = await create.start(run, email)
    await verify.start(run, email)
    run.state["user"] = user
    if not await run.wait(verified, timeout=timedelta(hours=12)):
        await deactivate.start(run, user)
        return False
    await run.sleep(days=1)
    run.log.info("welcome %s", user)
    return True


@parent.v("1")
async def parent_v1(run: Run, emails: list[str]) -> list[bool]:
    children = [onboarding_v1.start(run, email) for email in emails]
    return [await child for child in children]


@pytest.mark.parametrize("crash", [False, True])
async def test_days_pass_in_an_instant(crash: bool) -> None:
    simulation = Simulation(onboarding, crash=crash)
    begin = simulation.now()
    run = simulation.start(onboarding_v1, "ann")
    run.send(verified, {}, after=timedelta(hours=3))
    assert await run.result() is True
    assert simulation.now() - begin == timedelta(hours=27)
    assert run.state == {"user": "user ann"}
    assert [message for _, message, _ in run.logged] == ["welcome user ann"]
    assert run.ran == ['create(email="ann")', *['verify(email="ann")'] * 3]


@pytest.mark.parametrize("crash", [False, True])
async def test_event_that_never_comes_is_a_timeout(crash: bool) -> None:
    fakes: list[str] = []

    def deactivated(user: str) -> None:
        fakes.append(user)

    simulation = Simulation(onboarding, crash=crash, tasks={deactivate: deactivated})
    assert await simulation.start(onboarding_v1, "ann").result() is False
    assert fakes == ["user ann"]


@pytest.mark.parametrize("crash", [False, True])
async def test_children_run_too(crash: bool) -> None:
    simulation = Simulation(parent, onboarding, crash=crash)
    run = simulation.start(parent_v1, ["ann", "bob"])
    assert await run.result() == [False, False]
    assert len(run.children) == 2
    assert all(simulation.runs[child].status is Status.COMPLETED for child in run.children)


racing = workflow("racing")
nested = workflow("nested")


@nested.v("1")
async def nested_v1(run: Run, seen: str) -> None:
    try:
        await run.wait(verified)
    finally:
        await deactivate.start(run, seen)


@racing.v("1")
async def racing_v1(run: Run, policy: Literal["cancel", "abandon"]) -> bool:
    child = nested_v1.start(run, "child", on_parent_close=policy)
    won = await run.first(child=child, expired=run.sleep(60))
    await run.sleep(60)
    return won.name == "expired"


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize(("policy", "expected"), [("cancel", Status.CANCELLED), ("abandon", Status.RUNNING)])
async def test_child_that_is_given_up_is_cancelled_unless_it_is_to_be_abandoned(crash: bool, policy: str, expected: Status) -> None:
    simulation = Simulation(racing, nested, crash=crash)
    run = simulation.start(racing_v1, policy)
    assert await run.result()
    (child,) = (simulation.runs[child] for child in run.children)
    assert child.status is expected
    assert child.ran == ['deactivate(user="child")'] * (expected is Status.CANCELLED)
    assert [entry["k"] for entry in child.history].count("cancel") == (expected is Status.CANCELLED)
    child.close()


@pytest.mark.parametrize(("at_once", "crash"), [(True, False), (True, True), (False, False)])
async def test_child_that_is_given_up_before_it_begins_never_does(at_once: bool, crash: bool) -> None:
    flow = workflow("flow")

    @flow.v("1")
    async def flow_v1(run: Run) -> str:
        child = nested_v1.start(run, "child")
        if at_once:
            child.cancel()
        else:
            await run.first(child=child, quick=create.start(run, "ann"))
        await run.sleep(60)
        return child.id

    simulation = Simulation(flow, nested, crash=crash)
    child = simulation.runs[await simulation.start(flow_v1).result()]
    assert (child.status, child.ran, [entry["k"] for entry in child.history]) == (Status.CANCELLED, [], ["cancelled"])


async def test_children_of_unknown_workflows_are_said() -> None:
    with pytest.raises(Exception, match=r"knows no onboarding 1\.0"):
        await Simulation(parent).start(parent_v1, ["ann"]).result()


async def test_failure_and_cancellation_are_raised() -> None:
    async def declined(email: str) -> str:
        raise NonRetryable("no")

    simulation = Simulation(onboarding, tasks={create: declined})
    with pytest.raises(RunFailed, match="no"):
        await simulation.start(onboarding_v1, "ann").result()
    run = Simulation(onboarding).start(onboarding_v1, "ann")
    run.cancel(after=timedelta(hours=1))
    with pytest.raises(RunCancelled):
        await run.result()


async def test_run_that_waits_for_ever_is_stuck_and_says_on_what() -> None:
    flow = workflow("flow")

    @flow.v("1")
    async def flow_v1(run: Run) -> None:
        await run.wait(verified)

    with pytest.raises(Stuck, match="verified"):
        await Simulation(flow).start(flow_v1).result()


async def test_code_that_is_not_deterministic_shows_when_it_crashes() -> None:
    flow = workflow("flow")

    @flow.v("1")
    async def flow_v1(run: Run) -> None:
        await create.start(run, str(random.random()))
        await create.start(run, "end")

    await Simulation(flow).start(flow_v1).result()
    with pytest.raises(RunFailed, match="diverged at"):
        await Simulation(flow, crash=True).start(flow_v1).result()


async def test_failed_child_reaches_the_parent() -> None:
    async def declined(email: str) -> str:
        raise NonRetryable("no")

    flow = workflow("flow")

    @flow.v("1")
    async def flow_v1(run: Run) -> str:
        try:
            await onboarding_v1.start(run, "ann")
        except ChildFailed as failed:
            return failed.type
        return "?"

    simulation = Simulation(flow, onboarding, tasks={create: declined})
    assert await simulation.start(flow_v1).result() == "TaskFailed"


def test_a_task_that_is_called_as_a_function_has_the_context_that_the_test_gives_it() -> None:
    @task
    def charge(amount: int) -> tuple[str, int]:
        return task_context().key, task_context().attempt

    with testing.task_context(key="k1", attempt=2) as context:
        assert charge(3) == ("k1", 2)
        assert context == task_context()
    with pytest.raises(LookupError, match=r"aiki\.testing\.task_context"):
        charge(3)
