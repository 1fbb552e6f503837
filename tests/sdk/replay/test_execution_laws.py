"""Laws of replay (S11, S12, S14, S15): random programs, random outside worlds, crashes at random points.

A program is a tree of nodes. `run` interprets it as workflow code; where its result does not depend on timing, `expected` says what it
is without any of Aiki. Everything the code sees is kept as a trace: a replay must see what the activation before it saw.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiki import ChildFailed, Event, Retry, Run, TaskFailed, task, workflow
from aiki.execution.outcome import Completed
from aiki.protocol import ErrorInfo, Status
from support.sdk.driver import START, Driver

SECOND = 1_000_000


@task(retry=Retry.exponential(max_attempts=3, base_delay=2, max_delay=20))
async def step(name: str, value: int) -> int:
    raise AssertionError("the driver answers")


event = Event("news", int)
child_flow = workflow("child")


@child_flow.v("1")
async def child_v1(run: Run, value: int) -> int:
    raise AssertionError("the driver answers")


@dataclass
class World:
    """What the code saw, in order."""

    trace: list[tuple[Any, ...]] = field(default_factory=list)
    cancelled_children: set[str] = field(default_factory=set)

    def saw(self, *what: Any) -> None:
        self.trace.append(what)


class Node:
    """`steady` nodes give the same result whatever the timing."""

    @property
    def steady(self) -> bool:
        return True

    async def run(self, run: Run, world: World, value: int) -> int:
        raise NotImplementedError

    def expected(self, value: int) -> int:
        raise NotImplementedError


def answer(name: str, value: int) -> int | None:
    """What a task answers; None: it fails for good."""
    number = sum(ord(letter) for letter in name) + 7 * value
    return None if number % 11 == 0 else number % 17


@dataclass
class TaskNode(Node):
    name: str

    async def run(self, run, world, value):
        world.saw("asked", self.name, value % 3)
        try:
            got = await step.start(run, self.name, value % 3)
        except TaskFailed as failed:
            world.saw("failed", self.name, failed.error.message)
            return 100
        world.saw("result", self.name, got)
        return got

    def expected(self, value):
        got = answer(self.name, value % 3)
        return 100 if got is None else got


@dataclass
class ChildNode(Node):
    abandon: bool

    async def run(self, run, world, value):
        child = child_v1.start(run, value % 3, on_parent_close="abandon" if self.abandon else "cancel")
        world.saw("child", child.id)
        try:
            return await child
        except asyncio.CancelledError:
            if not self.abandon:
                world.cancelled_children.add(child.id)
            raise
        except ChildFailed as failed:
            world.saw("child failed", failed.type)
            return 50

    def expected(self, value):
        got = answer("child", value % 3)
        return 50 if got is None else got


@dataclass
class SleepNode(Node):
    seconds: int
    native: bool

    async def run(self, run, world, value):
        await (asyncio.sleep(self.seconds) if self.native else run.sleep(self.seconds))
        world.saw("now", run.now().isoformat(), run.random(), str(run.uuid()))
        return value

    def expected(self, value):
        return value


@dataclass
class Sequence(Node):
    parts: list[Node]

    @property
    def steady(self) -> bool:
        return all(part.steady for part in self.parts)

    async def run(self, run, world, value):
        for part in self.parts:
            value = await part.run(run, world, value)
            run.state["value"] = value
        return value

    def expected(self, value):
        for part in self.parts:
            value = part.expected(value)
        return value


@dataclass
class Parallel(Node):
    parts: list[Node]
    group: bool
    limit: int

    @property
    def steady(self) -> bool:
        return all(part.steady for part in self.parts)

    async def run(self, run, world, value):
        lock = asyncio.Semaphore(self.limit)

        async def one(index: int, part: Node) -> int:
            async with lock:
                return await part.run(run, world, value + index)

        if not self.group:
            return sum(await asyncio.gather(*(one(index, part) for index, part in enumerate(self.parts))))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(index, part)) for index, part in enumerate(self.parts)]
        return sum(task.result() for task in tasks)

    def expected(self, value):
        return sum(part.expected(value + index) for index, part in enumerate(self.parts))


@dataclass
class Branch(Node):
    test: Node
    yes: Node
    no: Node

    @property
    def steady(self) -> bool:
        return self.test.steady and self.yes.steady and self.no.steady

    async def run(self, run, world, value):
        got = await self.test.run(run, world, value)
        return await (self.yes if got % 2 else self.no).run(run, world, got)

    def expected(self, value):
        got = self.test.expected(value)
        return (self.yes if got % 2 else self.no).expected(got)


@dataclass
class WaitNode(Node):
    timeout: int | None

    @property
    def steady(self) -> bool:
        return False

    async def run(self, run, world, value):
        if self.timeout is None:
            got = await run.wait(event)
            world.saw("event", got)
            return got
        answer = await run.wait(event, timeout=self.timeout)
        world.saw("event", answer)
        return answer.payload if answer else value


@dataclass
class Race(Node):
    left: Node
    right: Node

    @property
    def steady(self) -> bool:
        return False

    async def run(self, run, world, value):
        won = await run.first(left=self.left.run(run, world, value), right=self.right.run(run, world, value + 1))
        world.saw("won", won)
        return won.result * 2 + (won.name == "left")


@dataclass
class Peek(Node):
    """Looks at timing."""

    left: Node
    right: Node

    @property
    def steady(self) -> bool:
        return False

    async def run(self, run, world, value):
        left = asyncio.ensure_future(self.left.run(run, world, value))
        right = asyncio.ensure_future(self.right.run(run, world, value + 1))
        got = await left
        world.saw("peek", right.done())
        return got + (await right if not right.done() else 7 + right.result())


@dataclass
class Timeout(Node):
    part: Node
    seconds: int

    @property
    def steady(self) -> bool:
        return False

    async def run(self, run, world, value):
        try:
            async with asyncio.timeout(self.seconds):
                return await self.part.run(run, world, value)
        except TimeoutError:
            world.saw("timeout", self.seconds)
            return 31


@dataclass
class Saga(Node):
    part: Node

    @property
    def steady(self) -> bool:
        return self.part.steady

    async def run(self, run, world, value):
        try:
            async with run.saga() as saga:
                saga.undo(step, "undo", value % 3)
                got = await self.part.run(run, world, value)
                if got % 3 == 0:
                    raise ArithmeticError
                return got
        except ArithmeticError as error:
            world.saw("undone", getattr(error, "__notes__", []))
            return 13

    def expected(self, value):
        got = self.part.expected(value)
        return 13 if got % 3 == 0 else got


def nodes(*, steady: bool) -> st.SearchStrategy[Any]:
    leaves: list[st.SearchStrategy[Any]] = [
        st.builds(TaskNode, st.sampled_from("abcd")),
        st.builds(TaskNode, st.sampled_from("abcd")),
        st.builds(ChildNode, st.booleans()),
        st.builds(SleepNode, st.integers(1, 30), st.booleans()),
    ]
    if not steady:
        leaves.append(st.builds(WaitNode, st.sampled_from([None, 5, 40])))

    def inner(part: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        kinds = [
            st.builds(Sequence, st.lists(part, min_size=1, max_size=3)),
            st.builds(Parallel, st.lists(part, min_size=1, max_size=4), st.booleans(), st.integers(1, 3)),
            st.builds(Branch, part, part, part),
            st.builds(Saga, part),
        ]
        if not steady:
            kinds += [st.builds(Race, part, part), st.builds(Peek, part, part), st.builds(Timeout, part, st.integers(1, 25))]
        return st.one_of(kinds)

    return st.recursive(st.one_of(leaves), inner, max_leaves=8)


def families() -> st.SearchStrategy[Any]:
    """Programs that give children up more often than others do."""
    child = st.builds(ChildNode, st.booleans())
    part = st.one_of(child, st.builds(TaskNode, st.sampled_from("abcd")), st.builds(SleepNode, st.integers(1, 30), st.booleans()))
    losing = st.one_of(
        st.builds(Race, child, part), st.builds(Timeout, st.builds(Sequence, st.lists(child, min_size=1)), st.integers(1, 25))
    )
    return st.builds(Sequence, st.lists(st.one_of(losing, st.builds(Race, losing, part)), min_size=1, max_size=4))


@dataclass
class Trial:
    """A program in the hands of a driver; `traces` has what each activation saw."""

    node: Node
    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        flow = workflow("law")

        @flow.v("1.0")
        async def law(run: Run, value: int) -> int:
            self.world.trace.clear()
            self.world.cancelled_children.clear()
            return await self.node.run(run, self.world, value)

        self.driver = Driver(law, 1)
        self.cancelled = False

    def actions(self) -> list[str]:
        driver = self.driver
        actions = ["crash"]
        if driver.running:
            actions += ["task"] * 4
        if driver.unacked:
            actions += ["ack"] * 3
        if driver.execution.next_due() is not None:
            actions += ["time"]
        if set(driver.children) - driver.ended_children:
            actions += ["child"] * 2
        return [*actions, "pump", "news"]

    def do(self, action: str, draw: Any, *, noise: bool) -> None:
        driver = self.driver
        match action:
            case "crash":
                self.crash(draw(st.integers(0, 2)))
            case "task":
                self.end_task(draw(st.sampled_from(sorted(driver.running))), slip=draw(st.integers(0, 5)) == 0)
            case "ack":
                driver.ack(draw(st.integers(1, len(driver.unacked))))
            case "time":
                driver.now = max(driver.now, driver.execution.next_due() or 0) + draw(st.integers(0, 2)) * SECOND
                driver.pump()
            case "child":
                self.end_child(draw(st.sampled_from(sorted(set(driver.children) - driver.ended_children))))
                driver.tell()
            case "news":
                if noise:
                    self.make_noise(draw(st.integers(0, 12)))
                driver.tell()
                driver.pump()
            case "pump":
                driver.pump()

    def make_noise(self, number: int) -> None:
        if number == 0 and not self.cancelled:
            self.cancelled = True
            self.driver.cancel()
        elif number < 7:
            self.driver.send("news" if number < 5 else "other", number)

    def end_task(self, call: int, *, slip: bool) -> None:
        attempt = self.driver.running[call]
        if attempt.not_before is not None:
            self.driver.now = max(self.driver.now, attempt.not_before)
        name, value = attempt.kwargs["name"], attempt.kwargs["value"]
        got = answer(name, value)
        if got is None or (slip and attempt.attempt < 3):
            self.driver.fail(call, RuntimeError(f"no answer for {name}"))
        else:
            self.driver.finish(call, got)
        self.driver.pump()

    def end_child(self, child: str) -> None:
        got = answer("child", json.loads(self.driver.children[child].input))
        if got is None:
            self.driver.end_child(child, status=Status.FAILED, error=ErrorInfo(type="Sad", message="no answer"))
        else:
            self.driver.end_child(child, got)

    def crash(self, acked: int) -> None:
        """Some of what was written is stored, the rest is lost; the replay sees a prefix of what the code saw."""
        driver = self.driver
        if acked:
            driver.ack(acked)
        saw = list(self.world.trace)
        driver.crash()
        assert driver.execution.stop is None, driver.execution.stop
        if driver.chunks:  # else the run begins again, at another instant
            assert self.world.trace == saw[: len(self.world.trace)]

    def claim_twice(self, draw: Any) -> None:
        """What a claim leads to by itself, another claim leads to as well, whatever came in between: so its tasks may start unstored."""
        driver = self.driver
        driver.crash()
        first = self.begin()
        for _ in range(draw(st.integers(0, 3))):
            driver.now += draw(st.integers(0, 20 * SECOND))
            self.make_noise(draw(st.integers(0, 12)))
            if open_children := sorted(set(driver.children) - driver.ended_children):
                self.end_child(open_children[0])
        driver.crash()
        second = self.begin()
        assert second[: len(first)] == first
        driver.crash()

    def begin(self) -> list[tuple[Any, ...]]:
        """Hands over what came with a claim, and no more; what the code asked for and saw, but for its instants."""
        driver, claimed_at = self.driver, self.driver.now
        driver.now += 1
        driver.crash()
        driver.execution.advance(claimed_at)
        return [(what[0], *what[2:]) if what[0] in ("now", "child") else what for what in self.world.trace]

    def run_until_idle(self) -> None:
        """Everything that can still happen happens, with events as long as some are waited for."""
        driver = self.driver
        for _ in range(3_000):
            driver.tell()
            driver.turn()
            if driver.outcome is not None:
                return
            assert driver.execution.stop is None, driver.execution.stop
            if driver.running:
                self.end_task(min(driver.running), slip=False)
            elif open_children := sorted(set(driver.children) - driver.ended_children):
                self.end_child(open_children[0])
            elif (due := driver.execution.next_due()) is not None:
                driver.now = max(driver.now, due)
            else:
                waits = driver.execution.waits()
                assert waits is not None
                assert waits.events == ["news"], waits
                driver.send("news", 3)
        raise AssertionError("no end")

    def check_fixed_point(self) -> None:
        """Replay over the whole history asks for nothing new and ends as the run ended."""
        saw, output = list(self.world.trace), self.driver.outcome
        history = [entry for entry in self.driver.history if entry["k"] not in ("completed", "failed_run", "cancelled")]
        self.driver.chunks = [json.dumps(history)]
        self.driver.crash()
        assert self.world.trace == saw
        batch = self.driver.execution.take_commit()
        assert batch is not None
        assert [entry["k"] for entry in json.loads(batch.entries)] in (["completed"], ["failed_run"], ["cancelled"])
        assert batch.state is None
        assert batch.cancel_children == []
        assert not self.driver.execution.take_tasks()
        if isinstance(output, Completed):
            assert self.driver.execution.outcome == output
        else:
            assert type(self.driver.execution.outcome) is type(output)


def check_given_up(trial: Trial) -> None:
    """S29: the children that the code gave up are cancelled, each once (the driver sees to that), and no others."""
    ended = {entry["c"] for entry in trial.driver.history if entry["k"] in ("done", "failed")}
    children = {entry["run"]: entry["c"] for entry in trial.driver.history if entry["k"] == "call" and "run" in entry}
    assert {child for child in trial.world.cancelled_children if children[child] not in ended} == set(trial.driver.cancelled_children)


def check_history(history: list[dict[str, Any]]) -> None:
    """Well-formed: it begins once, calls are numbered without a gap, a call ends once and after its reservation, one terminal entry."""
    kinds = [entry["k"] for entry in history]
    assert kinds[0] == "began"
    assert kinds.count("began") == 1
    assert [entry["c"] for entry in history if entry["k"] == "call"] == list(range(kinds.count("call")))
    ended: set[int] = set()  # or given up
    reserved: set[int] = set()
    attempts: Counter[int] = Counter()
    at = START
    for entry in history:
        if entry["k"] == "attempt":  # S9: counted on across crashes
            attempts[entry["c"]] += 1
            assert entry["n"] == attempts[entry["c"]] < 3
        if entry["k"] == "call":
            reserved.add(entry["c"])
        if entry["k"] in ("done", "failed", "attempt", "child_cancel_requested"):
            assert entry["c"] in reserved
            assert entry["c"] not in ended
        if entry["k"] in ("done", "failed", "child_cancel_requested"):
            ended.add(entry["c"])
        if entry["k"] in ("done", "failed"):
            assert entry["at"] >= at
            at = entry["at"]
    terminal = [kind for kind in kinds if kind in ("completed", "failed_run", "cancelled")]
    assert len(terminal) == 1
    assert kinds[-1] == terminal[0]


LAW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@contextmanager
def gone(node: Node, data: st.DataObject, *, noise: bool) -> Iterator[Trial]:
    """A trial that has come to its end by a random way."""
    trial = Trial(node)
    try:
        length = 0
        for _ in range(data.draw(st.integers(0, 25))):
            if trial.driver.outcome is not None or trial.driver.execution.outcome is not None:
                break
            trial.do(data.draw(st.sampled_from(trial.actions())), data.draw, noise=noise)
            assert len(trial.driver.history) >= length
            length = len(trial.driver.history)
        trial.run_until_idle()
        check_history(trial.driver.history)
        check_given_up(trial)
        yield trial
    finally:
        trial.driver.execution.close()


@LAW
@given(nodes(steady=True), st.data())
def test_program_ends_as_the_reference_says_whatever_crashes(node: Node, data: st.DataObject) -> None:
    with gone(node, data, noise=False) as trial:
        assert trial.driver.output == node.expected(1)
        trial.check_fixed_point()


@LAW
@given(nodes(steady=False), st.data())
def test_program_that_looks_at_timing_replays_what_it_saw(node: Node, data: st.DataObject) -> None:
    with gone(node, data, noise=True) as trial:
        trial.check_fixed_point()


@LAW
@given(families(), st.data())
def test_children_that_are_no_longer_awaited_are_cancelled_once(node: Node, data: st.DataObject) -> None:
    with gone(node, data, noise=True) as trial:
        trial.check_fixed_point()


@LAW
@given(nodes(steady=False), st.data())
def test_what_a_claim_leads_to_another_claim_leads_to_as_well(node: Node, data: st.DataObject) -> None:
    trial = Trial(node)
    try:
        for _ in range(data.draw(st.integers(0, 15))):
            if trial.driver.outcome is not None or trial.driver.execution.outcome is not None:
                return
            trial.do(data.draw(st.sampled_from(trial.actions())), data.draw, noise=True)
        trial.driver.ack(data.draw(st.integers(0, len(trial.driver.unacked))))
        if trial.driver.outcome is None:
            trial.claim_twice(data.draw)
    finally:
        trial.driver.execution.close()
