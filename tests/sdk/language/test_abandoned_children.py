"""Children that the code of their parent gives up: which are cancelled, once, and by which code."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from aiki import ChildCancelled, Run, workflow
from aiki.execution.loop.pending import Child
from aiki.execution.outcome import Cancelled, Completed
from aiki.protocol import Status
from support.doubles import RESULTS, SECOND, child_v2, double, drive
from support.sdk.driver import Driver


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
