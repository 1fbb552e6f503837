"""What a call is before anybody has run it, what becomes of it when it is given up, and by which name its failure goes."""

from __future__ import annotations

import pytest

from aiki import Run, TaskFailed, task, workflow
from aiki.errors import ChildCancelled, ChildFailed
from aiki.execution.calls.call import Call
from aiki.execution.outcome import TaskAttempt
from aiki.protocol import ErrorInfo, Status
from support.sdk.driver import RUN_ID, Driver


@task
async def charge(amount: int, currency: str) -> None: ...


@workflow("sub").v("1.0")
async def sub(run: Run, value: int) -> None: ...


def test_a_call_that_was_never_reserved_can_be_given_up() -> None:
    Call("task:charge").cancel()


def test_a_call_is_given_up_while_it_is_open_only() -> None:
    dropped: list[Call] = []
    call = Call("task:charge")
    call.on_cancel = dropped.append
    call.cancel()
    call.open = False
    call.cancel()
    assert dropped == [call]


def test_the_first_attempt_of_a_task_is_due_at_once() -> None:
    async def code(run: Run) -> None:
        await charge.start(run, 5, "EUR")

    execution = Driver(workflow("flow").v("1.0")(code)).execution
    assert execution.next_due() is None
    arguments = {"amount": 5, "currency": "EUR"}
    label = 'charge(amount=5, currency="EUR")'
    assert execution.take_tasks() == [TaskAttempt(0, charge, (), arguments, attempt=1, not_before=None, key=f"{RUN_ID}-0", label=label)]


def test_a_task_that_no_worker_took_is_neither_cancelled_nor_handed_back() -> None:
    async def code(run: Run) -> None:
        charge.start(run, 5, "EUR").cancel()
        await charge.start(run, 6, "EUR")

    execution = Driver(workflow("flow").v("1.0")(code)).execution
    execution.task_abandoned(1)
    assert execution.cancelled_tasks() == []
    assert [attempt.call for attempt in execution.take_tasks()] == [1]


def test_the_failure_of_a_task_names_it_with_its_arguments() -> None:
    async def code(run: Run) -> list[str]:
        try:
            await charge.start(run, 5, "EUR")
        except TaskFailed as failed:
            return [failed.label, str(failed)]
        return []

    driver = Driver(workflow("flow").v("1.0")(code))
    driver.pass_time({"charge": ValueError("no money")})
    label = 'charge(amount=5, currency="EUR")'
    assert driver.output == [label, f"{label} failed: ValueError: no money"]


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [(Status.FAILED, ChildFailed, "ValueError: no money"), (Status.CANCELLED, ChildCancelled, "Cancelled: no money")],
)
def test_the_failure_of_a_child_names_it_with_its_input(status: Status, kind: type[ChildFailed], told: str) -> None:
    async def code(run: Run) -> list[str]:
        try:
            await sub.start(run, 5)
        except ChildFailed as failed:
            return [type(failed).__name__, failed.label, str(failed)]
        return []

    driver = Driver(workflow("flow").v("1.0")(code))
    driver.turn()
    (child,) = driver.children
    driver.end_child(child, status=status, error=ErrorInfo(type="ValueError", message="no money"))
    driver.tell()
    driver.turn()
    assert driver.output == [kind.__name__, "sub(5)", f"sub(5) failed: {told}"]
