"""State, logs, uuids and random numbers: the same on every replay, and within their limits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aiki import PayloadError, Run, task
from support.doubles import RESULTS, SECOND, double, drive, failure


@task
async def anything(value: Any) -> None: ...


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
