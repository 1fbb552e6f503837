"""Durable execution in plain Python.

`__all__` is the public API.
"""

from typing import TYPE_CHECKING, Any

from aiki.context.received import Received, TimedOut
from aiki.context.run import First, Run
from aiki.context.saga import Saga
from aiki.context.task_context import TaskContext, task_context
from aiki.definitions.event import Event
from aiki.definitions.task import TaskDefinition, task
from aiki.definitions.workflow import VersionDefinition, WorkflowDefinition, workflow
from aiki.errors import (
    AikiError,
    ApiError,
    ChildCancelled,
    ChildFailed,
    NonRetryable,
    NotAllowedInWorkflow,
    PayloadError,
    ResultTimeout,
    RunCancelled,
    RunFailed,
    ServerUnreachable,
    StepFailed,
    StepLimit,
    TaskFailed,
    TaskTimeout,
    TooManyRequests,
    UnexpectedAnswer,
)
from aiki.execution.loop.pending import Child, Pending
from aiki.values.retry import Retry

if TYPE_CHECKING:
    from aiki.client import Client, RunHandle
    from aiki.worker import Worker

__all__ = [
    "AikiError",
    "ApiError",
    "Child",
    "ChildCancelled",
    "ChildFailed",
    "Client",
    "Event",
    "First",
    "NonRetryable",
    "NotAllowedInWorkflow",
    "PayloadError",
    "Pending",
    "Received",
    "ResultTimeout",
    "Retry",
    "Run",
    "RunCancelled",
    "RunFailed",
    "RunHandle",
    "Saga",
    "ServerUnreachable",
    "StepFailed",
    "StepLimit",
    "TaskContext",
    "TaskDefinition",
    "TaskFailed",
    "TaskTimeout",
    "TimedOut",
    "TooManyRequests",
    "UnexpectedAnswer",
    "VersionDefinition",
    "Worker",
    "WorkflowDefinition",
    "task",
    "task_context",
    "workflow",
]


def __getattr__(name: str) -> Any:
    """Import what does I/O when it is asked for: who only defines workflows, or reads the wire, does without aiohttp and Redis."""
    if name in ("Client", "RunHandle"):
        import aiki.client  # noqa: PLC0415

        return getattr(aiki.client, name)
    if name == "Worker":
        from aiki.worker import Worker  # noqa: PLC0415

        return Worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names too that are not imported yet."""
    return sorted({*globals(), *__all__})
