"""Events: how they come to the code that waits, and what happens to a payload that does not fit."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from aiki import Event, Run
from aiki.execution.outcome import Cancelled
from support.doubles import RESULTS, SECOND, double, drive, verified
from support.sdk.driver import START, Driver


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
