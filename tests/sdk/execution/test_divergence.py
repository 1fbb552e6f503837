"""Changed code against recorded history: what is safe, what stops the run, and what the message says (S11)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest

from aiki import Event, NonRetryable, Retry, Run, TaskFailed, task, workflow
from aiki.execution.outcome import Completed
from support.sdk.driver import Driver


@task
async def charge(amount: int, note: str = "") -> int:
    return amount


@task
async def ship(item: str) -> str:
    return item


@task
async def send_sms(text: str) -> None: ...


RESULTS: dict[str, Any] = {"charge": lambda amount, note="": amount, "ship": lambda item: item, "send_sms": None}
paid = Event("paid")


def version(code: Any, removed: Iterable[Any] = ()) -> Any:
    return workflow("user-onboarding").v("1.0", removed=removed)(code)


def redeploy(driver: Driver, code: Any, removed: Iterable[Any] = ()) -> Driver:
    """The worker comes back with other code."""
    driver.definition = version(code, removed)
    driver.crash()
    return driver


async def old(run: Run) -> None:
    await charge.start(run, 10)
    await send_sms.start(run, "charged")
    await ship.start(run, "book")


def after_two() -> Driver:
    """A run of `old` that has charged and sent the message; shipping was reserved."""
    driver = Driver(version(old))
    driver.turn()
    for call in (0, 1):
        driver.finish(call, None if call else 10)
        driver.turn()
    assert sorted(driver.running) == [2]
    return driver


async def same(run: Run) -> None:
    await old(run)


async def reordered(run: Run) -> None:
    await asyncio.gather(ship.start(run, "book"), send_sms.start(run, "charged"), charge.start(run, 10))


async def more_at_the_end(run: Run) -> None:
    await old(run)
    await ship.start(run, "card")


async def with_a_default(run: Run) -> None:
    await charge.start(run, 10, note="")
    await send_sms.start(run, text="charged")
    await ship.start(run, "book")


async def new_beside(run: Run) -> None:
    await asyncio.gather(ship.start(run, "card"), old(run))


@pytest.mark.parametrize("code", [same, reordered, more_at_the_end, with_a_default, new_beside])
def test_change_that_is_safe(code: Any) -> None:
    driver = redeploy(after_two(), code)
    driver.run_tasks(RESULTS)
    assert isinstance(driver.outcome, Completed), driver.execution.stop
    assert [entry["a"] for entry in driver.history if entry["k"] == "call"].count("task:charge:1xxx") == 0
    assert sum(entry["l"] == "charge(amount=10)" for entry in driver.history if entry["k"] == "call") == 1


async def changed_input(run: Run) -> None:
    await charge.start(run, 12)
    await send_sms.start(run, "charged")


async def new_before(run: Run) -> None:
    await ship.start(run, "card")
    await old(run)


async def without_sms(run: Run) -> None:
    await charge.start(run, 10)
    await ship.start(run, "book")


async def stuck(run: Run) -> None:
    await charge.start(run, 10)
    await asyncio.Event().wait()


async def sleeps_instead(run: Run) -> None:
    await charge.start(run, 10)
    await run.sleep(5)


@pytest.mark.parametrize(
    ("code", "found", "recorded"),
    [
        (changed_input, "charge(amount=12)", "charge(amount=10)"),
        (new_before, 'ship(item="card")', "charge(amount=10)"),
        (without_sms, 'ship(item="book")', 'send_sms(text="charged")'),
        (stuck, "waits for nothing", 'send_sms(text="charged")'),
        (sleeps_instead, "sleep(5 s)", 'send_sms(text="charged")'),
    ],
)
def test_change_that_diverges_starts_nothing_and_writes_nothing(code: Any, found: str, recorded: str) -> None:
    driver = redeploy(after_two(), code)
    stop = driver.execution.stop
    assert stop is not None
    assert stop.type == "Divergence"
    assert found in stop.message
    assert f"recorded {recorded}" in stop.message
    length = len(driver.history)
    driver.turn()
    assert driver.running == {}
    assert len(driver.history) == length


def waiting(results: dict[str, Any]) -> Driver:
    """A run that has charged, sent a message, and waits for an event."""

    async def before(run: Run) -> None:
        await charge.start(run, 10)
        with suppress(TaskFailed):
            await send_sms.start(run, "charged")
        await run.wait(paid)
        await ship.start(run, "book")

    driver = Driver(version(before))
    driver.run_tasks(RESULTS | results)
    assert driver.execution.waits() is not None
    return driver


FAILS: dict[str, Any] = {"send_sms": NonRetryable("no such number")}


@pytest.mark.parametrize("results", [{}, FAILS], ids=["done", "failed"])
def test_removed_call_stops_the_run_where_something_new_follows_and_not_at_a_wait_that_is_on_record(results: dict[str, Any]) -> None:
    async def after(run: Run) -> None:
        await charge.start(run, 10)
        await run.wait(paid)
        await ship.start(run, "book")

    driver = redeploy(waiting(results), after)
    driver.turn()
    assert driver.execution.waits() is not None
    driver.send("paid")
    driver.tell()
    driver.turn()
    stop = driver.execution.stop
    assert stop is not None
    assert stop.message.startswith('user-onboarding 1.0 diverged at ship(item="book"): recorded send_sms(text="charged"). ')
    assert driver.running == {}
    assert [entry["a"].split(":")[1] for entry in driver.history if entry["k"] == "call"] == ["charge", "send_sms", "paid"]
    assert driver.kinds()[-1] == "done"  # the event was handed over, and stays so

    redeploy(driver, after, [send_sms]).run_tasks(RESULTS)
    assert isinstance(driver.outcome, Completed)


@pytest.mark.parametrize("results", [{}, FAILS], ids=["done", "failed"])
def test_removed_call_is_safe_where_nothing_new_follows(results: dict[str, Any]) -> None:
    async def after(run: Run) -> str:
        await charge.start(run, 10)
        await run.wait(paid)
        return "paid"

    driver = redeploy(waiting(results), after)
    driver.send("paid")
    driver.tell()
    driver.turn()
    assert driver.output == "paid"


@pytest.mark.parametrize("results", [{}, FAILS], ids=["done", "failed"])
def test_removed_call_that_is_asked_for_later_is_found(results: dict[str, Any]) -> None:
    async def after(run: Run) -> None:
        await charge.start(run, 10)
        await run.wait(paid)
        with suppress(TaskFailed):
            await send_sms.start(run, "charged")
        await ship.start(run, "book")

    driver = redeploy(waiting(results), after)
    driver.send("paid")
    driver.tell()
    driver.run_tasks(RESULTS)
    assert isinstance(driver.outcome, Completed)
    assert driver.kinds().count("call") == 4


@workflow("receipt").v("1")
async def receipt_v1(run: Run) -> None: ...


REMOVED_CALLS: dict[str, Any] = {
    "task": lambda run: send_sms.start(run, "charged"),
    "sleep": lambda run: run.sleep(60),
    "timer": lambda run: asyncio.ensure_future(asyncio.sleep(60)),
    "event": lambda run: run.wait(paid),
    "child": receipt_v1.start,
}


@pytest.mark.parametrize("kind", REMOVED_CALLS)
@pytest.mark.parametrize("tried", [False, True], ids=["once", "after a failed attempt"])
def test_removing_a_call_that_has_not_ended_is_safe_whatever_follows(kind: str, tried: bool) -> None:
    async def before(run: Run) -> None:
        await asyncio.gather(charge.start(run, 10), REMOVED_CALLS[kind](run))

    async def after(run: Run) -> str:
        await charge.start(run, 10)
        return await ship.start(run, "card")

    driver = Driver(version(before))
    driver.turn()
    driver.finish(0, 10)
    if tried and kind == "task":
        driver.fail(1, OSError("again"))
    driver.turn()
    redeploy(driver, after).run_tasks(RESULTS)
    assert driver.output == "card"
    assert driver.cancelled_children == []  # a child is told at the end, as any that nobody awaits


@pytest.mark.parametrize("ended", [False, True], ids=["it has not ended", "it has ended"])
def test_a_task_on_record_that_follows_a_removed_call_runs_only_where_that_is_said(ended: bool) -> None:
    driver = after_two()
    if ended:
        driver.finish(2, "book")
        driver.pump()
        driver.ack()
        driver.chunks = [json.dumps([entry for entry in driver.history if entry["k"] != "completed"])]
        driver.outcome = None
    redeploy(driver, without_sms).turn()
    if ended:
        assert isinstance(driver.outcome, Completed)  # its result is handed back
        return
    assert driver.execution.stop is not None
    assert "recorded send_sms" in driver.execution.stop.message
    assert driver.running == {}
    redeploy(driver, without_sms, [send_sms]).run_tasks(RESULTS)
    assert isinstance(driver.outcome, Completed)


@pytest.mark.parametrize("code", [changed_input, new_before])
def test_record_of_a_failure_is_a_record(code: Any) -> None:
    async def before(run: Run) -> None:
        with suppress(TaskFailed):
            await charge.start(run, 10)

    driver = Driver(version(before))
    driver.turn()
    driver.fail(0, NonRetryable("no"))
    driver.pump()
    driver.ack()
    driver.outcome = None
    driver.chunks = [json.dumps([entry for entry in driver.history if entry["k"] != "completed"])]
    assert redeploy(driver, code).execution.stop is not None


def test_message_names_both_calls_and_what_to_do() -> None:
    stop = redeploy(after_two(), changed_input).execution.stop
    assert stop is not None
    assert stop.message.startswith("user-onboarding 1.0 diverged at charge(amount=12): recorded charge(amount=10). Publish 1.1, or ")
    assert '.v("1.0", removed=["charge"])' in stop.message


def test_diverged_run_goes_on_with_the_right_code() -> None:
    driver = redeploy(after_two(), changed_input)
    redeploy(driver, old)
    driver.run_tasks(RESULTS)
    assert isinstance(driver.outcome, Completed)


@pytest.mark.parametrize("removed", [[send_sms], ["send_sms"]])
def test_call_that_is_said_to_be_removed_is_no_divergence(removed: list[Any]) -> None:
    driver = redeploy(after_two(), without_sms, removed)
    driver.run_tasks(RESULTS)
    assert isinstance(driver.outcome, Completed)


def test_removed_events_and_children_can_be_named() -> None:
    child = workflow("child")

    @child.v("1")
    async def child_v1(run: Run) -> None: ...

    async def before(run: Run) -> None:
        await run.wait(paid)
        await child_v1.start(run)
        await charge.start(run, 1)

    async def after(run: Run) -> None:
        await charge.start(run, 1)
        await charge.start(run, 2)

    driver = Driver(version(before))
    driver.send("paid")
    driver.tell()
    driver.turn()
    driver.end_child(next(iter(driver.children)))
    driver.tell()
    driver.turn()
    redeploy(driver, after)
    assert driver.execution.stop is not None
    redeploy(driver, after, [paid, child_v1])
    driver.run_tasks(RESULTS)
    assert isinstance(driver.outcome, Completed)


@workflow("child").v("1.0")
async def child_v1(run: Run) -> None: ...


@task(name="mail:send")
async def send_mail(text: str) -> None: ...


@pytest.mark.parametrize(
    "gone",
    [
        lambda run: run.wait(paid),
        child_v1.start,
        lambda run: run.sleep(5),
        lambda run: asyncio.sleep(5),
        lambda run: send_mail.start(run, "hello"),
    ],
    ids=["event", "child", "sleep", "timer", "task"],
)
def test_what_the_message_says_to_write_for_a_removed_call_is_what_helps(gone: Any) -> None:
    async def before(run: Run) -> None:
        await gone(run)
        await charge.start(run, 1)

    async def after(run: Run) -> None:
        await charge.start(run, 2)

    driver = Driver(version(before))
    driver.turn()
    driver.send("paid")
    for child in driver.children:
        driver.end_child(child)
    for call in list(driver.running):
        driver.finish(call, None)
    driver.tell()
    driver.now += 5_000_000
    driver.turn()
    stop = redeploy(driver, after).execution.stop
    assert stop is not None
    said = re.search(r"removed=(\[.*\])", stop.message)
    assert said is not None
    redeploy(driver, after, json.loads(said[1])).run_tasks(RESULTS)
    assert isinstance(driver.outcome, Completed)


def test_record_left_over_at_the_end_is_a_warning() -> None:
    async def only_charge(run: Run) -> str:
        await charge.start(run, 10)
        return "done"

    driver = redeploy(after_two(), only_charge)
    driver.turn()
    assert driver.output == "done"
    assert any("task:send_sms:" in message for _, message, _ in driver.logged)


def test_reservation_without_a_record_is_never_left_over() -> None:
    async def two(run: Run) -> None:
        await asyncio.gather(charge.start(run, 1), ship.start(run, "book"))

    async def one(run: Run) -> None:
        await charge.start(run, 1)
        await send_sms.start(run, "new")

    driver = Driver(version(two))
    driver.turn()
    driver.finish(0, 1)
    driver.turn()
    redeploy(driver, one)
    driver.run_tasks(RESULTS)
    assert isinstance(driver.outcome, Completed)


def test_equal_calls_are_found_first_in_first_out() -> None:
    async def three(run: Run) -> list[int]:
        return list(await asyncio.gather(*(charge.start(run, 1) for _ in range(3))))

    driver = Driver(version(three))
    driver.turn()
    driver.finish(1, 11)
    driver.turn()
    driver.crash()
    driver.turn()
    assert sorted(driver.running) == [0, 2]
    driver.finish(2, 12)
    driver.finish(0, 10)
    driver.turn()
    assert driver.output == [10, 11, 12]


@pytest.mark.parametrize("error", [None, ValueError("declined")], ids=["done", "failed"])
def test_a_call_that_was_left_out_diverges_however_it_ended(error: Exception | None) -> None:
    async def before(run: Run) -> None:
        with suppress(TaskFailed):
            await once.start(run, 10)
        await ship.start(run, "book")

    async def after(run: Run) -> None:
        await ship.start(run, "pen")

    driver = Driver(version(before))
    driver.turn()
    driver.fail(0, error) if error else driver.finish(0, 10)
    driver.turn()
    stored = list(driver.chunks)
    redeploy(driver, after)
    assert driver.execution.stop is not None
    assert driver.execution.stop.type == "Divergence"
    driver.turn()
    assert driver.chunks == stored
    assert not driver.running


@task(retry=Retry.never())
async def once(amount: int) -> int:
    return amount
