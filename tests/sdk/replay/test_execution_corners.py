"""An execution to the letter, at its corners: what it answers, what it writes, and the words with which it stops a run (S10, S11)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from aiki import Event, NonRetryable, PayloadError, Retry, Run, task, workflow
from aiki.context.state import State
from aiki.execution.batch import JournalBatch
from aiki.execution.execution import Execution
from aiki.execution.journal import Journal, Reservation
from aiki.execution.outcome import Cancelled, Completed, Failed
from aiki.protocol import ErrorInfo, InboxItem, Status
from support.doubles import driven
from support.sdk.driver import RUN_ID, START, Driver

SECOND = 1_000_000
WARNING = 30
news = Event("news", int)


@task(retry=Retry.fixed(max_attempts=2, delay=60))
async def double(value: int) -> int:
    return value


child_flow = workflow("child")


@child_flow.v("1")
async def child_v1(run: Run, value: int) -> int:
    return value


def error_of(driver: Driver) -> tuple[str, str, bool]:
    stop = driver.execution.stop
    assert stop is not None
    return stop.type, stop.message, stop.retryable


async def doubles(run: Run) -> int:
    return await double.start(run, 1)


async def waits(run: Run) -> int:
    return await run.wait(news)


async def sleeps(run: Run) -> None:
    await run.sleep(60)


# ---- the ends of tasks


def test_a_task_that_returns_what_json_cannot_hold_fails_for_good_and_is_named() -> None:
    driver = driven(doubles)
    assert driver.running[0].key == f"{RUN_ID}-0"
    driver.now += 5
    assert driver.execution.task_done(0, {1}, driver.now) is False
    driver.turn()
    failed = next(entry for entry in driver.history if entry["k"] == "failed")
    message = f"task double ({double.place}) returned what JSON cannot hold: "
    assert (failed["c"], failed["at"], failed["e"]["type"], failed["e"]["retryable"]) == (0, START + 5, "PayloadError", False)
    assert failed["e"]["message"].startswith(message)


@pytest.mark.parametrize(("error", "attempts"), [(NonRetryable("no"), 0), (ValueError("no"), 1)])
def test_the_failure_that_is_handed_over_is_one_that_is_not_tried_again(error: Exception, attempts: int) -> None:
    driver = driven(doubles)
    driver.pass_time({"double": error})
    assert driver.kinds().count("attempt") == attempts
    assert [entry["e"]["retryable"] for entry in driver.history if entry["k"] == "attempt"] == [True] * attempts
    assert [entry["e"]["retryable"] for entry in driver.history if entry["k"] == "failed"] == [False]


@pytest.mark.parametrize("number", [0, 7])
def test_the_result_of_a_call_that_nobody_waits_for_is_taken_in_silence(number: int) -> None:
    async def code(run: Run) -> str:
        double.start(run, 1)
        await run.sleep(1)
        return "done"

    driver = driven(code)
    driver.now += SECOND
    driver.turn()
    assert driver.output == "done"
    assert driver.logged == [(WARNING, "flow 1.0 returned before task double ended, which is cancelled: await it", {})]
    assert driver.execution.task_done(number, 2, driver.now) is True
    assert driver.execution.take_commit() is None


def test_a_result_that_was_taken_is_said_to_be() -> None:
    driver = driven(doubles)
    assert driver.execution.task_done(0, 2, driver.now) is True


def test_a_task_that_waits_for_its_next_attempt_does_not_run_and_is_not_cancelled() -> None:
    driver = driven(doubles)
    driver.fail(0, ValueError("no"))
    driver.cancel()
    driver.tell()
    driver.execution.advance(driver.now)
    assert driver.execution.cancelled_tasks() == []


# ---- what is handed over


def test_a_held_run_is_handed_nothing_and_all_of_it_later() -> None:
    driver = driven(waits)
    driver.execution.set_paused(True)
    driver.send("news", 7)
    driver.tell()
    driver.execution.advance(driver.now)
    assert driver.execution.take_commit() is None
    driver.execution.set_paused(False)
    driver.turn()
    assert driver.output == 7


def test_a_timer_that_fires_before_what_came_later_fires_at_its_time() -> None:
    async def code(run: Run) -> Any:
        nap, wait = run.sleep(10), run.wait(news)
        await nap
        return await wait

    driver = driven(code)
    driver.now += 20 * SECOND
    driver.send("news", 7)
    driver.tell()
    driver.execution.advance(START)  # by a clock that is behind that of the server
    assert list(driver.execution.looks.fired) == [0]
    driver.turn()
    ends = [(entry["c"], entry["at"], entry["v"]) for entry in driver.history if entry["k"] == "done"]
    assert ends == [(0, START + 10 * SECOND, None), (1, START + 10 * SECOND, 7)]


def test_an_event_without_a_payload_brings_none() -> None:
    async def code(run: Run) -> Any:
        return await run.wait(Event("news"))

    driver = driven(code)
    driver.execution.receive([InboxItem(seq=1, kind="event", name="news", at=START)], 1)
    driver.execution.advance(START)
    batch = driver.execution.take_commit()
    assert batch is not None
    assert batch.entries.startswith(f'[{{"k":"done","c":0,"at":{START},"v":null,"i":1}},')
    assert driver.execution.outcome == Completed("null")


async def child_waits(run: Run) -> int:
    return await child_v1.start(run, 7)


@pytest.mark.parametrize(
    ("code", "what", "untaken"), [(waits, "wait(news)", "event 1, news,"), (child_waits, "child(7)", "the result of child {child}")]
)
def test_what_does_not_fit_is_named_and_what_to_do_about_it(code: Any, what: str, untaken: str) -> None:
    driver = driven(code)
    child = next(iter(driver.children), "")
    driver.end_child(child, "many") if child else driver.send("news", "many")
    driver.tell()
    driver.execution.advance(driver.now)
    kind, message, retryable = error_of(driver)
    assert (kind, retryable) == ("PayloadError", False)
    assert message.startswith(f"flow 1.0: what {what} brought does not fit its annotation <class 'int'>: ")
    assert message.endswith(
        f" The run did not take {untaken.format(child=child)} and meets it again when it goes on: deploy code of this version with an "
        "annotation that takes it, and retry the run. Nothing but such code leads past it; cancelling ends the run"
    )


# ---- ends


@pytest.mark.parametrize(("reason", "message"), [(None, "cancelled on request"), ("left", "cancelled on request: left")])
def test_a_cancelled_run_says_that_it_was_on_request(reason: str | None, message: str) -> None:
    driver = driven(sleeps)
    driver.cancel(reason)
    driver.tell()
    driver.turn()
    error = ErrorInfo(type="Cancelled", message=message, retryable=False)
    assert driver.outcome == Cancelled(error)
    assert driver.history[-1] == {"k": "cancelled", "at": START, "e": error.model_dump(mode="json")}


def test_a_failed_run_writes_its_error_and_a_completed_one_none() -> None:
    async def fails(run: Run) -> None:
        raise ValueError("no")

    async def returns(run: Run) -> int:
        return 1

    driver = driven(fails)
    assert isinstance(driver.outcome, Failed)
    assert driver.history[-1] == {"k": "failed_run", "at": START, "e": driver.outcome.error.model_dump(mode="json")}
    assert driven(returns).history[-1] == {"k": "completed", "at": START}


def test_a_record_that_is_left_over_at_the_end_is_named() -> None:
    async def returns(run: Run) -> int:
        return 1

    driver = driven(doubles)
    driver.finish(0, 2)
    driver.pump()
    driver.unacked[-1] = JournalBatch(json.dumps(json.loads(driver.unacked[-1].entries)[:1]), 1, 0, [], [], [], None)
    driver.ack()
    driver.definition = workflow("flow").v("1.0")(returns)
    driver.crash()
    address = driver.history[1]["a"]
    assert driver.logged == [(WARNING, f"flow 1.0 returned without asking for the recorded call {address}", {})]


def removed_from(code: Callable[[Run], Any]) -> Driver:
    """A run of changed code that makes a recorded call no more, and says so."""

    async def before(run: Run) -> None:
        await double.start(run, 1)
        await double.start(run, 2)

    driver = driven(before)
    driver.finish(0, 2)
    driver.turn()
    driver.definition = workflow("flow").v("1.0", removed=["double"])(code)
    driver.crash()
    return driver


def test_a_run_that_waits_for_nothing_beside_a_call_that_was_removed_has_failed() -> None:
    async def code(run: Run) -> None:
        await asyncio.Event().wait()

    error = ErrorInfo(
        type="NothingToWaitFor", message="flow 1.0 waits for something that no task, timer, event or child can bring", retryable=False
    )
    assert removed_from(code).execution.outcome == Failed(error)


def test_what_is_left_over_is_looked_at_once_however_often_the_run_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    leftovers = Journal.leftovers

    def counted(journal: Journal, removed: Iterable[str]) -> list[Reservation]:
        looked.append(1)
        return leftovers(journal, removed)

    monkeypatch.setattr(Journal, "leftovers", counted)

    async def code(run: Run) -> None:
        for _ in range(9):
            await run.sleep(1)

    driver = removed_from(code)
    driver.pass_time({})
    assert isinstance(driver.outcome, Completed)
    assert len(looked) == 2  # at the first rest, and at the end


# ---- what stops a run


class Interrupted:
    """A guard that says where it has interrupted the code."""

    def enter(self) -> None: ...

    def leave(self) -> str | None:
        return "flow.py:3"


def test_a_blocked_loop_says_where_and_writes_nothing() -> None:
    execution = Execution(
        workflow("flow").v("1.0")(doubles),
        run_id=RUN_ID, input="null", history=[], inbox=[], inbox_seen=0, now=START, workflow="flow", version="1.0",
        log=lambda _: None, guard=Interrupted(),
    )  # fmt: skip
    message = "flow 1.0 blocks its event loop at flow.py:3: workflow code may only compute and await; do this in a task"
    assert execution.stop == ErrorInfo(type="BlockedLoop", message=message, retryable=False)
    assert execution.take_commit() is None
    assert execution.take_tasks() == []


def test_a_forgotten_await_says_where() -> None:
    async def helper() -> None: ...

    async def code(run: Run) -> None:
        helper()  # type: ignore[unused-coroutine]  # that is the test
        await double.start(run, 1)

    line = code.__code__.co_firstlineno + 1
    where = f"{helper.__qualname__}() at {__file__}:{line}"
    assert error_of(driven(code)) == ("NeverAwaited", f"flow 1.0: {where} was never awaited: write `await` before the call", False)


def refusal() -> str:
    state = State()
    state["seen"] = []
    state["seen"].append({1})
    with pytest.raises(PayloadError) as refused:
        state.change()
    return str(refused.value)


def test_a_state_that_json_does_not_hold_pauses_a_run_that_goes_on_or_has_completed() -> None:
    async def code(run: Run) -> int:
        run.state["seen"] = []
        run.state["seen"].append({1})
        return 1

    driver = driven(code)
    assert error_of(driver) == ("PayloadError", f"flow 1.0: {refusal()}. Correct the code and retry the run", False)
    assert driver.execution.outcome is None


def test_a_state_that_json_does_not_hold_is_a_warning_where_the_run_has_failed() -> None:
    async def code(run: Run) -> None:
        run.state["seen"] = []
        run.state["seen"].append({1})
        raise ValueError("no")

    driver = driven(code)
    assert isinstance(driver.outcome, Failed)
    assert driver.states == []
    assert driver.logged == [(WARNING, f"flow 1.0: {refusal()}", {})]


# ---- after a rewind


def test_a_state_that_was_assigned_on_the_way_is_written_alone_after_a_rewind() -> None:
    async def code(run: Run) -> int:
        run.state["asked"] = True
        return await run.wait(news)

    driver = driven(code)
    driver.chunks.append(json.dumps([{"k": "queued", "at": START, "by": "rewound"}]))
    driver.crash()
    assert driver.execution.take_commit() == JournalBatch("[]", 0, 0, [], [], [], '{"asked":true}')
    assert driver.execution.take_commit() is None


@pytest.mark.parametrize(("rewound", "output"), [(False, None), (True, 7)])
def test_only_after_a_rewind_an_event_is_taken_that_came_after_the_deadline(rewound: bool, output: int | None) -> None:
    async def code(run: Run) -> int | None:
        nap = run.sleep(3_600)
        found = await run.wait(news, timeout=10)
        nap.cancel()
        return found.payload if found else None

    driver = driven(code)
    driver.now += 11 * SECOND
    driver.send("news", 7)
    if rewound:
        driver.chunks.append(json.dumps([{"k": "queued", "at": START, "by": "rewound"}]))
    driver.crash()
    driver.turn()
    assert driver.output == output


def test_a_run_says_nothing_while_it_replays_and_everything_afterwards() -> None:
    silent: list[bool] = []

    async def code(run: Run) -> None:
        silent.append(run.log.silent)
        await run.wait(news)
        silent.append(run.log.silent)
        await run.wait(news)

    driver = driven(code)
    driver.send("news", 1)
    driver.crash()
    driver.turn()
    assert silent == [False, True, False]


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED])
def test_an_end_that_comes_to_a_run_that_has_ended_is_handed_to_nobody(status: Status) -> None:
    async def code(run: Run) -> str:
        child_v1.start(run, 7)
        await run.wait(news)
        return "done"

    driver = driven(code)
    driver.send("news", 1)
    driver.end_child(next(iter(driver.children)), 7, status=status)
    driver.tell()
    driver.turn()
    assert driver.output == "done"
    assert list(driver.inbox) == [2]
    assert driver.kinds()[-2:] == ["done", "completed"]
