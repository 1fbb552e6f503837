"""Errors on the wire: why a run or a task failed, and why a request was refused."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, StringConstraints

from aiki.protocol.limits import MAX_ERROR_MESSAGE_BYTES, MAX_ERROR_STACK_BYTES, MAX_ERROR_TYPE
from aiki.protocol.wire import Wire


class ErrorInfo(Wire):
    """A failure as it travels and is stored: cut to MAX_ERROR_MESSAGE_BYTES and MAX_ERROR_STACK_BYTES, with a mark."""

    type: Annotated[str, StringConstraints(max_length=MAX_ERROR_TYPE)]
    message: Annotated[str, StringConstraints(max_length=MAX_ERROR_MESSAGE_BYTES)]
    stack: Annotated[str, StringConstraints(max_length=MAX_ERROR_STACK_BYTES)] | None = None
    retryable: bool = True


class Problem(BaseModel):
    """RFC 9457 problem document; `application/problem+json`."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = None
