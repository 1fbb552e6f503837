"""How a run ended, from how its code ended; and how a child's end reads to its parent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiki.errors import MAX_NAMED_IN_GROUP, PayloadError, StepFailed, cut, error_info, error_named, leaves
from aiki.execution.calls.call import CANCELLED
from aiki.execution.outcome import Cancelled, Completed, Failed, Outcome
from aiki.protocol import MAX_ERROR_STACK_BYTES, ErrorInfo, InboxItem, Status

if TYPE_CHECKING:
    from aiki.definitions.workflow import VersionDefinition


def outcome_of(main: asyncio.Task[Any], definition: VersionDefinition[Any, Any], *, name: str, cancelled: str | None) -> Outcome:
    """The end of a run whose main coroutine is done; `cancelled` says why a cancellation had been delivered into it, if one had."""
    if main.cancelled():
        if cancelled is not None:
            return Cancelled(error_named("Cancelled", cancelled))
        return Failed(
            error_named("CancelledError", f"{name} cancelled itself: asyncio.CancelledError left its code without a request to cancel")
        )
    error = main.exception()
    return _completion(main.result(), definition, name) if error is None else Failed(_failure(error))


def child_error(item: InboxItem) -> ErrorInfo:
    """The error of a child that did not complete."""
    if item.status is Status.CANCELLED:
        return error_named(CANCELLED, item.error.message if item.error is not None else "the child was cancelled")
    return item.error or error_named("Failed", "the child failed and said no more")


def _completion(result: Any, definition: VersionDefinition[Any, Any], name: str) -> Outcome:
    try:
        return Completed(definition.output.encode(result))
    except PayloadError as error:
        return Failed(error_named("PayloadError", f"workflow {name} ({definition.place}) returned what JSON cannot hold: {error}"))


def _failure(error: BaseException) -> ErrorInfo:
    info = error_info(error, retryable=False)
    steps = [leaf for leaf in leaves(error)[:MAX_NAMED_IN_GROUP] if isinstance(leaf, StepFailed) and leaf.error.stack]
    if not steps:
        return info
    stack = "".join(f"\nwhere {step.label} failed:\n{step.error.stack}" for step in steps)
    return info.model_copy(update={"stack": cut(f"{info.stack}{stack}", MAX_ERROR_STACK_BYTES)})
