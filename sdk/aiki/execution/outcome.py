"""The values that an execution hands to the worker: tasks to run, ends of a run, what it waits for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiki.protocol import ErrorInfo

if TYPE_CHECKING:
    from aiki.definitions.task import TaskDefinition


@dataclass(frozen=True, slots=True)
class TaskAttempt:
    """A task to run now, or not before an instant. `attempt` counts from 1; `key` is the same for all attempts."""

    call: int
    task: TaskDefinition[..., Any, Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    attempt: int
    not_before: int | None
    key: str
    label: str


@dataclass(frozen=True, slots=True)
class Completed:
    """The workflow returned; `output` is JSON text."""

    output: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The workflow raised."""

    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The cancellation that was delivered into the code ended it."""

    error: ErrorInfo


Outcome = Completed | Failed | Cancelled


@dataclass(frozen=True, slots=True)
class WaitConditions:
    """What an idle run waits for. `on` is for people: at most MAX_LISTED entries, `due_at` in microseconds."""

    due_at: int | None
    events: list[str]
    children: bool
    on: list[dict[str, Any]]
