"""The body of a worker's commit: read against its model, its lists counted over all ops, each op judged. Pure."""

from __future__ import annotations

from aiki.protocol import MAX_CANCEL_CHILDREN, MAX_CHILDREN, MAX_CONSUMED, CommitRequest
from aiki_server.api.http import body
from aiki_server.api.http.errors import ApiError
from aiki_server.api.worker.checks import refusal


def read_commit(raw: bytes) -> CommitRequest:
    """The request, whose ops have no more together than one request may."""
    wanted = body.parsed(CommitRequest, raw)
    for name, limit, count in (
        ("children", MAX_CHILDREN, sum(len(op.children) for op in wanted.ops)),
        ("cancel_children", MAX_CANCEL_CHILDREN, sum(len(op.cancel_children) for op in wanted.ops)),
        ("consumed", MAX_CONSUMED, sum(len(op.consumed) for op in wanted.ops)),
    ):
        if count > limit:
            raise ApiError(422, f"The ops of one commit have at most {limit:,} {name} together, not {count:,}: send them in several.")
    return wanted


def refusals(wanted: CommitRequest) -> list[str | None]:
    """Of each op, why it cannot be written; None if it can."""
    return list(map(refusal, wanted.ops))
