"""What an op does to a run: (row, op) -> (row', effects), and nothing else. The one place where a status changes by decision.

Pure: the instant is an argument, rows are values. Laws (tests/server/commit/test_transitions.py): a terminal state never changes; a status
moves along legal edges only; it equals the fold of the history; history is gapless; a write of an old epoch changes nothing.
Timers and claims move runs by set-based statements; they keep the same laws in SQL.
"""

from __future__ import annotations

from typing import NamedTuple, assert_never
from uuid import UUID

from pydantic_core import to_json

from aiki.protocol import MAX_OPEN_EVENTS, MAX_STEPS, TERMINAL, CommitOp, Park, QueuedBy, Status
from aiki_server.engine.commit.left_behind import Left, because, not_compensated
from aiki_server.model import entries, ops
from aiki_server.model.instants import instant, micros
from aiki_server.model.rows import Chunk, NewItem, Row, changed

_WRITTEN = ops.Written(parked=False)
NOTHING_LEFT = Left(None, ())
RESTING = frozenset({Status.WAITING, Status.PAUSED})


class Decision(NamedTuple):
    """What to write and what to do after it is committed. Without a row nothing changes."""

    answer: ops.Answer
    row: Row | None = None
    chunk: Chunk | None = None
    item: NewItem | None = None
    consumed: tuple[int, ...] = ()
    children: tuple[ops.Child, ...] = ()
    cancel_children: tuple[UUID, ...] = ()
    output: str | None = None
    state: str | None = None
    queued: bool = False
    """The run may be claimed: ring its stream."""
    inbox_pending: bool = False
    """The worker that holds the run has something to fetch."""


def decide(row: Row | None, op: ops.Op, *, now: int, known: int | None = None, open_events: int = 0, left: Left = NOTHING_LEFT) -> Decision:
    """What `op` does to `row`. `known` is the number of the event that came before under the same id; `open_events` counts the run's.

    `left` is what a run leaves behind that ends without its code.
    """
    if row is None or row.namespace != op.namespace:
        return Decision(ops.Stale() if isinstance(op, ops.Commit) else ops.Missing())
    match op:
        case ops.Commit():
            return _commit(row, op, now, left)
        case ops.Deliver():
            return _deliver(row, op, now, known, open_events)
        case ops.Cancel():
            return _cancel(row, op, now, left)
        case ops.Pause():
            return _pause(row, now)
        case ops.Resume():
            return _resume(row, now)
        case ops.Retry():
            return _retry(row, now)
        case ops.Lose() | ops.GiveUpTelling() | ops.Poison():
            return _befall(row, op, now, left)
        case _:
            assert_never(op)


def child_ended(row: Row, end: ops.ChildEnded, *, now: int) -> Decision:
    """What the end of a child does to its parent."""
    if row.status in TERMINAL:
        return Decision(ops.Changed(row))
    item = NewItem(row.id, row.inbox_seq + 1, "child", None, end.output, end.child, end.status, end.error, None)
    return _came_in(row, item, now, wakes=row.status == Status.WAITING and row.waits_children, by=QueuedBy.CHILD)


# ---- the worker's commit --------------------------------------------------------------------------------------------


def _commit(row: Row, commit: ops.Commit, now: int, left: Left) -> Decision:
    op = commit.op
    if row.epoch != op.epoch or row.worker != commit.worker:
        return Decision(ops.Stale())
    if op.number <= row.commit_no:
        return Decision(_repeated(row, op))
    if row.status != Status.RUNNING:
        return Decision(ops.Stale())
    if refusal := _refusal(row, op):
        return Decision(ops.Refused(refusal))
    if op.park is None and op.finish is None and op.stop is None and not op.release:
        return _progress(row, commit)
    if op.finish is not None and op.finish.inbox_seen is not None and row.inbox_seq > op.finish.inbox_seen:
        return Decision(ops.InboxPending(op.finish.inbox_seen))  # the code looks again before it ends, so nothing is written
    progressed = changed(
        row,
        commit_no=op.number,
        steps=row.steps + op.steps,
        deliveries=0 if op.count else row.deliveries,
        has_children=row.has_children or bool(op.children),
    )
    decision = _given_back(progressed, commit, now, left)
    return decision._replace(consumed=tuple(op.consumed), children=commit.children, cancel_children=commit.cancel_children, state=op.state)


def _progress(row: Row, commit: ops.Commit) -> Decision:
    """The most frequent commit by far: the run stays where it is."""
    op = commit.op
    after = changed(
        row,
        commit_no=op.number,
        history_len=row.history_len + op.count,
        steps=row.steps + op.steps,
        deliveries=0 if op.count else row.deliveries,
        has_children=row.has_children or bool(op.children),
    )
    chunk = Chunk(row.id, row.history_len + 1, op.count, op.entries, row.epoch, row.worker) if op.count else None
    consumed = tuple(op.consumed)
    return Decision(
        _written_or_pending(after),
        after,
        chunk,
        consumed=consumed,
        children=commit.children,
        cancel_children=commit.cancel_children,
        state=op.state,
    )


def _repeated(row: Row, op: CommitOp) -> ops.Answer:
    """The answer that this commit got the first time, derived from what it left behind."""
    gives_back = op.park is not None or op.release or op.stop is not None
    if row.status == Status.RUNNING and row.commit_no == op.number and op.park is not None:
        return ops.InboxPending(op.park.inbox_seen)
    if gives_back or row.status != Status.RUNNING:
        return ops.Written(parked=gives_back and row.status != Status.RUNNING)
    return _written_or_pending(row)


def _written_or_pending(row: Row) -> ops.Answer:
    """That it was written; and what was asked of the run in the meantime, for the worker is about to start what follows (S28)."""
    if row.pause_requested or (row.cancel_requested and row.inbox_seq > row.inbox_acked_seq):
        return ops.InboxPending(row.inbox_acked_seq, pause=row.pause_requested)
    return _WRITTEN


def _refusal(row: Row, op: CommitOp) -> str | None:
    if op.number != row.commit_no + 1:
        return f"commit {op.number} of epoch {op.epoch} came after commit {row.commit_no}: send commits of a run one after the other"
    if row.steps + op.steps > MAX_STEPS and (op.finish is None or op.finish.status == Status.COMPLETED):
        return f"a run has at most {MAX_STEPS:,} steps: split it into child runs"
    if any(not 0 < seq <= row.inbox_seq for seq in op.consumed):
        return f"consumed {op.consumed}, but the inbox ends at {row.inbox_seq}"
    return None


def _given_back(row: Row, commit: ops.Commit, now: int, left: Left) -> Decision:
    op = commit.op
    if op.finish is not None:
        error = None if op.finish.error is None else op.finish.error.model_dump_json()
        ended = _end(row, op.finish.status, error, now)
        return _decision(ended, op, [], ops.Written(parked=False), output=op.finish.output)
    if op.stop is not None and row.cancel_requested:  # it would be cancelled once its code can go on: it cannot
        ended, entry = _cancelled(row, f"cancelled{because(left.reason)}; its code could not be told: {op.stop.message}", now, left)
        return _decision(ended, op, [entry], ops.Written(parked=True))
    if op.stop is not None:
        error = op.stop.model_dump_json()
        # A worker that says why it stopped is not lost: however often such a run is retried, it is not the run that kills its workers.
        stopped = row._replace(status=Status.PAUSED, error=error, pause_requested=False, deliveries=0)
        return _decision(stopped, op, [entries.paused(now, error)], ops.Written(parked=True))
    if op.park is not None:
        return _park(row, commit, op.park, now)
    return _release(row, op, now)


def _park(row: Row, commit: ops.Commit, park: Park, now: int) -> Decision:
    op = commit.op
    if row.inbox_seq > park.inbox_seen:  # no lost wake-up: what came in meanwhile is handed over instead
        return _decision(row, op, [], ops.InboxPending(park.inbox_seen))
    if row.pause_requested:
        return _decision(_paused(row), op, [entries.paused(now, None)], ops.Written(parked=True))
    if park.due_at is None and not park.events and not park.children:
        return _release(row, op, now)  # it held its tasks for a pause that was taken back
    waiting = row._replace(
        status=Status.WAITING,
        waits=commit.waits,
        waits_events=",".join(park.events) or None,
        waits_children=park.children,
        waits_retry=any(wait.get("kind") == "retry" for wait in park.waits),
        due_at=None if park.due_at is None else instant(park.due_at),
    )
    return _decision(waiting, op, [entries.parked(now, commit.waits)], ops.Written(parked=True))


def _release(row: Row, op: CommitOp, now: int) -> Decision:
    # Handing back is no lost delivery: a roll-out must not poison anyone.
    row = row._replace(deliveries=max(0, row.deliveries - 1))
    why = [entries.queued(now, QueuedBy.REWOUND)] if op.rewound else []
    if row.pause_requested:
        return _decision(_paused(row), op, [*why, entries.paused(now, None)], ops.Written(parked=True))
    return _decision(_queued(row), op, why or [entries.queued(now, QueuedBy.RELEASED)], ops.Written(parked=True), queued=True)


def _decision(row: Row, op: CommitOp, more: list[str], answer: ops.Answer, *, output: str | None = None, queued: bool = False) -> Decision:
    count = op.count + len(more)
    if count == 0:
        return Decision(answer, row, output=output)
    chunk = Chunk(row.id, row.history_len + 1, count, entries.joined(op.entries, op.count, more), row.epoch, row.worker)
    return Decision(answer, changed(row, history_len=row.history_len + count), chunk, output=output, queued=queued)


# ---- what comes from outside ----------------------------------------------------------------------------------------


def _deliver(row: Row, op: ops.Deliver, now: int, known: int | None, open_events: int) -> Decision:
    if known is not None:
        return Decision(ops.Accepted(known, created=False))
    if row.status in TERMINAL:
        return Decision(ops.Conflict(f"The run is {row.status}: it takes no more events."))
    if open_events >= MAX_OPEN_EVENTS:
        return Decision(ops.Full())
    if op.misfits is not None and row.version is not None and (wrong := op.misfits.get((row.workflow, row.version))) is not None:
        return Decision(ops.Unfit(row.workflow, row.version, wrong))
    item = NewItem(row.id, row.inbox_seq + 1, "event", op.name, op.payload, None, None, None, op.event_id)
    awaited = row.status == Status.WAITING and row.waits_events is not None and op.name in row.waits_events.split(",")
    return _came_in(row, item, now, wakes=awaited, by=QueuedBy.EVENT)._replace(answer=ops.Accepted(item.seq, created=True))


def _cancel(row: Row, op: ops.Cancel, now: int, left: Left) -> Decision:
    if row.status == Status.CANCELLED or (row.cancel_requested and row.status not in TERMINAL and not op.force):
        return Decision(ops.Changed(row))
    if row.status in TERMINAL:
        return Decision(ops.Conflict(f"The run is {row.status}: it cannot be cancelled any more."))
    if row.started_at is None:
        error = entries.error("Cancelled", f"The run was cancelled before it began{because(op.reason) or '.'}")
        ended = _end(row._replace(cancel_requested=True), Status.CANCELLED, error, now)
        return _noted(ended, [entries.ended(Status.CANCELLED, now, error)])
    if op.force:
        ended, entry = _cancelled(row, f"cancelled by force{because(op.reason)}; its code was not told.", now, left)
        return _noted(ended, [entry])._replace(inbox_pending=row.status == Status.RUNNING)
    item = NewItem(row.id, row.inbox_seq + 1, "cancel", None, op.reason, None, None, None, None)
    asked = row._replace(cancel_requested=True, pause_requested=False)
    return _came_in(asked, item, now, wakes=row.status in RESTING, by=QueuedBy.CANCEL)


def _pause(row: Row, now: int) -> Decision:
    if row.status in TERMINAL:
        return Decision(ops.Conflict(f"The run is {row.status}: it cannot be paused."))
    if row.status == Status.PAUSED or row.pause_requested:
        return Decision(ops.Changed(row))
    if row.status == Status.RUNNING:
        asked = row._replace(pause_requested=True)
        return Decision(ops.Changed(asked), asked, inbox_pending=True)
    return _noted(_paused(row), [entries.paused(now, None)])


def _resume(row: Row, now: int) -> Decision:
    if row.status in TERMINAL:
        return Decision(ops.Conflict(f"The run is {row.status}: it cannot be resumed."))
    if row.status == Status.RUNNING and row.pause_requested:
        going = row._replace(pause_requested=False)
        return Decision(ops.Changed(going), going, inbox_pending=True)
    if row.status != Status.PAUSED:
        return Decision(ops.Changed(row))
    if row.started_at is None and row.due_at is not None and micros(row.due_at) > now:
        return _scheduled_again(row, now)
    return _noted(_queued(row), [entries.queued(now, QueuedBy.RESUME)], queued=True)


def _scheduled_again(row: Row, now: int) -> Decision:
    """A run that was paused before its time goes back to waiting for it."""
    due = to_json([{"kind": "sleep", "due_at": row.due_at}]).decode()
    waiting = _queued(row)._replace(status=Status.WAITING, waits=due, due_at=row.due_at)
    return _noted(waiting, [entries.queued(now, QueuedBy.RESUME), entries.parked(now, due)])


def _retry(row: Row, now: int) -> Decision:
    if row.status in TERMINAL:
        return Decision(ops.Conflict(f"The run is {row.status}: it cannot be retried."))
    if row.status in (Status.QUEUED, Status.RUNNING):
        return Decision(ops.Changed(row))
    if row.status == Status.PAUSED and row.error is None:
        return Decision(ops.Conflict("The run was paused by someone, not stopped by an error: resume it."))
    if row.status != Status.PAUSED and not row.waits_retry:
        return Decision(ops.Conflict(f"The run is {row.status}, and does not wait for a retry."))
    return _noted(_queued(row), [entries.queued(now, QueuedBy.RETRY)], queued=True)


# ---- what befalls a run ---------------------------------------------------------------------------------------------


def _befall(row: Row, op: ops.Lose | ops.GiveUpTelling | ops.Poison, now: int, left: Left) -> Decision:
    match op:
        case ops.Lose():
            return _lose(row, op, now)
        case ops.GiveUpTelling():
            return _give_up_telling(row, op, now, left)
        case ops.Poison():
            return _poison(row, now)
        case _:
            assert_never(op)


def _lose(row: Row, op: ops.Lose, now: int) -> Decision:
    if row.status != Status.RUNNING or row.epoch != op.epoch:
        return Decision(ops.Stale())  # another server, or the worker itself, was first
    deliveries = max(0, row.deliveries - 1) if op.by == QueuedBy.RELEASED else row.deliveries
    row = row._replace(epoch=row.epoch + 1, commit_no=0, deliveries=deliveries)
    if row.pause_requested:
        return _noted(_paused(row), [entries.paused(now, None)])
    return _noted(_queued(row), [entries.queued(now, op.by)], queued=True)


def _give_up_telling(row: Row, op: ops.GiveUpTelling, now: int, left: Left) -> Decision:
    if row.status != Status.QUEUED or not row.cancel_requested or row.epoch != op.epoch:
        return Decision(ops.Changed(row))
    why = f"cancelled{because(left.reason)}; its code could not be told: no worker of pool {row.pool} carries {row.workflow} {row.version}."
    ended, entry = _cancelled(row, why, now, left)
    return _noted(ended, [entry])


def _poison(row: Row, now: int) -> Decision:
    if row.status != Status.QUEUED:
        return Decision(ops.Changed(row))
    message = f"Delivered {row.deliveries} times without progress: each worker that took it ended or went silent. Look at the workers' logs of run {row.id.hex}."
    error = entries.error("poisoned", message)
    return _noted(_end(row, Status.FAILED, error, now), [entries.ended(Status.FAILED, now, error)])


# ---- shapes of rows -------------------------------------------------------------------------------------------------


def _queued(row: Row) -> Row:
    return changed(
        row,
        status=Status.QUEUED,
        error=None,
        waits=None,
        waits_events=None,
        waits_children=False,
        waits_retry=False,
        due_at=None,
        pause_requested=False,
    )


def _paused(row: Row) -> Row:
    return row._replace(status=Status.PAUSED, error=None, pause_requested=False)


def _end(row: Row, status: Status, error: str | None, now: int) -> Row:
    return changed(_queued(row), status=status, error=error, finished_at=instant(now), closes_children=row.has_children)


def _cancelled(row: Row, message: str, now: int, left: Left) -> tuple[Row, str]:
    """The row of a run that ends without its code having a say, and the entry that says so."""
    error = entries.error("Cancelled", f"{message} {not_compensated(left)}")
    return _end(row._replace(cancel_requested=True), Status.CANCELLED, error, now), entries.ended(Status.CANCELLED, now, error)


def _came_in(row: Row, item: NewItem, now: int, *, wakes: bool, by: QueuedBy) -> Decision:
    row = row._replace(inbox_seq=item.seq)
    if wakes:
        return _noted(_queued(row), [entries.queued(now, by)], queued=True)._replace(item=item)
    return Decision(ops.Changed(row), row, item=item, inbox_pending=row.status == Status.RUNNING)


def _noted(row: Row, written: list[str], *, queued: bool = False) -> Decision:
    """A change that the server itself writes into the history."""
    chunk = Chunk(row.id, row.history_len + 1, len(written), entries.array(written), row.epoch, None)
    row = row._replace(history_len=row.history_len + len(written))
    return Decision(ops.Changed(row), row, chunk, queued=queued)
