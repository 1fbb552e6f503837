"""The workflow language, feature by feature, in the hands of a driver with a virtual clock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiki import ChildCancelled, ChildFailed, Client, Event, NonRetryable, PayloadError, Retry, Run, TaskFailed, task, workflow
from aiki.execution import Cancelled, Completed, Failed
from aiki.execution.pending import Child
from aiki.protocol import MAX_ERROR_MESSAGE_BYTES, ErrorInfo, Status
from support.doubles import double, drive
from support.sdk.driver import RUN_ID, START, Driver

SECOND = 1_000_000


@task
async def other(value: int) -> int:
    return value


@task(retry=Retry.exponential(max_attempts=3, base_delay=4, max_delay=60))
async def flaky(value: int) -> int:
    return value


@task
async def anything(value: Any) -> None: ...


@task(retry=Retry.never())
def undo(what: str) -> None: ...


verified = Event("verified", dict)
RESULTS = {"double": lambda value: 2 * value, "other": lambda value: value + 1}


def failure(driver: Driver) -> ErrorInfo:
    assert isinstance(driver.outcome, Failed), (driver.outcome, driver.execution.stop)
    return driver.outcome.error


# ---- tasks


def test_results_flow_through_tasks() -> None:
    async def code(run: Run, value: int) -> int:
        return await double.start(run, await double.start(run, value))

    driver = drive(code, 3)
    driver.run_tasks(RESULTS)
    assert driver.output == 12
    assert driver.kinds() == ["began", "call", "done", "call", "done", "completed"]


def test_parallel_tasks_start_together_and_a_replay_starts_none_again() -> None:
    async def code(run: Run, value: int) -> list[int]:
        return list(await asyncio.gather(double.start(run, value), other.start(run, value)))

    driver = drive(code, 3)
    driver.turn()
    assert sorted(driver.running) == [0, 1]
    driver.finish(1, 4)
    driver.turn()
    driver.crash()
    driver.turn()
    assert sorted(driver.running) == [0]
    driver.finish(0, 6)
    driver.turn()
    assert driver.output == [6, 4]


def test_failure_is_handed_to_the_code_after_the_last_attempt() -> None:
    async def code(run: Run) -> str:
        try:
            await flaky.start(run, 1)
        except TaskFailed as failed:
            return f"{failed.type}: {failed.error.message}"
        return "?"

    driver = drive(code)
    driver.pass_time({"flaky": ValueError("no")})
    assert driver.output == "ValueError: no"
    assert driver.kinds() == ["began", "call", "attempt", "attempt", "failed", "completed"]


def test_retry_goes_on_with_the_next_attempt_after_a_crash() -> None:
    async def code(run: Run) -> int:
        return await flaky.start(run, 1)

    driver = drive(code)
    driver.turn()
    key = driver.running[0].key
    driver.fail(0, OSError("down"), random=0.5)
    driver.turn()
    driver.crash()
    driver.turn()
    attempt = driver.running[0]
    assert (attempt.attempt, attempt.not_before, attempt.key) == (2, START + 2 * SECOND, key)
    waits = driver.execution.waits()
    assert waits is not None
    assert waits.due_at == START + 2 * SECOND
    assert waits.on == [{"kind": "retry", "name": "flaky", "attempt": 2, "due_at": START + 2 * SECOND}]


@task(retry=Retry.fixed(max_attempts=3, delay=1))
async def consume(items: list[int], more: Any, count: int) -> None: ...


def test_each_attempt_gets_its_arguments_as_they_were_passed() -> None:
    async def code(run: Run) -> None:
        items = [1, 2]
        started = consume.start(run, items, more={"a": [3]}, count=4)
        items.clear()
        await started

    driver = drive(code)
    for attempt in (1, 2, 3):
        driver.turn()
        (given,) = driver.running.values()
        assert (given.attempt, given.args, given.kwargs) == (attempt, (), {"items": [1, 2], "more": {"a": [3]}, "count": 4})
        given.kwargs["items"].clear()
        given.kwargs["more"]["a"].append(5)
        if attempt == 2:
            driver.execution.task_abandoned(0)
            assert driver.execution.take_tasks()[0].kwargs["items"] == [1, 2]
        driver.fail(0, OSError("half way"))
        driver.now += SECOND


def test_undo_is_given_what_it_was_told_then() -> None:
    @task
    async def restore(items: list[int]) -> None: ...

    async def code(run: Run) -> None:
        items = [1, 2]
        async with run.saga() as saga:
            saga.undo(restore, items)
            items.clear()
            raise ValueError

    driver = drive(code)
    driver.turn()
    assert driver.running[0].kwargs == {"items": [1, 2]}


def test_equal_calls_of_which_the_second_has_ended_start_the_first_again_after_a_crash() -> None:
    async def code(run: Run) -> list[int]:
        return list(await asyncio.gather(double.start(run, 1), double.start(run, 1)))

    driver = drive(code)
    driver.turn()
    driver.finish(1, 11)
    driver.turn()
    driver.crash()
    driver.turn()
    assert sorted(driver.running) == [0]
    driver.finish(0, 10)
    driver.turn()
    assert driver.output == [10, 11]


def test_attempt_lost_with_a_worker_costs_nothing() -> None:
    async def code(run: Run) -> int:
        return await flaky.start(run, 1)

    driver = drive(code)
    for _ in range(5):
        driver.turn()
        assert driver.running[0].attempt == 1
        driver.crash()


def test_abandoned_task_is_given_out_again_and_leaves_no_entry() -> None:
    async def code(run: Run) -> int:
        return await double.start(run, 1)

    driver = drive(code)
    driver.turn()
    driver.execution.task_abandoned(0)
    assert driver.execution.take_commit() is None
    assert [attempt.attempt for attempt in driver.execution.take_tasks()] == [1]


@pytest.mark.parametrize("error", [NonRetryable("stop"), KeyError("x")])
def test_errors_that_are_not_retried(error: Exception) -> None:
    @task(retry=Retry.exponential(non_retryable=(KeyError,)))
    async def charge() -> None: ...

    async def code(run: Run) -> None:
        await charge.start(run)

    driver = drive(code)
    driver.run_tasks({"charge": error})
    assert failure(driver).type == "TaskFailed"
    assert driver.kinds() == ["began", "call", "failed", "failed_run"]


def test_task_result_that_json_cannot_hold_names_task_and_place() -> None:
    async def code(run: Run) -> None:
        await double.start(run, 1)

    driver = drive(code)
    driver.run_tasks({"double": float("nan")})
    message = failure(driver).message
    assert "task double" in message
    assert "doubles.py:" in message
    assert driver.kinds().count("attempt") == 0


def test_map_keeps_order_and_limit() -> None:
    async def code(run: Run) -> list[int]:
        return await double.map(run, range(7), limit=3)

    driver = drive(code)
    driver.turn()
    assert len(driver.running) == 3
    driver.finish(2, 4)
    driver.turn()
    assert len(driver.running) == 3
    driver.run_tasks(RESULTS)
    assert driver.output == [0, 2, 4, 6, 8, 10, 12]


def test_map_cancels_the_rest_after_a_failure() -> None:
    async def code(run: Run) -> list[None]:
        return await undo.map(run, ["a", "b", "c"], limit=2)

    driver = drive(code)
    driver.turn()
    driver.fail(0, RuntimeError("a"))
    driver.turn()
    assert failure(driver).type == "TaskFailed"
    assert driver.running == {}


def test_fifty_thousand_calls_are_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiki.execution.calls.MAX_STEPS", 5)

    async def code(run: Run) -> None:
        for number in range(10):
            await double.start(run, number)

    driver = drive(code)
    driver.run_tasks(RESULTS)
    assert failure(driver).type == "StepLimit"


# ---- time


def test_sleep_fires_when_due_and_not_before() -> None:
    async def code(run: Run) -> str:
        await run.sleep(days=1)
        return run.now().isoformat()

    driver = drive(code)
    driver.now += 5
    driver.turn()
    waits = driver.execution.waits()
    assert waits is not None
    assert waits.due_at == START + 86_400 * SECOND
    driver.now = waits.due_at - 1
    driver.turn()
    assert driver.kinds() == ["began", "call"]
    driver.now += 1
    driver.turn()
    assert datetime.fromisoformat(driver.output) == datetime.fromtimestamp(START / SECOND, UTC) + timedelta(days=1)


@pytest.mark.parametrize("duration", [90, timedelta(seconds=90), 90.0])
def test_sleep_takes_seconds_and_timedelta(duration: Any) -> None:
    async def code(run: Run) -> None:
        await run.sleep(duration)

    driver = drive(code)
    driver.turn()
    assert driver.execution.next_due() == START + 90 * SECOND


def test_sleep_until_wants_a_time_zone() -> None:
    async def code(run: Run) -> None:
        await run.sleep_until(datetime(2030, 1, 1))  # noqa: DTZ001  that is the test

    driver = drive(code)
    driver.turn()
    assert "time zone" in failure(driver).message


def test_asyncio_sleep_and_timeout_are_durable() -> None:
    async def code(run: Run) -> str:
        await asyncio.sleep(86_400)
        try:
            async with asyncio.timeout(60):
                await double.start(run, 1)
        except TimeoutError:
            return "late"
        return "in time"

    driver = drive(code)
    driver.turn()
    driver.crash()
    driver.now = START + 86_400 * SECOND
    driver.turn()
    driver.crash()
    driver.turn()
    assert sorted(driver.running) == [2]
    driver.now += 60 * SECOND
    driver.turn()
    assert driver.output == "late"
    assert driver.running == {}


def test_wait_for_cancels_its_task() -> None:
    async def code(run: Run) -> str:
        try:
            await asyncio.wait_for(double.start(run, 1), 5)
        except TimeoutError:
            return "late"
        return "in time"

    driver = drive(code)
    driver.turn()
    driver.now += 5 * SECOND
    driver.turn()
    assert driver.output == "late"


def test_timer_of_a_timeout_that_was_not_needed_never_fires() -> None:
    async def code(run: Run) -> str:
        async with asyncio.timeout(60):
            await double.start(run, 1)
        await run.sleep(hours=1)
        return "done"

    driver = drive(code)
    driver.run_tasks(RESULTS)
    assert driver.execution.next_due() == START + 3_600 * SECOND


def test_loop_time_moves_with_the_records() -> None:
    async def code(run: Run) -> list[float]:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await run.sleep(10)
        return [before, loop.time()]

    driver = drive(code)
    driver.turn()
    driver.now += 12 * SECOND
    driver.turn()
    assert driver.output == [0.0, 12.0]


@pytest.mark.parametrize("duration", [-1, float("nan"), float("inf"), 1e12])
@pytest.mark.parametrize("native", [False, True])
def test_impossible_durations_are_errors_at_the_line(duration: float, native: bool) -> None:
    async def code(run: Run) -> None:
        await (asyncio.sleep(duration) if native else run.sleep(duration))

    driver = drive(code)
    driver.turn()
    if native and duration < 0:
        assert isinstance(driver.outcome, Completed)
    else:
        assert failure(driver).type == "ValueError"


def test_clock_of_another_worker_never_takes_time_back() -> None:
    async def code(run: Run) -> list[str]:
        seen = [run.now().isoformat()]
        for number in range(2):
            await double.start(run, number)
            seen.append(run.now().isoformat())
        return seen

    driver = drive(code)
    driver.turn()
    driver.now -= 3600 * SECOND
    driver.crash()
    driver.run_tasks(RESULTS)
    assert driver.output == sorted(driver.output)
    instants = [entry["at"] for entry in driver.history if "at" in entry]
    assert instants == sorted(instants)


# ---- events


def test_event_is_handed_over_with_its_payload() -> None:
    async def code(run: Run) -> list[Any]:
        answer = await run.wait(verified, timeout=timedelta(hours=12))
        return [answer.received, answer.payload if answer else None]

    driver = drive(code)
    driver.turn()
    waits = driver.execution.waits()
    assert waits is not None
    assert waits.events == ["verified"]
    driver.send("verified", {"at": "noon"})
    driver.tell()
    driver.turn()
    assert driver.output == [True, {"at": "noon"}]
    assert driver.inbox == {}


def test_event_that_is_told_twice_at_once_is_handed_over_once() -> None:
    async def code(run: Run) -> list[Any]:
        first = await run.wait(verified)
        second = await run.wait(verified, timeout=10)
        return [first, second.received]

    driver = drive(code)
    driver.turn()
    driver.send("verified", {"n": 1})
    driver.execution.receive([*driver.inbox.values(), *driver.inbox.values()], driver.inbox_seen)
    driver.turn()
    driver.now += 11 * SECOND
    driver.turn()
    assert driver.output == [{"n": 1}, False]


async def within_ten_seconds(run: Run) -> int | None:
    answer = await run.wait(verified, timeout=10)
    return answer.payload["n"] if answer else None


def test_wait_ends_as_timed_out_at_its_deadline() -> None:
    async def code(run: Run) -> str:
        return repr(await run.wait(verified, timeout=10))

    driver = drive(code)
    driver.turn()
    driver.now += 10 * SECOND
    driver.turn()
    assert driver.output == "TimedOut()"
    assert next(entry for entry in driver.history if entry["k"] == "done")["timeout"] is True


def test_event_before_the_deadline_wins_however_late_the_run_wakes() -> None:
    driver = drive(within_ten_seconds)
    driver.turn()
    driver.now = START + 9 * SECOND
    driver.send("verified", {"n": 1})
    driver.now = START + 60 * SECOND
    driver.crash()
    driver.turn()
    assert driver.output == 1


def test_event_after_the_deadline_is_too_late() -> None:
    driver = drive(within_ten_seconds)
    driver.turn()
    driver.now = START + 11 * SECOND
    driver.send("verified", {"n": 1})
    driver.tell()
    driver.turn()
    assert driver.output is None
    assert len(driver.inbox) == 1


def test_event_that_was_there_before_the_wait_is_taken_at_once() -> None:
    async def code(run: Run) -> bool:
        await double.start(run, 1)
        return bool(await run.wait(verified, timeout=0))

    driver = drive(code)
    driver.turn()
    driver.now += SECOND
    driver.send("verified", {"n": 1})
    driver.tell()
    driver.finish(0, 2)
    driver.turn()
    assert driver.output is True


def test_events_are_handed_over_in_order_per_name() -> None:
    async def code(run: Run) -> list[Any]:
        first = await run.wait(verified)
        await double.start(run, 1)
        return [first, await run.wait(verified)]

    driver = drive(code)
    for number in range(3):
        driver.send("verified", {"n": number})
    driver.tell()
    driver.run_tasks(RESULTS)
    assert driver.output == [{"n": 0}, {"n": 1}]
    assert list(driver.inbox) == [3]


async def wait_for_a_number(run: Run) -> int:
    await run.wait(Event("go", int))
    return await run.wait(Event("number", int))


def stuck_with_a_misfit() -> Driver:
    driver = drive(wait_for_a_number)
    driver.send("number", "many")
    driver.send("go", 1)
    driver.tell()
    driver.turn()
    return driver


def test_payload_that_does_not_fit_rests_the_run_with_the_event_untouched() -> None:
    driver = stuck_with_a_misfit()
    stop = driver.execution.stop
    assert stop is not None
    assert stop.type == "PayloadError"
    assert "wait(number)" in stop.message
    assert "event 1" in stop.message
    assert driver.outcome is None
    assert list(driver.inbox) == [1]  # what fits was taken


def test_code_that_takes_the_payload_goes_on_with_it() -> None:
    async def looser(run: Run) -> Any:
        await run.wait(Event("go", int))
        return await run.wait(Event("number", str))

    driver = stuck_with_a_misfit()
    driver.definition = drive(looser).definition
    driver.crash()
    driver.tell()
    driver.turn()
    assert driver.output == "many"


def test_a_run_that_rests_with_a_misfit_hears_of_its_cancel() -> None:
    driver = stuck_with_a_misfit()
    driver.cancel()
    driver.crash()
    driver.tell()
    driver.turn()
    assert isinstance(driver.outcome, Cancelled)
    assert driver.kinds()[-2:] == ["cancel", "cancelled"]
    assert list(driver.inbox) == [1]


def test_a_cancel_instead_of_a_misfit_ends_the_run_once_when_the_code_awaits_nothing_else() -> None:
    async def wait(run: Run) -> int:
        return await run.wait(Event("number", int))

    driver = drive(wait)
    driver.tell()
    driver.turn()
    driver.send("number", "many")
    driver.tell()
    driver.turn()
    assert driver.execution.stop is not None
    driver.now += 1
    driver.cancel()
    driver.crash()
    driver.tell()
    driver.turn()
    assert isinstance(driver.outcome, Cancelled)
    assert driver.kinds().count("cancelled") == 1


def test_an_input_that_does_not_fit_any_more_rests_the_run_and_code_that_takes_it_goes_on() -> None:
    async def older(run: Run, number: int) -> Any:
        return [number, await run.wait(Event("go", int))]

    async def newer(run: Run, number: dict[str, int]) -> Any:
        return [number, await run.wait(Event("go", int))]

    driver = drive(older, 7)
    driver.tell()
    driver.turn()
    driver.send("go", 1)
    fitting, driver.definition = driver.definition, drive(newer, {}).definition
    driver.crash()
    stop = driver.execution.stop
    assert stop is not None
    assert stop.type == "PayloadError"
    assert "does not fit number" in stop.message
    assert driver.execution.outcome is None
    driver.definition = fitting
    driver.crash()
    driver.tell()
    driver.turn()
    assert driver.output == [7, 1]


def test_recorded_value_that_does_not_fit_any_more_rests_the_run() -> None:
    async def older(run: Run) -> Any:
        return await run.wait(Event("number", str)), await run.wait(Event("go", int))

    async def newer(run: Run) -> Any:
        return await run.wait(Event("number", int)), await run.wait(Event("go", int))

    driver = drive(older)
    driver.send("number", "many")
    driver.tell()
    driver.turn()
    driver.definition = drive(newer).definition
    driver.crash()
    stop = driver.execution.stop
    assert stop is not None
    assert "recorded" in stop.message


def test_the_reason_of_a_cancel_reaches_the_code_its_history_and_its_end() -> None:
    told = list[str]()

    async def code(run: Run) -> None:
        try:
            await run.sleep(60)
        except asyncio.CancelledError as cancelled:
            told.append(str(cancelled))
            raise

    driver = drive(code)
    driver.turn()
    driver.cancel("the customer left")
    driver.tell()
    driver.turn()
    assert isinstance(driver.outcome, Cancelled)
    assert driver.outcome.error.message == "cancelled on request: the customer left"
    driver.crash()
    assert told == ["the customer left"] * 2


# ---- children

child_flow = workflow("child")


@child_flow.v("2.0")
async def child_v2(run: Run, value: int) -> int:
    return value


@child_flow.v("3.0")
async def child_v3(run: Run) -> int:
    return 1


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"pool": "a pool"}, ValueError, "'a pool' cannot name a pool"),
        ({"pool": 3}, ValueError, "3 cannot name a pool"),
        ({"on_parent_close": "terminate"}, ValueError, "it is 'cancel' or 'abandon'"),
        ({"ref": "mine"}, TypeError, "a child takes on_parent_close and pool"),
    ],
    ids=range(4),
)
def test_child_that_the_server_would_refuse_is_refused_at_the_call(options: dict[str, Any], error: type[Exception], told: str) -> None:
    async def code(run: Run) -> str:
        with pytest.raises(error, match=told):
            child_v2.start(run, 4, **options)
        return "goes on"

    driver = drive(code)
    driver.turn()
    assert driver.output == "goes on"
    assert driver.children == {}
    with pytest.raises(TypeError, match="has no parent"):
        child_v2.start(Client("http://127.0.0.1:1"), 4, on_parent_close="abandon")  # type: ignore[call-overload]  # that is the test


def test_child_is_created_with_its_reservation_and_awaited() -> None:
    async def code(run: Run) -> int:
        child = child_v2.start(run, 4, on_parent_close="abandon")
        run.state["child"] = child.id
        return await child

    driver = drive(code)
    driver.turn()
    (child,) = driver.children.values()
    assert (child.workflow, child.version, child.input, child.on_parent_close) == ("child", "2.0", "4", "abandon")
    assert child.id[:2] == RUN_ID[:2]
    assert int(child.id[2:14], 16) == START // 1000
    assert json.loads(driver.states[-1]) == {"child": child.id}
    driver.crash()
    driver.turn()
    driver.end_child(child.id, 8)
    driver.tell()
    driver.turn()
    assert driver.output == 8


@pytest.mark.parametrize(("status", "failed"), [(Status.FAILED, ChildFailed), (Status.CANCELLED, ChildCancelled)])
def test_child_that_did_not_complete_raises(status: Status, failed: type[Exception]) -> None:
    async def code(run: Run) -> str:
        try:
            await child_v3.start(run)
        except ChildFailed as error:
            return type(error).__name__
        return "?"

    driver = drive(code)
    driver.turn()
    driver.end_child(next(iter(driver.children)), status=status, error=ErrorInfo(type="X", message="y"))
    driver.crash()
    driver.turn()
    assert driver.output == failed.__name__


def test_child_may_be_left_to_itself() -> None:
    async def code(run: Run) -> str:
        return child_v2.start(run, 1).id

    driver = drive(code)
    driver.turn()
    assert driver.output in driver.children


# ---- children that are given up


async def lose_a_race(run: Run, child: Child[int]) -> None:
    await run.first(child=child, expired=run.sleep(5))


async def run_out_of_time(_run: Run, child: Child[int]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            await child


async def wait_for_it(_run: Run, child: Child[int]) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(child, 5)


async def cancel_it(run: Run, child: Child[int]) -> None:
    await run.sleep(5)
    child.cancel()


async def fail_beside_it(run: Run, child: Child[int]) -> None:
    async def fail() -> None:
        await run.sleep(5)
        raise ValueError

    with suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(child)
            group.create_task(fail())


WAYS_TO_GIVE_UP = [lose_a_race, run_out_of_time, wait_for_it, cancel_it, fail_beside_it]


def giving_up(way: Any, *, policy: Any = "cancel") -> Driver:
    """A run that gave its child up after five seconds, and goes on."""

    async def code(run: Run) -> str:
        await way(run, child_v2.start(run, 4, on_parent_close=policy))
        await run.sleep(60)
        return "went on"

    driver = drive(code)
    driver.turn()
    assert driver.cancelled_children == []
    driver.now += 5 * SECOND
    return driver


@pytest.mark.parametrize("way", WAYS_TO_GIVE_UP)
def test_child_that_is_given_up_is_to_be_cancelled(way: Any) -> None:
    driver = giving_up(way)
    driver.turn()
    assert driver.cancelled_children == list(driver.children)
    assert [entry for entry in driver.history if entry["k"] == "child_cancel_requested"] == [{"k": "child_cancel_requested", "c": 0}]
    driver.pass_time({})
    assert driver.output == "went on"


@pytest.mark.parametrize("way", WAYS_TO_GIVE_UP)
def test_child_that_was_started_to_be_abandoned_is_left_alone(way: Any) -> None:
    driver = giving_up(way, policy="abandon")
    driver.pass_time({})
    assert driver.output == "went on"
    assert driver.cancelled_children == []
    assert "child_cancel_requested" not in driver.kinds()


@pytest.mark.parametrize("way", WAYS_TO_GIVE_UP)
def test_replay_knows_that_a_child_was_given_up(way: Any) -> None:
    driver = giving_up(way)
    driver.turn()
    driver.crash()
    assert driver.execution.take_commit() is None
    driver.pass_time({})
    assert driver.output == "went on"
    assert driver.cancelled_children == list(driver.children)


@pytest.mark.parametrize("way", WAYS_TO_GIVE_UP)
def test_child_whose_giving_up_was_lost_is_given_up_again(way: Any) -> None:
    driver = giving_up(way)
    driver.pump()
    driver.crash()
    assert driver.cancelled_children == []
    driver.turn()
    assert driver.cancelled_children == list(driver.children)


def test_end_of_a_child_that_came_before_the_crash_wins_over_giving_it_up() -> None:
    driver = giving_up(lose_a_race)
    driver.pump()
    driver.now -= SECOND
    driver.end_child(next(iter(driver.children)), 8)
    driver.now += SECOND
    driver.crash()
    driver.pass_time({})
    assert driver.output == "went on"
    assert driver.cancelled_children == []


def test_end_of_a_child_that_was_given_up_is_for_nobody() -> None:
    driver = giving_up(lose_a_race)
    driver.turn()
    driver.end_child(driver.cancelled_children[0], status=Status.CANCELLED)
    driver.tell()
    driver.turn()
    driver.crash()
    driver.pass_time({})
    assert driver.output == "went on"
    assert driver.inbox


def test_child_given_up_as_soon_as_it_was_started_is_created_and_cancelled() -> None:
    async def code(run: Run) -> str:
        child = child_v2.start(run, 4)
        child.cancel()
        await run.sleep(5)
        return child.id

    driver = drive(code)
    driver.turn()
    assert driver.kinds() == ["began", "call", "child_cancel_requested", "call"]
    driver.pass_time({})
    assert driver.cancelled_children == list(driver.children) == [driver.output]


@pytest.mark.parametrize("crash", [False, True])
def test_cancelled_run_gives_up_the_child_it_waits_for(crash: bool) -> None:
    async def code(run: Run) -> None:
        try:
            await child_v2.start(run, 4)
        finally:
            await run.sleep(60)

    driver = drive(code)
    driver.turn()
    driver.cancel()
    driver.tell()
    driver.turn()
    if crash:
        driver.crash()
    driver.pass_time({})
    assert isinstance(driver.outcome, Cancelled)
    assert driver.cancelled_children == list(driver.children)


def test_child_that_is_not_awaited_or_is_shielded_is_not_given_up() -> None:
    async def code(run: Run) -> None:
        child_v2.start(run, 1)
        shielded = child_v2.start(run, 2)
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(shielded), 5)
        await asyncio.wait([shielded], timeout=5)

    driver = drive(code)
    driver.pass_time({})
    assert isinstance(driver.outcome, Completed)
    assert len(driver.children) == 2
    assert driver.cancelled_children == []


def test_children_of_the_same_input_are_given_up_one_by_one() -> None:
    async def code(run: Run) -> int:
        for _ in range(2):
            with suppress(TimeoutError):
                return await asyncio.wait_for(child_v2.start(run, 4), 5)
        return await child_v2.start(run, 4)

    driver = drive(code)
    driver.pass_time({})
    driver.crash()
    driver.turn()
    first, second, third = driver.children
    assert driver.cancelled_children == [first, second]
    driver.end_child(third, 7)
    driver.tell()
    driver.turn()
    assert driver.output == 7


def test_closing_a_run_gives_up_nothing() -> None:
    driver = giving_up(lose_a_race)
    driver.execution.close()
    assert driver.execution.take_commit() is None


def test_child_in_place_of_a_recorded_call_is_not_given_up_by_code_that_diverged() -> None:
    async def old(run: Run) -> None:
        child_v2.start(run, 4)
        await double.start(run, 1)
        await run.sleep(5)

    async def new(run: Run) -> None:
        child_v2.start(run, 4).cancel()
        await double.start(run, 2)

    driver = drive(old)
    driver.run_tasks(RESULTS)
    driver.definition = workflow("flow").v("1.0")(new)
    driver.crash()
    assert driver.execution.stop is not None
    assert driver.execution.take_commit() is None


def test_child_that_ended_before_is_not_given_up_by_changed_code() -> None:
    async def old(run: Run) -> None:
        await child_v2.start(run, 4)
        await run.sleep(5)

    async def new(run: Run) -> None:
        child_v2.start(run, 4).cancel()
        await run.sleep(5)

    driver = drive(old)
    driver.turn()
    driver.end_child(next(iter(driver.children)), 8)
    driver.tell()
    driver.turn()
    driver.definition = workflow("flow").v("1.0")(new)
    driver.crash()
    assert driver.execution.stop is None
    assert driver.execution.take_commit() is None


def test_child_that_was_given_up_ends_as_cancelled_for_changed_code_that_awaits_it() -> None:
    async def new(run: Run) -> str:
        child = child_v2.start(run, 4)
        await run.sleep(5)
        try:
            await child
        except ChildCancelled:
            return "cancelled"
        return "?"

    driver = giving_up(lose_a_race)
    driver.turn()
    driver.definition = workflow("flow").v("1.0")(new)
    driver.crash()
    driver.end_child(driver.cancelled_children[0], status=Status.CANCELLED)
    driver.tell()
    driver.turn()
    assert driver.output == "cancelled"


# ---- races and sagas


def test_first_says_who_won_and_cancels_the_loser() -> None:
    async def code(run: Run) -> list[Any]:
        won = await run.first(paid=double.start(run, 1), expired=run.sleep(5))
        await run.sleep(60)
        return [won.name, won.result]

    driver = drive(code)
    driver.turn()
    driver.now += 5 * SECOND
    driver.turn()
    assert driver.running == {}
    driver.now += 60 * SECOND
    driver.turn()
    assert driver.output == ["expired", None]
    assert [entry["c"] for entry in driver.history if entry["k"] == "done"] == [1, 2]


def test_saga_undoes_in_reverse_and_raises() -> None:
    async def code(run: Run) -> None:
        async with run.saga() as saga:
            saga.undo(undo, "first")
            saga.undo(undo, what="second")
            raise ValueError("broken")

    driver = drive(code)
    driver.run_tasks({"undo": None})
    assert failure(driver).type == "ValueError"
    assert [entry["l"] for entry in driver.history if entry["k"] == "call"] == ['undo(what="second")', 'undo(what="first")']


def test_saga_runs_all_undos_even_if_one_fails() -> None:
    async def code(run: Run) -> list[str]:
        try:
            async with run.saga() as saga:
                saga.undo(undo, "first")
                saga.undo(undo, "second")
                raise ValueError("broken")
        except ValueError as error:
            return error.__notes__

    driver = drive(code)
    driver.run_tasks({"undo": lambda what: RuntimeError("stuck") if what == "second" else None})
    assert len(driver.output) == 1
    assert "stuck" in driver.output[0]


@pytest.mark.parametrize("arguments", [(), (object(),)])
def test_saga_refuses_an_undo_that_could_not_be_called_and_undoes_what_came_before(arguments: tuple[Any, ...]) -> None:
    async def code(run: Run) -> None:
        async with run.saga() as saga:
            saga.undo(undo, "first")
            saga.undo(undo, *arguments)
            await double.start(run, 1)

    driver = drive(code)
    driver.run_tasks({"undo": None})
    assert failure(driver).type in ("TypeError", "PayloadError")
    assert [entry["l"] for entry in driver.history if entry["k"] == "call"] == ['undo(what="first")']


def test_saga_whose_undo_brought_what_no_longer_fits_goes_on_when_the_annotation_is_restored() -> None:
    async def code(run: Run) -> None:
        async with run.saga() as saga:
            saga.undo(undo, "first")
            saga.undo(double, 2)
            raise ValueError("broken")

    driver = drive(code)
    driver.turn()
    driver.finish(0, 4)
    driver.turn()
    recorded = list(driver.chunks)
    driver.chunks = [chunk.replace('"v":4', '"v":"four"') for chunk in recorded]
    driver.crash()
    driver.run_tasks({"undo": None})
    assert driver.execution.stop is not None
    assert driver.running == {}
    driver.chunks = recorded
    driver.crash()
    driver.run_tasks({"undo": None})
    assert failure(driver).type == "ValueError"
    assert [entry["l"] for entry in driver.history if entry["k"] == "call"] == ["double(value=2)", 'undo(what="first")']


@pytest.mark.parametrize("kind", ["task", "event", "child"])
def test_a_recorded_result_that_no_longer_fits_pauses_the_run_and_the_restored_annotation_goes_on(kind: str) -> None:
    asked = {"task": "value", "event": "number", "child": "narrow"}[kind]

    def code_with(annotation: Any) -> Any:
        async def value() -> Any: ...

        async def child(run: Run) -> Any: ...

        value.__annotations__["return"] = child.__annotations__["return"] = annotation
        definition, version = task(name="value")(value), workflow("narrow").v("1")(child)

        async def code(run: Run) -> Any:
            made: dict[str, Any] = {
                "task": lambda: definition.start(run),
                "event": lambda: run.wait(Event("number", annotation)),
                "child": lambda: version.start(run),
            }
            beside = double.start(run, 3)
            try:
                got = await made[kind]()
            except Exception as error:  # noqa: BLE001  as users write it
                return f"heard of {type(error).__name__}"
            return [got, await beside, await double.start(run, 4)]

        return drive(code).definition

    driver = Driver(code_with(str))
    driver.turn()
    if kind == "event":
        driver.send("number", "many")
    elif kind == "child":
        driver.end_child(next(iter(driver.children)), "many")
    else:
        driver.finish(1, "many")
    driver.tell()
    driver.turn()
    fitting, written = driver.definition, len(driver.history)
    driver.definition = code_with(int)
    for _ in range(2):
        driver.crash()
        driver.tell()
        driver.turn()
        stop = driver.execution.stop
        assert stop is not None
        assert stop.type == "PayloadError"
        assert asked in stop.message
        assert "restore an annotation that takes it and retry the run, or cancel it" in stop.message
        assert driver.execution.outcome is None
        assert driver.running == {}
        assert len(driver.history) == written
    driver.definition = fitting
    driver.crash()
    driver.run_tasks({"double": lambda value: 2 * value})
    assert driver.output == ["many", 6, 8]


def test_saga_that_ends_well_undoes_nothing() -> None:
    async def code(run: Run) -> None:
        async with run.saga() as saga:
            saga.undo(undo, "first")

    driver = drive(code)
    driver.turn()
    assert driver.kinds() == ["began", "completed"]


def test_saga_undoes_when_cancelled() -> None:
    async def code(run: Run) -> None:
        async with run.saga() as saga:
            saga.undo(undo, "first")
            await run.sleep(days=1)

    driver = drive(code)
    driver.turn()
    driver.cancel()
    driver.crash()
    driver.turn()
    assert [attempt.label for attempt in driver.running.values()] == ['undo(what="first")']
    driver.crash()
    driver.run_tasks({"undo": None})
    assert isinstance(driver.outcome, Cancelled)
    assert driver.kinds() == ["began", "call", "cancel", "call", "done", "cancelled"]


# ---- cancellation


def test_cancellation_ends_what_runs_and_the_run() -> None:
    async def code(run: Run) -> None:
        await asyncio.gather(double.start(run, 1), other.start(run, 2))

    driver = drive(code)
    driver.turn()
    driver.cancel()
    driver.tell()
    driver.execution.advance(driver.now)
    assert driver.execution.cancelled_tasks() == [0, 1]
    assert driver.execution.cancelled_tasks() == []
    driver.turn()
    assert isinstance(driver.outcome, Cancelled)


def test_code_may_swallow_a_cancellation_and_complete() -> None:
    async def code(run: Run) -> str:
        try:
            await run.sleep(days=1)
        except asyncio.CancelledError:
            return "tidied up"
        return "slept"

    driver = drive(code)
    driver.turn()
    driver.cancel()
    driver.tell()
    driver.turn()
    assert driver.output == "tidied up"


def test_except_exception_does_not_swallow_a_cancellation() -> None:
    async def code(run: Run) -> str:
        try:
            await run.sleep(days=1)
        except Exception:  # noqa: BLE001  that is the test
            return "swallowed"
        return "slept"

    driver = drive(code)
    driver.turn()
    driver.cancel()
    driver.tell()
    driver.turn()
    assert isinstance(driver.outcome, Cancelled)


def test_result_of_a_cancelled_task_is_not_recorded() -> None:
    async def code(run: Run) -> None:
        task = asyncio.ensure_future(double.start(run, 1))
        await other.start(run, 1)
        task.cancel()
        await run.sleep(5)

    driver = drive(code)
    driver.turn()
    driver.finish(1, 2)
    late = driver.running.pop(0)
    driver.turn()
    driver.execution.task_done(late.call, 5, driver.now)
    driver.turn()
    assert [entry["c"] for entry in driver.history if entry["k"] == "done"] == [1]


def test_run_that_cancels_itself_has_failed() -> None:
    async def code(run: Run) -> None:
        raise asyncio.CancelledError

    driver = drive(code)
    driver.turn()
    assert failure(driver).type == "CancelledError"


# ---- what is the same on every replay


def test_uuid_random_and_now_are_the_same_on_every_replay() -> None:
    seen: list[list[str]] = []

    async def code(run: Run) -> None:
        seen.append([str(run.uuid()), str(run.random()), str(run.uuid()), run.now().isoformat()])
        await run.sleep(1)

    driver = drive(code)
    driver.turn()
    driver.now += 3600 * SECOND
    driver.crash()
    assert seen[0] == seen[1]
    assert len({seen[0][0], seen[0][2]}) == 2


def test_uuid_and_random_do_not_change_between_releases() -> None:
    async def code(run: Run) -> list[Any]:
        return [str(run.uuid()), run.random()]

    driver = drive(code)
    driver.turn()
    assert driver.output == ["46139009-2c76-42ea-9e38-42541b5274cd", 0.6327754069996272]


def test_log_is_silent_while_replaying() -> None:
    async def code(run: Run) -> None:
        run.log.info("begins with %s", "ann", step=1)
        await double.start(run, 1)
        run.log.info("goes on")

    driver = drive(code)
    driver.turn()
    driver.crash()
    driver.run_tasks(RESULTS)
    assert [(message, fields) for _, message, fields in driver.logged] == [("begins with ann", {"step": 1}), ("goes on", {})]


def test_task_whose_argument_is_too_large_is_refused_at_the_call_and_nothing_is_reserved() -> None:
    async def code(run: Run) -> str:
        with pytest.raises(PayloadError) as refused:
            anything.start(run, "x" * 3_000_000)
        await run.sleep(60)
        return str(refused.value)

    driver = drive(code)
    driver.turn()
    waits = driver.execution.waits()
    assert waits is not None
    assert [wait["kind"] for wait in waits.on] == ["sleep"]
    driver.now += 60 * SECOND
    driver.turn()
    assert driver.output.startswith("anything(value=…): 3000002 bytes")


def test_state_is_written_whole_with_the_commit_in_which_it_changed() -> None:
    async def code(run: Run) -> None:
        run.state["step"] = "one"
        run.state["list"] = []
        await double.start(run, 1)
        run.state["list"].append(1)
        await double.start(run, 2)

    driver = drive(code)
    driver.turn()
    driver.crash()
    driver.run_tasks(RESULTS)
    assert [json.loads(state) for state in driver.states] == [{"step": "one", "list": []}, {"step": "one", "list": [1]}]


def test_state_that_json_cannot_hold_is_an_error_at_the_line() -> None:
    async def code(run: Run) -> None:
        run.state["x"] = {1, 2}

    driver = drive(code)
    driver.turn()
    assert failure(driver).type == "PayloadError"


@pytest.mark.parametrize(("key", "value"), [("b", "x" * 1_500_000), ("b", json.loads("[" * 64 + "]" * 64)), ((1, 2), 1), (1, 1)])
def test_state_that_is_too_much_as_a_whole_is_an_error_at_the_line(key: Any, value: Any) -> None:
    async def code(run: Run) -> list[str]:
        run.state["a"] = "x" * 1_500_000
        try:
            run.state[key] = value
        except PayloadError:
            return list(run.state)
        return []

    driver = drive(code)
    driver.turn()
    assert driver.output == ["a"]


# ---- ends


def test_input_that_does_not_fit_fails_the_run() -> None:
    async def code(run: Run, value: int) -> None: ...

    driver = drive(code, "many")
    driver.turn()
    error = failure(driver)
    assert error.type == "PayloadError"
    assert "value" in error.message


def test_output_that_json_cannot_hold_names_the_line() -> None:
    async def code(run: Run) -> Any:
        return {"when": object()}

    driver = drive(code)
    driver.turn()
    error = failure(driver)
    assert "flow 1.0" in error.message
    assert "test_execution.py:" in error.message


def test_huge_error_is_cut_with_a_mark() -> None:
    async def code(run: Run) -> None:
        raise RuntimeError("x" * 10_000_000)

    driver = drive(code)
    driver.turn()
    error = failure(driver)
    assert len(error.message.encode()) == MAX_ERROR_MESSAGE_BYTES
    assert "[cut: 10000000 bytes]" in error.message


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration("x"), GeneratorExit()])
def test_strange_ends_are_failures(error: BaseException) -> None:
    async def code(run: Run) -> None:
        raise error

    driver = drive(code)
    driver.turn()
    assert failure(driver).type in (type(error).__name__, "RuntimeError")


def test_run_that_waits_for_nothing_fails_and_says_so() -> None:
    async def code(run: Run) -> None:
        await asyncio.Event().wait()

    driver = drive(code)
    driver.turn()
    assert failure(driver).type == "NothingToWaitFor"


def test_paused_run_starts_nothing_and_goes_on_later() -> None:
    async def code(run: Run) -> int:
        first = await double.start(run, 1)
        return await double.start(run, first)

    driver = drive(code)
    driver.turn()
    driver.execution.hold(True)
    driver.finish(0, 2)
    driver.turn()
    assert driver.running == {}
    assert driver.kinds() == ["began", "call", "done", "call"]
    driver.execution.hold(False)
    driver.run_tasks(RESULTS)
    assert driver.output == 4


def test_closing_is_silent_and_reaches_code_that_clings() -> None:
    cleaned: list[str] = []

    async def code(run: Run) -> None:
        try:
            await run.sleep(5)
        finally:
            cleaned.append("in")
            try:
                await double.start(run, 1)
            finally:
                cleaned.append("out")
                await asyncio.sleep(0)

    driver = drive(code)
    driver.turn()
    driver.execution.close()
    driver.execution.close()
    assert cleaned == ["in", "out"]
    assert driver.execution.take_tasks() == []


def test_background_task_ends_with_the_run_and_a_started_one_is_told() -> None:
    async def code(run: Run) -> str:
        background = asyncio.ensure_future(double.start(run, 1))
        other.start(run, 2)
        await run.sleep(1)
        return f"{background.done()}"

    driver = drive(code)
    driver.turn()
    driver.now += SECOND
    driver.execution.advance(driver.now)
    assert driver.execution.cancelled_tasks() == [0, 1]
    driver.turn()
    assert driver.output == "False"
    assert sum("await it" in message for _, message, _ in driver.logged) == 2


def test_async_generator_left_early_is_closed_in_the_run() -> None:
    async def code(run: Run) -> list[int]:
        closed: list[int] = []

        async def numbers() -> AsyncIterator[int]:
            try:
                for number in range(5):
                    yield await double.start(run, number)
            finally:
                closed.append(await other.start(run, 7))

        async for number in numbers():
            if number:
                break
        await run.sleep(5)
        return closed

    driver = drive(code)
    driver.pass_time(RESULTS)
    assert driver.output == [8]


def test_closing_a_run_with_open_generators_groups_and_timeouts_is_silent() -> None:
    async def code(run: Run) -> None:
        async def numbers() -> AsyncIterator[int]:
            try:
                yield await double.start(run, 1)
            finally:
                await other.start(run, 7)

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(run.sleep(5))
            async with run.saga() as saga:
                saga.undo(undo, "x")
                async for _ in numbers():
                    await run.wait(verified)

    driver = drive(code)
    driver.run_tasks(RESULTS)
    driver.execution.close()
    assert driver.execution.take_commit() is None
    assert driver.logged == []


def test_as_completed_yields_in_the_order_of_record() -> None:
    async def code(run: Run) -> list[int]:
        return [await next_one for next_one in asyncio.as_completed([double.start(run, value) for value in range(3)])]

    driver = drive(code)
    driver.turn()
    for call in (2, 0, 1):
        driver.finish(call, call)
        driver.turn()
    assert driver.output == [2, 0, 1]


def test_locks_and_queues_work_as_they_are() -> None:
    async def code(run: Run) -> list[int]:
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        lock = asyncio.Lock()
        got: list[int] = []

        async def produce() -> None:
            for value in range(3):
                await queue.put(await double.start(run, value))

        async def consume() -> None:
            for _ in range(3):
                async with lock:
                    got.append(await queue.get())

        await asyncio.gather(produce(), consume())
        return got

    driver = drive(code)
    driver.run_tasks(RESULTS)
    assert driver.output == [0, 2, 4]
    assert isinstance(driver.outcome, Completed)


def test_large_drafts_can_be_taken_in_parts_that_are_prefixes() -> None:
    async def code(run: Run) -> None:
        children = [child_v2.start(run, number) for number in range(50)]
        run.state["children"] = len(children)
        await children[-1]

    driver = drive(code)
    driver.execution.advance(driver.now)
    parts = []
    while (part := driver.execution.take_commit(1_000)) is not None:
        parts.append(part)
        assert driver.execution.more is (part.state is None)
    assert len(parts) > 5
    assert all(len(part.entries) <= 1_100 for part in parts)
    entries = [entry for part in parts for entry in json.loads(part.entries)]
    assert [entry["c"] for entry in entries[1:]] == list(range(50))
    for part in parts:
        children = [entry["run"] for entry in json.loads(part.entries) if entry["k"] == "call"]
        assert [child.id for child in part.children] == children
        assert part.steps == len(children)


# ---- equal calls


@pytest.mark.parametrize("ended", [[1], [0], [2, 1], [0, 2]], ids=str)
def test_of_equal_calls_those_that_had_not_ended_start_again_after_a_crash(ended: list[int]) -> None:
    async def code(run: Run) -> list[int]:
        return await asyncio.gather(*[double.start(run, 7) for _ in range(3)])

    driver = drive(code)
    driver.turn()
    for call in ended:
        driver.finish(call, call)
        driver.turn()
    driver.crash()
    driver.turn()
    assert sorted(driver.running) == [call for call in range(3) if call not in ended]
    for call in sorted(driver.running):
        driver.finish(call, call)
        driver.turn()
    assert driver.output == [0, 1, 2]
