"""`run.log` has what a logger has, and never changes a run."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from aiki import Run, task, workflow
from aiki.context.log import CRITICAL, DEBUG, ERROR, INFO, WARNING, LogLine, RunLog
from support.sdk.driver import Driver


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


RECORD = logging.makeLogRecord({"msg": "%d items", "args": ("three",), "levelno": WARNING})
CALLS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(["debug", "info", "warning", "warn", "error", "exception", "critical", "fatal"], ("%d items", "three")),
    **dict.fromkeys(["addHandler", "removeHandler"], (logging.NullHandler(),)),
    **dict.fromkeys(["addFilter", "removeFilter"], (logging.Filter(),)),
    **dict.fromkeys(["handle", "callHandlers", "filter"], (RECORD,)),
    **dict.fromkeys(["getEffectiveLevel", "hasHandlers", "getChildren", "findCaller"], ()),
    "log": (WARNING, "%d items", "three"),
    "isEnabledFor": (DEBUG,),
    "setLevel": ("no level",),
    "getChild": ("payments",),
    "makeRecord": ("aiki.run", INFO, "file", 1, "said", (), None),
    "process": ("said", {"extra": {}}),
}
"""How each method is called; one that a new Python brings is missing here, and the law fails until it is thought of."""
PLAIN = logging.getLogger("aiki.run")
ATTRIBUTES = sorted({name for one in (PLAIN, logging.LoggerAdapter(PLAIN, {})) for name in dir(one) if not name.startswith("_")})


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_whatever_a_logger_has_answers_the_same_live_and_in_replay(name: str) -> None:
    answers: list[str] = []

    async def code(run: Run) -> str:
        found = getattr(run.log, name)
        if callable(found) and not isinstance(found, RunLog):
            found = found(*CALLS[name])
        else:
            setattr(run.log, name, logging.NullHandler())
            found = (found, getattr(run.log, name))
        answers.append(repr(found).partition(" object at ")[0])
        return await note.start(run, "here")

    driver = Driver(workflow("flow").v("1.0")(code))
    driver.turn()
    driver.crash()
    driver.run_tasks({"note": lambda what: what})
    assert driver.output == "here"
    assert len(answers) == 2
    assert answers[0] == answers[1]


def test_what_wraps_a_logger_wraps_the_log_of_a_run() -> None:
    log, lines = logged()
    adapter = logging.LoggerAdapter(logging.LoggerAdapter(log, {"a": 1}), {"b": 2})  # type: ignore[type-var]  # it is all that one needs
    adapter.warning("%d items", 3)
    log.info(msg="by its name", b=2)
    log.log(level="error", msg="by their names")
    log.handle(RECORD)
    log.handle(log.makeRecord("n", INFO, "f", 1, "%(a)s", ({"a": 1},), None))
    assert [(line.level, line.message) for line in lines] == [
        (WARNING, "3 items"),
        (INFO, "by its name"),
        (ERROR, "by their names"),
        (WARNING, "%d items ('three') [these do not fit together: TypeError]"),
        (INFO, "1"),
    ]
    assert lines[1].fields == {"b": 2}


def test_log_that_was_bound_adds_its_fields_and_is_silent_with_the_run_s() -> None:
    log, lines = logged()
    child = log.getChild("payments").bind(order=7)
    child.info("paid", order=8)
    child.info("paid", extra={"amount": 1})
    log.info("on")
    log.silent = True
    child.error("not heard")
    assert child.name == "aiki.run.payments"
    assert [line.fields for line in lines] == [
        {"logger": "aiki.run.payments", "order": 8},
        {"logger": "aiki.run.payments", "order": 7, "amount": 1},
        {},
    ]


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
