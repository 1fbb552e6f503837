"""What a run's activation works with: its worker's parts, handed over as one value."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiki.execution.loop.loop import CodeGuard
from aiki.worker.link.clock import DatabaseClockEstimate
from aiki.worker.link.commit_pipe import CommitPipe
from aiki.worker.tasks.runner import TaskRunner

if TYPE_CHECKING:
    from aiki.worker.runs.activation import Activation


@dataclass(frozen=True, slots=True)
class ActivationContext:
    """Parts, and what to call."""

    clock: DatabaseClockEstimate
    pipe: CommitPipe
    tasks: TaskRunner
    guard: CodeGuard
    callback_context: Context
    may_start: Callable[[], bool]
    """Whether the lease holds, so that effects may be started."""
    random: Callable[[], float]
    commit_soon: Callable[[Activation], None]
    """Have it saved soon: it has something to write that nobody waits for."""
    slot_wanted: Callable[[Activation], bool]
    """Whether the run, which only waits for the delay of a retry, should give its slot to others; if not now, it is touched when it should."""
    pause_claims: Callable[[Callable[[], None]], bool]
    """Take on nothing for a moment: a run is to be handed back that others try first. Whether that is so already; if not, it is called once it is."""
    ended: Callable[[Activation], None]
    """The run is not in hand any more."""
