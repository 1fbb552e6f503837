"""What counts as blocking the loop: computing for long, or standing still, but not a machine that is slow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from aiki.context.control_signals import BlockedLoop
from aiki.worker.tasks.blocking_guard import BlockingGuard
from aiki.worker.tasks.stopwatch import Stopwatch, cpu_clock
from aiki.worker.tasks.watchdog import Watchdog


class Machine:
    """Time that passes, and CPU time that the thread gets of it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.used = 5.0

    def run(self, seconds: float, *, share: float) -> None:
        self.now += seconds
        self.used += seconds * share

    def stopwatch(self) -> Stopwatch:
        return Stopwatch(clock=lambda: self.now, cpu=lambda: self.used, tick_seconds=1.0)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def held_up(machine: Machine, *shares: float, each: float = 1.0) -> float:
    watch = machine.stopwatch()
    seconds = 0.0
    for share in shares:
        machine.run(each, share=share)
        seconds = watch.look()
    return seconds


def test_code_that_computes_is_judged_by_its_cpu_time(machine: Machine) -> None:
    assert held_up(machine, 1.0, 1.0) == pytest.approx(2.0)
    assert held_up(machine, *[0.1] * 5) == pytest.approx(0.5)


def test_code_that_stands_still_is_judged_by_the_time_that_passed(machine: Machine) -> None:
    assert held_up(machine, 0.0, 0.0, 0.0) == pytest.approx(3.0)
    assert held_up(machine, 0.5, 0.0, 0.0) == pytest.approx(2.0)


def test_process_that_was_stopped_did_not_stand_still(machine: Machine) -> None:
    assert held_up(machine, 0.0, each=600.0) == pytest.approx(1.5)


def test_cpu_clock_is_that_of_the_thread() -> None:
    clock, other = cpu_clock(threading.get_ident()), threading.Event()
    idle = threading.Thread(target=other.wait)
    idle.start()
    assert idle.ident is not None
    its, before = cpu_clock(idle.ident), clock()
    its_before = its()
    while clock() - before < 0.02:
        sum(range(1000))
    assert its() - its_before < 0.02
    other.set()
    idle.join()


@pytest.fixture
def guard() -> Iterator[BlockingGuard]:
    """Left at the end, with what was posted absorbed."""
    made = BlockingGuard()
    yield made
    made.leave()


@pytest.mark.parametrize(("share", "interrupted"), [(0.1, False), (1.0, True), (0.0, True)])
async def test_only_code_that_holds_up_the_loop_by_itself_is_interrupted(
    machine: Machine, guard: BlockingGuard, share: float, interrupted: bool
) -> None:
    watchdog = Watchdog(
        guard=guard, active=lambda: 1, patience_seconds=2.0, tick_seconds=1.0, clock=lambda: machine.now, cpu=lambda: machine.used
    )

    def run_until_idle() -> bool:
        guard.enter()
        watchdog.look()
        try:
            for _ in range(5):
                machine.run(1.0, share=share)
                look = threading.Thread(target=watchdog.look)
                look.start()
                look.join()
            return guard.leave() is not None
        except BlockedLoop:
            return guard.leave() is not None

    assert run_until_idle() is interrupted
    await asyncio.sleep(0)


async def test_code_that_cannot_be_interrupted_is_told_of_once(
    machine: Machine, guard: BlockingGuard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Code that waits in C hears of it only when it comes back."""
    watchdog = Watchdog(
        guard=guard, active=lambda: 1, patience_seconds=2.0, tick_seconds=1.0, clock=lambda: machine.now, cpu=lambda: machine.used
    )
    monkeypatch.setattr(BlockingGuard, "interrupt", lambda _, serial: "flows.py:7")
    for _ in range(2):
        guard.enter()
        for _ in range(8):
            watchdog.look()
            machine.run(1.0, share=0.0)
        guard.leave()
    assert watchdog.interrupted == len(caplog.records) == 2
