"""Code that a workflow must not contain: every error names the line to change, and nothing such code asked for takes effect."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable
from typing import Any, Self

import pytest

from aiki import NonRetryable, Run, task, workflow
from aiki.execution.execution import Execution
from aiki.execution.outcome import Cancelled, Failed
from aiki.worker.tasks.blocking_guard import BlockingGuard
from support.doubles import double, drive
from support.sdk.driver import START


@task
def plain(value: int) -> int:
    return 2 * value


@workflow("child").v("1")
async def child_v1(run: Run) -> None: ...


def line_of(code: Any, offset: int) -> str:
    return f"{__file__}:{code.__code__.co_firstlineno + offset}"


def test_forgotten_await_stops_the_run_and_names_the_line() -> None:
    async def code(run: Run) -> None:
        asyncio.sleep(1)  # type: ignore[unused-coroutine]
        await double.start(run, 1)

    driver = drive(code)
    stop = driver.execution.stop
    assert stop is not None
    assert stop.type == "NeverAwaited"
    assert line_of(code, 1) in stop.message
    driver.turn()
    assert driver.running == {}
    assert driver.chunks == []


class Odd:
    pass


BAD_STATES: list[tuple[Any, str]] = [
    ({1, 2}, "JSON has no set"),
    (Odd(), "JSON has no Odd"),
    (float("nan"), "JSON has no NaN"),
    (10**1001, "an integer of more than 1000 digits"),
    ({1: 2}, "a key of type int comes back as a str"),
    ("x" * 2_100_000, "bytes of JSON are more than"),
]


@pytest.mark.parametrize(("value", "reason"), BAD_STATES, ids=range(len(BAD_STATES)))
@pytest.mark.parametrize("when", ["at once", "after a task", "at the end"])
def test_state_changed_in_place_to_what_json_does_not_hold_pauses_the_run_and_names_the_key(value: Any, reason: str, when: str) -> None:
    broken = True

    async def code(run: Run) -> int:
        run.state["fine"] = 1
        run.state["seen"] = []
        if when == "at once" and broken:
            run.state["seen"].append(value)
        first = await double.start(run, 1)
        if when == "after a task" and broken:
            run.state["seen"].append(value)
        second = await double.start(run, first)
        if broken:
            run.state["seen"].append(value)
        return second

    driver = drive(code)
    driver.run_tasks({"double": lambda value: 2 * value})
    stop = driver.execution.stop
    assert stop is not None
    assert driver.outcome is None
    assert driver.running == {}
    assert stop.type == "PayloadError"
    assert "flow 1.0: run.state['seen'] was changed in place after it was assigned" in stop.message
    assert reason in stop.message
    assert "run.state['seen'] = …" in stop.message
    ends = [entry["k"] for entry in driver.history if entry["k"] in ("done", "completed")]
    assert ends == ["done"] * ["at once", "after a task", "at the end"].index(when)  # what has ended by then is kept
    broken = False
    driver.crash()
    driver.run_tasks({"double": lambda value: 2 * value})
    assert driver.output == 4


def test_states_that_are_too_much_together_say_so() -> None:
    async def code(run: Run) -> None:
        run.state["a"], run.state["b"] = [], []
        for key in "ab":
            run.state[key].append("x" * 1_500_000)

    driver = drive(code)
    driver.turn()
    assert driver.execution.stop is not None
    assert "run.state was changed in place, and is more than can be stored: 3000" in driver.execution.stop.message


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_run_that_fails_or_is_cancelled_ends_whatever_its_state(how: str) -> None:
    async def code(run: Run) -> None:
        run.state["seen"] = []
        await double.start(run, 1)
        try:
            await double.start(run, 2)
        finally:
            run.state["seen"].append({1})

    driver = drive(code)
    driver.turn()
    driver.finish(0, 2)
    driver.turn()
    if how == "fails":
        driver.fail(1, NonRetryable("no"))
    else:
        driver.cancel()
        driver.tell()
    driver.turn()
    assert isinstance(driver.outcome, Failed if how == "fails" else Cancelled)
    assert any("run.state['seen']" in message for _, message, _ in driver.logged)


def test_what_setdefault_answers_is_what_is_kept() -> None:
    async def code(run: Run) -> list[str]:
        given: list[str] = []
        run.state.setdefault("seen", given).append("a")
        run.state.setdefault("seen", []).append("b")
        return [*given, *run.state["seen"]]

    driver = drive(code)
    driver.turn()
    assert driver.output == ["a", "b"]
    assert driver.states == ['{"seen":["a","b"]}']


def test_forgotten_await_takes_back_that_a_child_was_given_up() -> None:
    async def code(run: Run) -> None:
        child = child_v1.start(run)
        await double.start(run, 1)
        child.cancel()
        asyncio.sleep(1)  # type: ignore[unused-coroutine]

    driver = drive(code)
    driver.turn()
    driver.finish(1, 2)
    driver.turn()
    assert driver.execution.stop is not None
    assert driver.kinds() == ["began", "call", "call", "done"]
    assert driver.cancelled_children == []


def test_forgotten_await_keeps_the_end_that_came_before() -> None:
    async def code(run: Run) -> None:
        await double.start(run, 1)
        double.map(run, [1])  # type: ignore[unused-coroutine]
        await double.start(run, 2)

    driver = drive(code)
    driver.turn()
    driver.finish(0, 2)
    driver.turn()
    assert driver.execution.stop is not None
    assert driver.kinds() == ["began", "call", "done"]


def test_coroutine_never_awaited_elsewhere_is_python_s_own_warning() -> None:
    with pytest.warns(RuntimeWarning, match="never awaited"):
        asyncio.sleep(1)  # type: ignore[unused-coroutine]


def test_forgotten_await_of_another_run_that_the_collector_finds_is_python_s_own_warning() -> None:
    async def forgetful(run: Run) -> None:
        cycle: list[Any] = [asyncio.sleep(1)]
        cycle.append(cycle)
        del cycle
        await double.start(run, 1)

    async def innocent(run: Run) -> None:
        gc.collect()
        await double.start(run, 1)

    gc.disable()
    try:
        drive(forgetful)
        with pytest.warns(RuntimeWarning, match="never awaited"):
            driver = drive(innocent)
    finally:
        gc.enable()
    assert driver.execution.stop is None


@pytest.mark.parametrize("definition", [double, plain])
def test_task_called_directly_is_an_error_in_workflow_code_only(definition: Any) -> None:
    async def code(run: Run) -> None:
        definition(1)

    driver = drive(code)
    driver.turn()
    assert isinstance(driver.outcome, Failed)
    assert driver.outcome.error.type == "NotAllowedInWorkflow"
    assert line_of(code, 1) in driver.outcome.error.message
    assert ".start(run, …)" in driver.outcome.error.message
    assert plain(4) == 8


async def connect() -> None:
    await asyncio.open_connection("localhost", 1)


async def to_thread() -> None:
    await asyncio.to_thread(print)


async def subprocess() -> None:
    await asyncio.create_subprocess_exec("true")


async def resolve() -> None:
    await asyncio.get_running_loop().getaddrinfo("localhost", 1)


async def call_from_thread() -> None:
    asyncio.get_running_loop().call_soon_threadsafe(print)


@pytest.mark.parametrize("io", [connect, to_thread, subprocess, resolve, call_from_thread])
def test_io_in_workflow_code_says_do_this_in_a_task(io: Callable[[], Any]) -> None:
    async def code(run: Run) -> None:
        await io()

    driver = drive(code)
    driver.turn()
    assert isinstance(driver.outcome, Failed)
    error = driver.outcome.error
    assert error.type == "NotAllowedInWorkflow"
    assert "do this in a task" in error.message
    assert line_of(io, 1) in error.message


def test_error_that_nobody_looked_at_is_logged() -> None:
    async def code(run: Run) -> None:
        async def background() -> None:
            raise ValueError("unseen")

        asyncio.ensure_future(background())  # noqa: RUF006  that is the test
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    driver = drive(code)
    driver.turn()
    gc.collect()  # 3.12 leaves the error and its frame in a cycle
    driver.execution.close()
    assert any("unseen" in message for _, message, _ in driver.logged), driver.logged


class Watchdog:
    """Interrupts whatever settles, at once."""

    def __init__(self) -> None:
        self.guard = BlockingGuard()
        self.begun = threading.Event()
        self.place: str | None = None
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        assert self.begun.wait(10)
        serial = self.guard.running
        assert serial is not None
        self.place = self.guard.interrupt(serial)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.begun.set()
        self._thread.join(10)


def execute(code: Any, guard: BlockingGuard) -> Execution:
    definition = workflow("flow").v("1.0")(code)
    return Execution(
        definition,
        run_id="00" + "a" * 30,
        input="null",
        history=[],
        inbox=[],
        inbox_seen=0,
        now=START,
        workflow="flow",
        version="1.0",
        log=lambda line: None,
        guard=guard,
    )


@pytest.mark.parametrize("swallow", [False, True])
def test_code_that_blocks_the_loop_is_stopped_with_its_line(swallow: bool) -> None:
    with Watchdog() as watchdog:

        async def code(run: Run) -> int:
            watchdog.begun.set()
            count = 0
            try:
                while watchdog.place is None or not swallow or count < 10:
                    count += 1
            except BaseException:
                if not swallow:
                    raise
            return count

        execution = execute(code, watchdog.guard)
    assert execution.stop is not None
    assert execution.stop.type == "BlockedLoop"
    assert f"{__file__}:" in execution.stop.message
    assert "do this in a task" in execution.stop.message
    assert execution.take_commit() is None
    assert watchdog.guard.running is None


def test_late_interruption_reaches_no_other_code() -> None:
    guard = BlockingGuard()
    guard.enter()
    serial = guard.running
    assert guard.leave() is None
    assert serial is not None
    assert guard.interrupt(serial) is None


@pytest.mark.skipif(sys.gettrace() is not None, reason="the tracer's own locks do not bear an interruption at any instruction")
def test_interruptions_are_never_seen_outside_of_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hammers the guard from another thread; an exception that came late would end the test."""
    monkeypatch.setattr(sys, "unraisablehook", lambda told: None)  # an interruption may hit a __del__ of what settles
    guard = BlockingGuard()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            serial = guard.running
            if serial is not None:
                guard.interrupt(serial)

    thread = threading.Thread(target=watch)
    thread.start()

    async def code(run: Run) -> int:
        return sum(range(50))

    stopped = 0
    try:
        for _ in range(2_000):
            execution = execute(code, guard)
            stopped += execution.stop is not None
            sum(range(50))
            execution.close()
    finally:
        over.set()
        thread.join(10)
    assert guard.running is None
    assert stopped <= 2_000
