"""The context of a task for a unit test that calls the task as the function that it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiki.context.task_context import TaskContext, current_task


@contextmanager
def task_context(
    *, run_id: str = "00000000000000000000000000000000", call: int = 0, attempt: int = 1, key: str = "key", label: str = "task"
) -> Iterator[TaskContext]:
    """Inside of the block `aiki.task_context()` answers with these values, in this thread and in tasks of asyncio that begin there.

    `with task_context(key="k1", attempt=2): assert await charge(order) == "receipt"`
    """
    context = TaskContext(run_id, call, attempt, key, label)
    token = current_task.set(context)
    try:
        yield context
    finally:
        current_task.reset(token)
