"""Rows for the tables of transitions, and what a decision comes to, in full: what is not in it did not happen."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from aiki.protocol import CommitOp, Status
from aiki_server.engine.commit.left_behind import Left
from aiki_server.engine.commit.transitions import NOTHING_LEFT, Decision, decide
from aiki_server.model import ops
from aiki_server.model.instants import micros
from aiki_server.model.rows import Row

RUN = UUID(int=1)
NOW = datetime(2030, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(microseconds=1)
AT = micros(NOW)
_NOTHING = Decision(ops.Missing())


def run(status: str = "running", **more: Any) -> Row:
    """A run that has gone on for a while: no two of its numbers are the same, so that none can stand for another."""
    known: dict[str, Any] = {
        "id": RUN, "namespace": "ns", "workflow": "flow", "version": "1.0", "pool": "main", "status": Status(status), "on_parent_close": "cancel",
        "epoch": 7, "worker": "w", "commit_no": 5, "deliveries": 3, "history_len": 4, "steps": 6, "inbox_seq": 2, "inbox_acked_seq": 1,
        "created_at": NOW, "started_at": NOW, "claimed_at": NOW,
    }  # fmt: skip
    flags = dict.fromkeys(
        ("waits_children", "waits_retry", "has_children", "closes_children", "cancel_requested", "pause_requested"), False
    )
    values: dict[str, Any] = {**dict.fromkeys(Row._fields), **flags, **known, **more}
    return Row(**values)


def commit(
    *,
    epoch: int = 7,
    number: int = 6,
    worker: str = "w",
    waits: str = "[]",
    born: tuple[ops.Child, ...] = (),
    cancelled: tuple[UUID, ...] = (),
    **members: Any,
) -> ops.Commit:
    """What the worker of such a run says next."""
    children = [{"id": one.id.hex, "workflow": one.workflow, "input": one.input} for one in born]
    op = CommitOp(run=RUN.hex, epoch=epoch, number=number, children=children, cancel_children=[one.hex for one in cancelled], **members)
    return ops.Commit(RUN, "ns", worker, op, born, waits, cancelled)


def check(
    before: Row | None,
    op: ops.Op,
    then: dict[str, Any],
    *,
    left: Left = NOTHING_LEFT,
    known: int | None = None,
    open_events: int = 0,
) -> None:
    """That `op` does `then` to the run, and nothing else."""
    found = effect(before, decide(before, op, now=AT, known=known, open_events=open_events, left=left))
    assert found == then
    assert type(found.get("answer")) is type(then.get("answer"))  # two answers without members are equal as tuples


def effect(before: Row | None, decision: Decision) -> dict[str, Any]:
    """Everything that a decision does: the columns that change, the entries, and each member that is not as in a decision that does nothing."""
    told: dict[str, Any] = {}
    if isinstance(decision.answer, ops.Changed):
        assert decision.answer.row == (before if decision.row is None else decision.row)
    else:
        told["answer"] = decision.answer
    if before is None:
        assert decision == Decision(decision.answer)
        return told
    length = before.history_len
    if decision.chunk is not None:
        assert decision.row is not None
        entries = json.loads(decision.chunk.entries)
        assert decision.chunk[:3] == (before.id, length + 1, len(entries))
        assert decision.chunk.epoch == decision.row.epoch
        length += len(entries)
        told["entries"] = entries
        told |= {} if decision.chunk.worker is None else {"writer": decision.chunk.worker}
    if decision.row is not None:
        assert decision.row.history_len == length
        columns = zip(Row._fields, before, decision.row, strict=True)
        told["row"] = {name: after for name, was, after in columns if repr(was) != repr(after) and name != "history_len"}
    others = [name for name in Decision._fields if name not in ("answer", "row", "chunk")]
    return told | {name: getattr(decision, name) for name in others if repr(getattr(decision, name)) != repr(getattr(_NOTHING, name))}
