"""What a running task may know of itself: `aiki.task_context()`.

The worker enters a context around each attempt; a context variable carries it, also into the thread of a `def` task.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TaskContext:
    """One attempt of one call. `key` is the same for all attempts: an idempotency key for the outside world."""

    run_id: str
    call: int
    attempt: int
    key: str
    label: str


current_task: ContextVar[TaskContext] = ContextVar("aiki_current_task")


def task_context() -> TaskContext:
    """What the task that calls this may know of its attempt. Raises LookupError outside of a task.

    A unit test that calls a task as a function sets it: `with aiki.testing.task_context(key="k1"): await charge(order)`.
    """
    try:
        return current_task.get()
    except LookupError:
        raise LookupError(
            "aiki.task_context() is for code that runs in a task of a worker. In a unit test, call the task"
            " inside of `with aiki.testing.task_context(key=...):`."
        ) from None
