"""How a run ended, word for word: the type, the message, the stack and whether anybody may try again."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from aiki import PayloadError, Run, TaskFailed, workflow
from aiki.errors import MAX_NAMED_IN_GROUP, ChildFailed, cut, error_info
from aiki.execution.outcome import Cancelled, Completed, Failed, Outcome
from aiki.execution.outcomes import child_error, outcome_of
from aiki.protocol import MAX_ERROR_STACK_BYTES, ErrorInfo, InboxItem, Status


@workflow("flow").v("1.0")
async def flow(run: Run) -> int:
    return 0


async def done(code: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    task = asyncio.create_task(code)
    await asyncio.wait([task])
    return task


async def returns(value: Any) -> Any:
    return value


async def raises(error: BaseException) -> None:
    raise error


async def end(code: Coroutine[Any, Any, Any], *, cancelled: str | None = None) -> Outcome:
    return outcome_of(await done(code), flow, name="flow 1.0", cancelled=cancelled)


def error(type: str, message: str) -> ErrorInfo:
    return ErrorInfo(type=type, message=message, stack=None, retryable=False)


async def test_a_run_ends_with_what_its_code_returned() -> None:
    assert await end(returns(5)) == Completed("5")


async def test_a_result_that_cannot_be_written_fails_the_run_and_the_message_says_of_which_workflow() -> None:
    with pytest.raises(PayloadError) as refused:
        flow.output.encode("five")
    message = f"workflow flow 1.0 ({flow.place}) returned what JSON cannot hold: {refused.value}"
    assert await end(returns("five")) == Failed(error("PayloadError", message))


@pytest.mark.parametrize(
    ("cancelled", "outcome"),
    [
        ("cancelled on request: enough", Cancelled(error("Cancelled", "cancelled on request: enough"))),
        (
            None,
            Failed(error("CancelledError", "flow 1.0 cancelled itself: asyncio.CancelledError left its code without a request to cancel")),
        ),
    ],
)
async def test_a_cancellation_that_left_the_code_cancels_the_run_only_if_one_was_asked_for(cancelled: str | None, outcome: Outcome) -> None:
    assert await end(raises(asyncio.CancelledError()), cancelled=cancelled) == outcome


async def test_code_that_raises_after_a_cancellation_has_failed() -> None:
    outcome = await end(raises(ValueError("no")), cancelled="cancelled on request")
    assert isinstance(outcome, Failed)
    assert (outcome.error.type, outcome.error.message) == ("ValueError", "no")


def child_end(status: Status, error: ErrorInfo | None) -> InboxItem:
    return InboxItem(seq=1, kind="child", child="0" * 32, status=status, error=error, at=1)


BROKEN = ErrorInfo(type="ValueError", message="no money", stack="Traceback", retryable=True)


@pytest.mark.parametrize(
    ("status", "given", "told"),
    [
        (Status.FAILED, BROKEN, BROKEN),
        (Status.FAILED, None, error("Failed", "the child failed and said no more")),
        (Status.CANCELLED, BROKEN, error("Cancelled", "no money")),
        (Status.CANCELLED, None, error("Cancelled", "the child was cancelled")),
    ],
)
def test_a_child_that_did_not_complete_says_why_or_at_least_how_it_ended(status: Status, given: ErrorInfo | None, told: ErrorInfo) -> None:
    assert child_error(child_end(status, given)) == told


def step(label: str, stack: str | None) -> TaskFailed:
    return TaskFailed(label, ErrorInfo(type="ValueError", message="no", stack=stack))


CHILD = ChildFailed("sub(1)", ErrorInfo(type="KeyError", message="'a'", stack="at sub"))
MANY = [step(f"task({number})", f"at {number}") for number in range(MAX_NAMED_IN_GROUP + 1)]


@pytest.mark.parametrize(
    ("raised", "more"),
    [
        pytest.param(ValueError("no"), "", id="no step"),
        pytest.param(step("task()", None), "", id="a step without a stack"),
        pytest.param(step("task()", ""), "", id="a step with an empty one"),
        pytest.param(step("task()", "at task"), "\nwhere task() failed:\nat task", id="a task"),
        pytest.param(CHILD, "\nwhere sub(1) failed:\nat sub", id="a child"),
        pytest.param(
            ExceptionGroup("two", [step("task()", "at task"), ValueError("no"), step("task()", None), CHILD]),
            "\nwhere task() failed:\nat task\nwhere sub(1) failed:\nat sub",
            id="those steps of a group that have one",
        ),
        pytest.param(
            ExceptionGroup("many", MANY),
            "".join(f"\nwhere task({number}) failed:\nat {number}" for number in range(MAX_NAMED_IN_GROUP)),
            id="as many steps as a message names",
        ),
    ],
)
async def test_the_stack_of_a_failed_run_goes_on_where_its_steps_failed(raised: Exception, more: str) -> None:
    outcome = await end(raises(raised))
    own = error_info(raised, retryable=False)
    assert own.stack is not None
    assert outcome == Failed(own.model_copy(update={"stack": own.stack + more}))
    assert own.retryable is False


async def test_a_long_stack_is_cut_once_it_is_whole() -> None:
    raised = step("task()", "x" * MAX_ERROR_STACK_BYTES)
    outcome = await end(raises(raised))
    own = error_info(raised, retryable=False).stack
    assert isinstance(outcome, Failed)
    assert outcome.error.stack == cut(f"{own}\nwhere task() failed:\n{raised.error.stack}", MAX_ERROR_STACK_BYTES)
    assert outcome.error.stack.endswith("xxx")
