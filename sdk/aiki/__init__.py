"""Durable execution in plain Python.

`__all__` is the public API.
"""

from typing import TYPE_CHECKING, Any

from aiki.client import Client, RunHandle
from aiki.context import TaskContext, current
from aiki.errors import (
    AikiError,
    ApiError,
    ChildCancelled,
    ChildFailed,
    NonRetryable,
    NotInWorkflow,
    PayloadError,
    ResultTimeout,
    RunCancelled,
    RunFailed,
    ServerUnreachable,
    TaskFailed,
    TaskTimeout,
)
from aiki.event import Event
from aiki.execution.pending import Child, Pending
from aiki.received import Received, TimedOut
from aiki.retry import Retry
from aiki.run import First, Run
from aiki.saga import Saga
from aiki.task import TaskDefinition, task
from aiki.workflow import VersionDefinition, WorkflowDefinition, workflow

if TYPE_CHECKING:
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
    "NotInWorkflow",
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
    "TaskContext",
    "TaskDefinition",
    "TaskFailed",
    "TaskTimeout",
    "TimedOut",
    "VersionDefinition",
    "Worker",
    "WorkflowDefinition",
    "current",
    "task",
    "workflow",
]


def __getattr__(name: str) -> Any:
    """`Worker` when it is asked for: clients and most commands do without it, and without Redis."""
    if name == "Worker":
        from aiki.worker import Worker  # noqa: PLC0415

        return Worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
