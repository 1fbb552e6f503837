"""One run in a worker's hands, with a server that the test plays: what may start before what is stored (S5, S28)."""

from __future__ import annotations

import json
from contextvars import copy_context
from typing import Any

import pytest

from aiki import Run, task, workflow
from aiki.execution.loop.loop import Unguarded
from aiki.execution.outcome import TaskAttempt
from aiki.protocol import ClaimedRun, CommitAnswer, CommitOutcome
from aiki.worker.link.clock import DatabaseClockEstimate
from aiki.worker.metrics.attempts import AttemptFigures
from aiki.worker.runs.activation import Activation
from aiki.worker.runs.context import ActivationContext
from aiki.worker.tasks.runner import Ended, Work

NOW = 1_700_000_000_000_000


@task
async def step(number: int) -> int:
    return number


async def two_steps(run: Run) -> list[int]:
    return [await step.start(run, number) for number in (1, 2)]


class Hands:
    """The worker's parts, as far as an activation asks them: a pipe that carries when the test lets it, tasks that end when the test says."""

    def __init__(self) -> None:
        self.waiting: list[Activation] = []
        self.started: list[int] = []
        self.figures = AttemptFigures()
        self._ended: dict[int, tuple[TaskAttempt, Ended]] = {}

    def put(self, activation: Any) -> None:
        self.waiting.append(activation)

    def start(self, run_id: str, attempt: TaskAttempt, ended: Ended) -> Work:
        self.started.append(attempt.call)
        self._ended[attempt.call] = attempt, ended
        return Work(attempt)

    def end(self, call: int, result: Any) -> None:
        attempt, ended = self._ended.pop(call)
        ended(attempt, result, None)

    def context(self) -> ActivationContext:
        parts: Any = self
        return ActivationContext(
            clock=DatabaseClockEstimate(NOW), pipe=parts, tasks=parts, guard=Unguarded(), callback_context=copy_context(), may_start=lambda: True,
            random=lambda: 0.5, commit_soon=lambda _: None, slot_wanted=lambda _: False,
            pause_claims=lambda _: True, ended=lambda _: None,
        )  # fmt: skip


@pytest.fixture
def hands() -> Hands:
    return Hands()


def claimed(**more: Any) -> ClaimedRun:
    members = {
        "id": "00" + "a" * 30, "workflow": "flow", "version": "1.0", "epoch": 1, "deliveries": 1, "parent": None, "created_at": NOW,
        "claimed_at": NOW, "input": "null", "history": [], "inbox": [], "inbox_seq": 0, "pause": False,
    }  # fmt: skip
    return ClaimedRun.model_validate(members | more)


def written(op: bytes | None) -> list[str]:
    assert op is not None
    return [entry["k"] for entry in json.loads(json.loads(op)["entries"])]


async def test_a_task_starts_when_the_end_that_it_follows_from_is_stored(hands: Hands) -> None:
    activation = Activation(claimed(), workflow("flow").v("1.0")(two_steps), hands.context())
    activation.begin()
    assert hands.started == [0]
    hands.end(0, 1)
    assert written(activation.take_op()) == ["began", "call", "done", "call"]
    assert hands.started == [0]
    activation.answered(CommitAnswer(outcome=CommitOutcome.OK))
    assert hands.started == [0, 1]


async def test_a_task_that_follows_from_what_was_not_stored_never_starts(hands: Hands) -> None:
    activation = Activation(claimed(), workflow("flow").v("1.0")(two_steps), hands.context())
    activation.begin()
    hands.end(0, 1)
    activation.take_op()
    activation.answered(CommitAnswer(outcome=CommitOutcome.STALE))
    assert hands.started == [0]


async def test_nothing_starts_where_the_answer_brings_a_pause(hands: Hands) -> None:
    activation = Activation(claimed(), workflow("flow").v("1.0")(two_steps), hands.context())
    activation.begin()
    hands.end(0, 1)
    activation.take_op()
    activation.answered(CommitAnswer(outcome=CommitOutcome.INBOX_PENDING, pause=True))
    assert json.loads(activation.take_op() or b"{}").get("park") is not None
    assert hands.started == [0]
