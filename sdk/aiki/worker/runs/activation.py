"""Drives one run from its claim until it is given back: a thin shell around the pure Execution.

Everything that happens (a task ended, something came in, a timer) is told to the execution, and the run is put into the commit pipe, which asks for
the next op when it can carry one. Tasks start when the ends that they follow from are stored (S5). So those that follow from nothing but what
came with the claim start at once, and their reservations travel with whatever is written next: docs/decisions/0014. While an op that gives the run
back is under way nothing new happens: what came in meanwhile comes with its answer, or with the next claim.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from enum import Enum
from typing import Any, Final

from aiki.context.log import NAME, LogLine
from aiki.definitions.workflow import VersionDefinition
from aiki.errors import error_info, error_named
from aiki.execution.batch import NOTHING, JournalBatch
from aiki.execution.execution import Execution
from aiki.execution.outcome import Completed, Failed
from aiki.protocol import (
    MAX_REQUEST_BYTES,
    SERVER_KINDS,
    ClaimedRun,
    CommitAnswer,
    CommitOp,
    CommitOutcome,
    EntryKind,
    ErrorInfo,
    Finish,
    InboxItem,
    InboxQuery,
    InboxUpdate,
    Micros,
    Park,
    QueuedBy,
    Status,
)
from aiki.shared.redaction import shown
from aiki.values.codec import loads
from aiki.values.duration import MICROS_PER_SECOND
from aiki.worker.link.api import encoded, plain_op
from aiki.worker.runs.attempts import TaskAttempts
from aiki.worker.runs.context import ActivationContext
from aiki.worker.runs.rewind import rewound

log = logging.getLogger("aiki.worker")
run_log = logging.getLogger(NAME)

PART_CHARACTERS: Final = MAX_REQUEST_BYTES // 5
"""Of entries in one op, unless a single one has more: on the wire a character has at most four bytes."""
NAP_MICROS: Final = 50_000
"""Timers due within this many microseconds are waited for here: parking would take about as long."""


BLOCKED: Final = "BlockedLoop"
TRIES_ELSEWHERE: Final = 2
"""How often a run is handed back whose code blocks the loop, before it is paused until a person comes."""


class Mode(Enum):
    """Whether the run goes on, or how it is given back."""

    GO_ON = "go on"
    START_NOTHING = "start nothing"
    """Start nothing new, but keep the run: it must not be offered to anybody yet."""
    FINISH_TASKS = "finish tasks"
    """Start nothing new; give the run back when no task runs."""
    GIVE_BACK = "give back"
    """Give the run back now; running tasks are cancelled, as if they had never started."""


class Activation:
    """One run in hand."""

    def __init__(
        self, claimed: ClaimedRun, definition: VersionDefinition[Any, Any], context: ActivationContext, mode: Mode = Mode.GO_ON
    ) -> None:
        self.id: Final = claimed.id
        self.epoch: Final = claimed.epoch
        self._context: Final = context
        self._name: Final = f"{claimed.workflow} {claimed.version}"
        self._mode = mode
        self._number = 0
        self._in_flight = False
        self._changed = False
        self._giving_back = False
        self._for_others = False
        self._partial = False
        self._paused = claimed.pause
        self._retry_now = _asked_to_retry(claimed.history)
        self._handed_back = _handed_back(claimed.history)
        self._claimed_at = claimed.claimed_at
        self._refusal: ErrorInfo | None = None
        self._closed = False
        self._unsent: JournalBatch | None = None
        self._acted = 0
        self._finishing: JournalBatch | None = None
        self._rewound: JournalBatch | None = None
        self._checks_inbox = True
        self._timer: asyncio.TimerHandle | None = None
        self._execution = Execution(
            definition,
            run_id=claimed.id,
            input=claimed.input,
            history=claimed.history,
            inbox=claimed.inbox,
            inbox_seen=claimed.inbox_seq,
            now=max(context.clock.now(), claimed.claimed_at + 1),
            workflow=claimed.workflow,
            version=claimed.version,
            log=self._log,
            guard=context.guard,
        )
        self._execution.set_paused(claimed.pause)
        self._attempts = TaskAttempts(
            claimed.id,
            self._execution,
            workflow=claimed.workflow,
            tasks=context.tasks,
            now=context.clock.now,
            random=context.random,
            ended=self.touch,
        )

    # ---- what happens

    def begin(self) -> None:
        """Go on from where replay has led, and start the tasks that follow from what came with the claim.

        Another claim would hand over the same in the same order: an item that comes later is behind those that were there, and a
        timer that was due at the claim is before it. So nothing starts here that a crash could turn into a way not taken.
        """
        self._execution.advance(self._claimed_at)
        if self._execution.outcome is not None or self._execution.stop is not None:
            self.touch()
            return
        self._unsent = self._execution.take_commit(PART_CHARACTERS)
        self._take_tasks()
        self._start_ready()
        self._set_timer()
        if (
            self._attempts.running
            and self._unsent is not None
            and not (self._unsent.children or self._unsent.cancel_children or self._execution.more)
        ):
            self._acted = self._unsent.count
            self._context.commit_soon(self)
        else:
            self.touch()

    def touch(self) -> None:
        """Something changed: look what there is to write and to start."""
        if self._in_flight:
            self._changed = True
        elif not self._closed:
            self._context.pipe.put(self)

    @property
    def held_back(self) -> bool:
        """Whether tasks that could start wait for the lease to hold."""
        return bool(self._attempts.ready) and not self._in_flight

    def query(self) -> InboxQuery | None:
        """The question what came in since; None while the run is being given back."""
        if self._closed or self._giving_back:
            return None
        return InboxQuery(run=self.id, epoch=self.epoch, inbox_seen=self._execution.inbox_seen)

    def receive(self, update: InboxUpdate) -> None:
        """What came in."""
        if self._closed or self._giving_back:
            return
        if update.stale:
            self._stale("inbox")
            return
        self._execution.receive(update.inbox, self._execution.inbox_seen)
        self._set_paused(update.pause)
        self.touch()

    def write_unsent(self) -> None:
        """Write what was put off, if nothing has carried it since."""
        if self._unsent is not None:
            self.touch()

    def give_back(self, mode: Mode) -> None:
        """Stop working on the run, as far as it goes in this mode."""
        self._mode = mode
        if mode is Mode.GIVE_BACK:
            self._attempts.hand_back_running()
        self.touch()

    def close(self) -> None:
        """Let go of the run at once and write nothing more: it is not ours, or the worker ends."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._attempts.close()
        self._execution.close()
        self._context.ended(self)
        # Nothing is asked of these any more; without them a run leaves no cycle behind, which the collector would have to find.
        del self._execution, self._attempts

    # ---- what the pipe asks and answers

    def take_op(self) -> bytes | None:
        """The next thing to write; where there is nothing, tasks that are ready start."""
        if self._closed:
            return None
        try:
            op = self._next_op()
        except Exception as error:  # a turn of this run's loop: our bug must not take the other runs with it
            log.exception("run failed in the worker", extra={"run_id": self.id, "workflow": self._name}, exc_info=shown(error))
            op = self._op(None, stop=error_info(error))
        if op is None:
            self._start_ready()
            return None
        self._in_flight = True
        self._changed = False
        return op

    def answered(self, answer: CommitAnswer) -> None:
        """The server has said what became of the op."""
        self._in_flight = False
        if self._closed:
            return
        match answer.outcome:
            case CommitOutcome.OK | CommitOutcome.PARKED if self._giving_back:
                if self._for_others:
                    self._context.pause_claims(_nothing)  # from now on the run is queued
                self.close()
            case CommitOutcome.STALE:
                self._stale("commit")
            case CommitOutcome.REFUSED:
                self._on_refusal(answer.detail or "the server gave no reason")
            case CommitOutcome.INBOX_PENDING:
                self._on_inbox_pending(answer)
            case CommitOutcome.OK | CommitOutcome.PARKED:
                self._acted = 0
                if not self._partial:
                    self._execution.looks.clear()
                    self._start_ready()
                if self._changed or self._partial or not self._busy():
                    self.touch()

    # ---- the next op

    def _next_op(self) -> bytes | None:
        execution = self._execution
        if self._refusal is not None:
            return self._op(self._unsent, finish=Finish(status=Status.FAILED, error=self._refusal))
        if self._rewound is not None:
            return self._op(self._rewound, release=True, rewound=True)
        self._advance()
        batch = self._take_batch()
        self._partial = execution.more
        if self._partial:
            return self._op(batch)
        if execution.stop is not None:
            return self._stop(batch, execution.stop)
        if execution.outcome is not None:
            return self._end(batch)
        self._take_tasks()
        if self._mode in (Mode.FINISH_TASKS, Mode.GIVE_BACK):
            self._attempts.hand_back()
            if not self._attempts.running:
                return self._op(batch, release=True) if execution.waits() is None else self._op(batch, park=self._park())
        elif not self._busy():
            park = self._park()
            if park is not None:
                return self._op(batch, park=park)
        self._set_timer()
        return None if batch is None else self._op(batch)

    def _end(self, batch: JournalBatch | None) -> bytes:
        """Finish the run, unless its code gave up waiting for an event that is in hand: it came after the wait's time, and before the claim."""
        finish = self._finish()
        if finish.inbox_seen is not None and batch is not None:
            self._rewound = rewound(batch, looks=self._execution.looks.fired, came=self._execution.unread, acted=self._acted)
            if self._rewound is not None:
                return self._op(self._rewound, release=True, rewound=True)
            self._finishing = batch
        return self._op(batch, finish=finish)

    def _stop(self, batch: JournalBatch | None, error: ErrorInfo) -> bytes | None:
        """Pause the run with this error. Code that blocked the loop may have had a slow worker: others try it first.

        So it is not handed back while this worker reads or claims: it could get the run itself.
        """
        if error.type == BLOCKED and self._handed_back < TRIES_ELSEWHERE:
            self._for_others = True
            if not self._context.pause_claims(self.touch):
                self._unsent = batch
                return None
            extra = {"run_id": self.id, "workflow": self._name, "error": error.message, "tries": self._handed_back + 1}
            log.warning("run whose code blocked the loop is handed back, to be tried again", extra=extra)
            return self._op(batch, release=True)
        return self._op(batch, stop=error)

    def _op(
        self,
        batch: JournalBatch | None,
        *,
        park: Park | None = None,
        release: bool = False,
        rewound: bool = False,
        stop: ErrorInfo | None = None,
        finish: Finish | None = None,
    ) -> bytes:
        number = self._number + 1
        if batch is not None and not (batch.consumed or batch.children or batch.cancel_children or rewound or park or stop):
            op = plain_op(
                self.id,
                self.epoch,
                number,
                batch.entries,
                count=batch.count,
                steps=batch.steps,
                state=batch.state,
                release=release,
                finish=finish,
            )
        else:
            written = batch or NOTHING
            op = encoded(
                CommitOp(
                    run=self.id,
                    epoch=self.epoch,
                    number=number,
                    entries=written.entries,
                    count=written.count,
                    steps=written.steps,
                    consumed=written.consumed,
                    children=written.children,
                    cancel_children=written.cancel_children,
                    state=written.state,
                    park=park,
                    release=release,
                    rewound=rewound,
                    stop=stop,
                    finish=finish,
                )
            )
        self._number = number
        self._giving_back = park is not None or release or stop is not None or finish is not None
        return op

    def _take_batch(self) -> JournalBatch | None:
        unsent, self._unsent = self._unsent, None
        batch = self._execution.take_commit(PART_CHARACTERS)
        if unsent is None or batch is None:
            return unsent or batch
        return unsent + batch

    def _finish(self) -> Finish:
        outcome = self._execution.outcome
        inbox_seen = self._execution.inbox_seen if self._checks_inbox and any(self._execution.looks.fired.values()) else None
        if isinstance(outcome, Completed):
            return Finish(status=Status.COMPLETED, output=outcome.output, inbox_seen=inbox_seen)
        if isinstance(outcome, Failed):
            return Finish(status=Status.FAILED, error=outcome.error, inbox_seen=inbox_seen)
        assert outcome is not None
        return Finish(status=Status.CANCELLED, error=outcome.error)

    def _on_inbox_pending(self, answer: CommitAnswer) -> None:
        """Something came in, before anything that is ready starts."""
        self._giving_back = False
        if self._finishing is not None:
            self._look_again(self._finishing, answer.inbox)
        else:
            self._execution.receive(answer.inbox, self._execution.inbox_seen)
            if answer.pause:
                self._set_paused(True)
        self.touch()

    def _look_again(self, finishing: JournalBatch, items: Sequence[InboxItem]) -> None:
        """The end was not written: hand the run back to before the code gave up waiting for what has come. Where it did not, the end stands."""
        came = {item.name for item in items if item.kind == "event" and item.name is not None}
        self._finishing = None
        self._checks_inbox = False
        self._number -= 1  # a number of which nothing was written was not used
        self._rewound = rewound(finishing, looks=self._execution.looks.fired, came=came, acted=self._acted)
        self._unsent = finishing

    def _park(self) -> Park | None:
        """What to wait for outside; None where a timer is due so soon that it is waited for here."""
        waits = self._execution.waits()
        if waits is None or self._paused:
            # Held: tasks are to be started, or items were received that were not handed over. If the pause was taken back, the next claim does it.
            return Park(inbox_seen=self._execution.inbox_seen, due_at=None, events=[], children=False, waits=[])
        if waits.due_at is not None and waits.due_at - self._now() <= NAP_MICROS and self._mode is Mode.GO_ON:
            return None
        return Park(
            inbox_seen=self._execution.inbox_seen, due_at=waits.due_at, events=waits.events, children=waits.children, waits=waits.on
        )

    def _set_paused(self, on: bool) -> None:
        """Start nothing more until further notice, or go on."""
        self._paused = on
        self._execution.set_paused(on)
        if on:
            self._attempts.hand_back()

    def _take_tasks(self) -> None:
        self._attempts.add(self._execution.take_tasks(), at_once=self._retry_now)
        self._retry_now = False

    def _start_ready(self) -> None:
        """Start what is ready, if nothing forbids it."""
        if self._attempts.ready and self._mode is Mode.GO_ON and self._context.may_start():
            self._attempts.start()

    def _busy(self) -> bool:
        """Whether the run goes on here without anything from outside: a task runs, or is tried again so soon that it is waited for here.

        That is longer while nobody waits for the slot.
        """
        if self._attempts.active:
            return True
        now = self._now()
        return self._attempts.soon(now) and (self._attempts.soon(now, NAP_MICROS) or not self._context.slot_wanted(self))

    # ---- time

    def _now(self) -> Micros:
        return self._context.clock.now()

    def _advance(self) -> None:
        """Hand over what has come and what is due."""
        now = self._now()
        self._execution.advance(now)
        self._attempts.advance(now)

    def _set_timer(self) -> None:
        """Wake for the earliest timer or retry."""
        dues = [due for due in (self._execution.next_due(), self._attempts.next_due()) if due is not None]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if dues:
            # Rounded up: a timer is late rather than asked for in vain.
            delay_seconds = max(0, min(dues) - self._now()) / MICROS_PER_SECOND + 0.0005
            self._timer = asyncio.get_running_loop().call_later(delay_seconds, self.touch, context=self._context.callback_context)

    # ---- what goes wrong

    def _stale(self, where: str) -> None:
        log.warning("run is not ours any more", extra={"run_id": self.id, "workflow": self._name, "epoch": self.epoch, "noticed_by": where})
        self.close()

    def _on_refusal(self, detail: str) -> None:
        """Nothing was written, and the same will be refused again: the run fails with what the server said."""
        extra = {"run_id": self.id, "workflow": self._name, "detail": detail}
        if self._refusal is not None:
            log.error("commit refused twice: run given up", extra=extra)
            self.close()
            return
        log.error("commit refused", extra=extra)
        self._refusal = error = error_named("CommitRefused", f"{self._name}: the server refused what the run wrote: {detail}")
        entry = f'[{{"k":"{EntryKind.FAILED_RUN}","at":{self._now()},"e":{error.model_dump_json()}}}]'
        self._unsent = JournalBatch(entries=entry, count=1, steps=0, consumed=[], children=[], cancel_children=[], state=None)
        self._number -= 1  # a refused number was not used
        self.touch()

    def _log(self, line: LogLine) -> None:
        extra = {"run_id": self.id, "workflow": self._name, "fields": dict(line.fields)}
        if line.traceback is not None:
            extra["traceback"] = line.traceback
        # Of this method, two of `run.log`, and then the code that said it.
        run_log.log(line.level, line.message, extra=extra, stacklevel=3 + line.stacklevel)


def _nothing() -> None:
    return None


def _asked_to_retry(history: Sequence[str]) -> bool:
    """Whether somebody asked, since the worker's last entry, not to wait for the retry's time."""
    for chunk in reversed(history):
        for entry in reversed(loads(chunk)):
            if entry["k"] not in SERVER_KINDS:
                return False
            if entry["k"] == EntryKind.QUEUED and entry["by"] == QueuedBy.RETRY:
                return True
    return False


def _handed_back(history: Sequence[str]) -> int:
    """How often workers handed the run back since the last entry of one of them."""
    times = 0
    for chunk in reversed(history):
        for entry in reversed(loads(chunk)):
            if entry["k"] != EntryKind.QUEUED or entry["by"] not in (QueuedBy.RELEASED, QueuedBy.LOST):
                return times
            times += entry["by"] == QueuedBy.RELEASED
    return times
