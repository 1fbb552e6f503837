"""Races and sagas: who loses is cancelled, and what was done is undone."""

from __future__ import annotations

from typing import Any

import pytest

from aiki import Event, Run, task, workflow
from aiki.execution.outcome import Cancelled
from support.doubles import SECOND, double, drive, failure, undo
from support.sdk.driver import Driver


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
