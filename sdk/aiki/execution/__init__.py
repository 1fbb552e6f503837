"""Replay and memoization: the pure core that runs workflow code, one activation at a time."""

from aiki.execution.draft import Draft
from aiki.execution.execution import Execution
from aiki.execution.outcome import Cancelled, Completed, Failed, Outcome, TaskAttempt, Waits

__all__ = ["Cancelled", "Completed", "Draft", "Execution", "Failed", "Outcome", "TaskAttempt", "Waits"]
