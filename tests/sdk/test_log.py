"""`run.log` has what a logger has, and never changes a run."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from aiki import Run, task, workflow
from aiki.log import CRITICAL, DEBUG, ERROR, INFO, WARNING, LogLine, RunLog
from execution_driver import Driver


class Rude:
    def __str__(self) -> str:
        raise ValueError("not today")

    __repr__ = __str__


def logged() -> tuple[RunLog, list[LogLine]]:
    lines: list[LogLine] = []
    return RunLog(lines.append), lines


@pytest.mark.parametrize(
    ("message", "args", "shown"),
    [
        ("%d items", (3,), "3 items"),
        ("%d items", ("three",), "%d items ('three') [these do not fit together: TypeError]"),
        ("%s and %s", (1,), "%s and %s (1) [these do not fit together: TypeError]"),
        ("plain", (1, 2), "plain (1, 2) [these do not fit together: TypeError]"),
        ("%(a)s", ({"a": 1},), "1"),
        ("%(b)s", ({"a": 1},), "%(b)s ({'a': 1}) [these do not fit together: KeyError]"),
        ("100 %", (), "100 %"),
        ({"a": 1}, (), "{'a': 1}"),
        ("%s", (Rude(),), "%s (<Rude.__repr__ raised ValueError>) [these do not fit together: ValueError]"),
        (Rude(), (), "<Rude.__repr__ raised ValueError> () [these do not fit together: ValueError]"),
    ],
    ids=range(10),
)
def test_line_is_shown_as_well_as_it_can_be(message: Any, args: tuple[Any, ...], shown: str) -> None:
    log, lines = logged()
    log.info(message, *args)
    log.silent = True
    log.info(message, *args)
    assert [line.message for line in lines] == [shown]


@pytest.mark.parametrize(
    ("method", "level"),
    [
        ("debug", DEBUG),
        ("info", INFO),
        ("warning", WARNING),
        ("warn", WARNING),
        ("error", ERROR),
        ("exception", ERROR),
        ("critical", CRITICAL),
        ("fatal", CRITICAL),
    ],
)
def test_methods_are_those_of_a_logger(method: str, level: int) -> None:
    log, lines = logged()
    getattr(log, method)("%s paid", "Ann", amount=3, message="a field", extra={"more": 1})
    assert hasattr(logging.Logger, method)
    assert (lines[0].level, lines[0].message, lines[0].fields) == (level, "Ann paid", {"amount": 3, "message": "a field", "more": 1})


@pytest.mark.parametrize(("given", "level"), [(35, 35), ("warning", WARNING), ("odd", INFO), (None, INFO)])
def test_level_can_be_given(given: Any, level: int) -> None:
    log, lines = logged()
    log.log(given, "here")
    assert lines[0].level == level


def test_answers_do_not_depend_on_settings() -> None:
    log, _ = logged()
    assert log.isEnabledFor(DEBUG)
    assert log.getEffectiveLevel() <= DEBUG


def test_exception_brings_its_traceback() -> None:
    log, lines = logged()
    try:
        raise KeyError("x")
    except KeyError as error:
        log.exception("went wrong")
        log.info("again", exc_info=error)
        log.exception("without", exc_info=False)  # noqa: LOG007  that is the test
    log.exception("outside")  # noqa: LOG004  that is the test
    assert [line.traceback is not None and "KeyError: 'x'" in line.traceback for line in lines] == [True, True, False, False]


def test_handler_that_raises_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_: LogLine) -> None:
        raise OSError("disk full")

    RunLog(broken).info("here")
    assert "disk full" in capsys.readouterr().err


@task
async def note(what: str) -> str:
    return what


def test_run_goes_the_same_way_whatever_it_logs() -> None:
    async def code(run: Run) -> str:
        try:
            run.log.info("%d items", "three")
            run.log.exception("%s", Rude())  # noqa: LOG004  that is the test
        except Exception as error:  # noqa: BLE001  as users write it
            return await note.start(run, type(error).__name__)
        return await note.start(run, "logged")

    driver = Driver(workflow("flow").v("1.0")(code))
    driver.turn()
    driver.crash()
    driver.run_tasks({"note": lambda what: what})
    assert driver.output == "logged"
