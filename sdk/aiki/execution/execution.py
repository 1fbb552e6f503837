"""One activation of one run: replay, then one end after another, each handed back while the code settles in between.

Whoever drives it says what happened and when; it says what to write, what to run and what the run waits for. It reads no clock
and does no I/O. Ends are recorded in the order in which they are handed back, so replay hands them back in that order, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from aiki.context.control_signals import Suspended
from aiki.context.log import LogSink, RunLog
from aiki.context.run import Run
from aiki.context.state import State
from aiki.errors import PayloadError, error_info, error_named
from aiki.execution.batch import NOTHING, JournalBatch, JournalWriter
from aiki.execution.calls.call import Call, ChildCall, PayloadMisfit, TaskCall, Wait
from aiki.execution.calls.calls import Calls
from aiki.execution.calls.inbox import Inbox, InboxDelivery, TimerFired
from aiki.execution.calls.looks import Looks
from aiki.execution.calls.waits import waits_for
from aiki.execution.divergence import divergence
from aiki.execution.journal import Journal, Record
from aiki.execution.loop.loop import CodeGuard, Unguarded
from aiki.execution.outcome import Cancelled, Completed, Failed, Outcome, TaskAttempt, WaitConditions
from aiki.execution.outcomes import child_error, outcome_of
from aiki.protocol import EntryKind, ErrorInfo, InboxItem, Status
from aiki.values.codec import loads
from aiki.values.duration import MICROS_PER_SECOND

if TYPE_CHECKING:
    from aiki.definitions.workflow import VersionDefinition

_UNGUARDED: Final = Unguarded()
_ENTRY: Final = {Completed: EntryKind.COMPLETED, Failed: EntryKind.FAILED_RUN, Cancelled: EntryKind.CANCELLED}


class Execution:
    """See the module. `outcome` is set once the code ended; `stop` when the run must be paused with an error instead."""

    def __init__(
        self,
        definition: VersionDefinition[Any, Any],
        *,
        run_id: str,
        input: str,
        history: Sequence[str],
        inbox: Sequence[InboxItem],
        inbox_seen: int,
        now: int,
        workflow: str,
        version: str,
        log: LogSink,
        guard: CodeGuard = _UNGUARDED,
    ) -> None:
        """Replays: on return the code has settled against the history."""
        self.outcome: Outcome | None = None
        self.stop: ErrorInfo | None = None
        self._name: Final = f"{workflow} {version}"
        self._definition: Final = definition
        self._guard: Final = guard
        self._log: Final = RunLog(log)
        self._always_log: Final = RunLog(log)
        self._state: Final = State()
        self._journal: Final = Journal(history)
        self._writer: Final = JournalWriter()
        self.looks: Final = Looks()
        """The timers that fired, each with the events that were awaited then; cleared by the driver when they are written."""
        self._inbox: Final = Inbox(inbox, inbox_seen, self.looks)
        self._paused = False
        self._agrees = False
        self._cancelled: str | None = None
        self._closed = False
        self._now = now
        began = self._begin(now)
        self._calls: Final = Calls(run_id, self._journal, writer=self._writer, inbox=self._inbox, log=self._log, began=began)
        self._main: asyncio.Task[Any] = self._calls.loop.create_task(self._code(Run(self._calls, log=self._log, state=self._state), input))
        self._replay()

    # ---- what happens, told by the driver

    def advance(self, now: int) -> None:
        """Hands over, one at a time, what has come that a call waits for, and the timers that are due."""
        self._now = max(self._now, now)
        while self._accepts_input and not self._paused:
            delivery = self._inbox.next(now)
            if delivery is None:
                return
            if isinstance(delivery, TimerFired):
                self._hand_due(delivery.call)
            else:
                self._hand_item(delivery)

    def receive(self, items: Sequence[InboxItem], inbox_seen: int) -> None:
        """Takes in what came into the inbox; `advance` hands it over."""
        self._inbox.receive(items, inbox_seen)

    def task_done(self, call: int, result: object, now: int) -> bool:
        """A task returned. What JSON cannot hold fails it for good; whether that is not so."""
        ended = self._ended_task(call, now)
        if ended is None:
            return True
        try:
            text, value = ended.codec.returned(result)
        except PayloadError as error:
            self._fail_task(
                ended, error_named("PayloadError", f"task {ended.task.name} ({ended.task.place}) returned what JSON cannot hold: {error}")
            )
            return False
        self._writer.done(call, self._completed_at(ended), text)
        ended.future.set_result(value)
        self._run_until_blocked()
        return True

    def task_failed(self, call: int, error: BaseException, now: int, delay_random: float) -> None:
        """A task raised: it is tried again, or its failure is handed to the code. `delay_random` is in [0, 1)."""
        ended = self._ended_task(call, now)
        if ended is None:
            return
        ended.attempt += 1
        retry = ended.task.retry
        again = retry.retries(error, ended.attempt)
        info = error_info(error, retryable=again)
        if not again:
            self._fail_task(ended, info)
            return
        ended.not_before = self._now + round(retry.delay(ended.attempt, delay_random) * MICROS_PER_SECOND)
        self._calls.delayed.note(ended)
        self._writer.attempt(call, ended.attempt, self._now, info, due=ended.not_before)
        self._calls.ready.append(ended)

    def task_abandoned(self, call: int) -> None:
        """A task was handed back before it ended: as if it had never been started."""
        given_back = self._calls.open.get(call)
        if isinstance(given_back, TaskCall) and given_back.running:
            given_back.running = False
            self._calls.ready.append(given_back)

    def set_paused(self, on: bool) -> None:
        """While held (paused), no task is given out and nothing but the ends of running tasks is handed over."""
        self._paused = on

    def close(self) -> None:
        """Discards the code, in silence."""
        if self._closed:
            return
        self._closed = self._calls.closed = self._log.silent = True
        self._calls.loop.discard()
        self._calls.open.clear()
        self._calls.ready.clear()

    # ---- what is to be done, asked by the driver

    def take_commit(self, limit: int | None = None) -> JournalBatch | None:
        """What is to be written since the last take; with a limit (characters) perhaps not all of it: then `more` is true.

        The ends in it must be stored before any task taken after it starts, an outcome or stop goes with the last of it.
        """
        state = self._state_to_store()
        batch = self._writer.take(limit)
        if state is None or self.more:
            return batch
        self._state.stored(state)
        return replace(batch or NOTHING, state=state)

    @property
    def more(self) -> bool:
        """Whether there is more to be written than was taken."""
        return len(self._writer) > 0

    def take_tasks(self) -> list[TaskAttempt]:
        """The tasks to run now, each once for each attempt."""
        if self._paused or not self._accepts_input:
            return []
        ready, self._calls.ready = self._calls.ready, []
        return [self._attempt(call) for call in ready if call.open]

    def cancelled_tasks(self) -> list[int]:
        """The running tasks that nobody waits for any more, each once."""
        cancelled, self._calls.cancelled = self._calls.cancelled, []
        return cancelled

    def waits(self) -> WaitConditions | None:
        """What the run waits for; None while a task runs or may start."""
        return waits_for(self._calls, inbox=self._inbox, now=self._now)

    def next_due(self) -> int | None:
        """The earliest timer or retry."""
        retries = [call.not_before for call in self._calls.ready if call.open]
        return min((due for due in (self._inbox.next_due(), *retries) if due is not None), default=None)

    @property
    def inbox_seen(self) -> int:
        """The number of the newest inbox item that was received."""
        return self._inbox.inbox_seen

    @property
    def unread(self) -> set[str]:
        """The names of the events that have come and were handed to nobody."""
        return self._inbox.unread()

    # ---- replay

    def _begin(self, now: int) -> int:
        if self._journal.began is not None:
            self._log.silent = True
            return self._journal.began
        self._writer.began(now)
        return now

    def _replay(self) -> None:
        self._run_until_blocked()
        replayed = self._log.silent
        self._log.silent = False
        if replayed and not self._journal.rewound:  # after a rewind, what was assigned on the way is not stored yet
            state = self._state_to_store()
            if state is not None:
                self._state.stored(state)

    def _run_until_blocked(self) -> None:
        """Lets the code settle; hands back what is recorded and waited for; looks whether the code has ended."""
        self._run_until_idle()
        while self._accepts_input:
            record = self._journal.next_record()
            if record is None:
                break
            self._hand_record(record)
            self._run_until_idle()
        if self.stop is not None:
            return
        if self._main.done():
            self._finish()
            return
        if self._check_divergence() and not self._calls.open:
            self._set_outcome(
                Failed(error_named("NothingToWaitFor", f"{self._name} waits for something that no task, timer, event or child can bring"))
            )

    def _check_divergence(self) -> bool:
        """At rest: records that no code asked for, beside what would run and has no record, are a divergence, and the run stops.

        A wait, a sleep or a child that is reserved in the history runs nothing here, so it may go on beside them, until a call is new.
        """
        if self._agrees or self._journal.exhausted:
            return True
        left = self._journal.leftovers(self._definition.removed)
        if not left:
            self._agrees = True  # from now on there are only fewer
            return True
        held = [call for call in self._calls.open.values() if not call.reserved or isinstance(call, TaskCall)]
        if self._calls.open and not held:
            return True
        self._writer.roll_back()
        self._stop(divergence(self._name, left=left, held=held))
        return False

    def _hand_record(self, record: Record) -> None:
        if record["k"] == EntryKind.CANCEL:
            self._calls.now = max(self._calls.now, record["at"])
            self._deliver_cancel(record.get("reason"))
            return
        call = self._calls.replayed.pop(record["c"])
        if not call.open:
            return
        self._calls.mark_completed(call, record["at"])
        if record["k"] == EntryKind.FAILED:
            call.fail(ErrorInfo.model_validate(record["e"]))
        elif "timeout" in record:
            _expire(call)
        else:
            self._hand_recorded(record, call)

    def _hand_recorded(self, record: Record, call: Call) -> None:
        try:
            call.succeed(record["v"])
        except PayloadMisfit as misfit:  # as in a divergence, the code is not that which wrote the history
            self._stop_for_broken_code(
                _misfit(f"{self._name}: {misfit}. It was recorded so: restore an annotation that takes it and retry the run, or cancel it")
            )

    # ---- handing over

    def _hand_due(self, call: Call) -> None:
        self._now = max(self._now, call.due or 0)
        self.looks.note(call.number)
        self._writer.done(call.number, self._completed_at(call), "null", timeout=isinstance(call, Wait))
        _expire(call)
        self._run_until_blocked()

    def _hand_item(self, delivery: InboxDelivery) -> None:
        item, call = delivery.item, delivery.call
        if call is None:
            self._calls.now = max(self._calls.now, self._now)
            reason = None if item.payload is None else loads(item.payload)
            self._writer.cancel(self._calls.now, item.seq, reason)
            self._deliver_cancel(reason)
        elif isinstance(call, ChildCall) and item.status is not Status.COMPLETED:
            error = child_error(item)
            self._writer.failed(call.number, self._completed_at(call), error, item=item.seq)
            call.fail(error)
        else:
            self._hand_value(item, call)
            return
        self._run_until_blocked()

    def _hand_value(self, item: InboxItem, call: Wait | ChildCall) -> None:
        """What an event or a child brought. What does not fit is not taken: the run pauses, as in a divergence, until its code takes it."""
        text = item.payload or "null"
        try:
            call.succeed_text(text)
        except PayloadMisfit as misfit:
            cancel = self._inbox.cancel_before(item)
            if cancel is not None:
                self._hand_item(cancel)
                return
            self._stop(_misfit(f"{self._name}: {misfit}. {_untaken(item)}"))
            return
        self._writer.done(call.number, self._completed_at(call), text, item=item.seq)
        self._run_until_blocked()

    def _deliver_cancel(self, reason: str | None) -> None:
        self._cancelled = "cancelled on request" if reason is None else f"cancelled on request: {reason}"
        self._main.cancel(reason)

    def _completed_at(self, call: Call) -> int:
        """The instant at which the call's end is handed back."""
        self._calls.mark_completed(call, self._now)
        return self._calls.now

    def _ended_task(self, number: int, now: int) -> TaskCall | None:
        self._now = max(self._now, now)
        call = self._calls.open.get(number) if self._accepts_input else None
        if not isinstance(call, TaskCall):
            return None
        call.running = False
        return call

    def _fail_task(self, call: TaskCall, error: ErrorInfo) -> None:
        self._writer.failed(call.number, self._completed_at(call), error)
        call.fail(error)
        self._run_until_blocked()

    def _attempt(self, call: TaskCall) -> TaskAttempt:
        call.running = True
        definition: Any = call.task
        key = f"{self._calls.run_id}-{call.number}"
        args, kwargs = call.arguments.take()  # of its own for each attempt: the one before may have changed them
        return TaskAttempt(call.number, definition, args, kwargs, call.attempt + 1, call.not_before, key, call.label())

    # ---- ends

    @property
    def _accepts_input(self) -> bool:
        return self.outcome is None and self.stop is None and not self._closed

    async def _code(self, run: Run, input_text: str) -> Any:
        try:
            coroutine = self._definition.call(run, input_text)
        except PayloadError as error:
            if self._journal.began is None:
                raise  # it never fitted: the run fails with what the caller has to change
            self._calls.broken = _misfit(
                f"{self._name}: {error}. It fitted when the run began: publish a version for it and restore this one, or cancel the run"
            )
            raise Suspended from error
        return await coroutine

    def _run_until_idle(self) -> None:
        loop = self._calls.loop
        blocked = loop.run_until_idle(self._guard)
        if blocked is not None:
            self._stop_for_broken_code(
                error_named(
                    "BlockedLoop",
                    f"{self._name} blocks its event loop at {blocked}: workflow code may only compute and await; do this in a task",
                )
            )
        elif self._calls.broken is not None:
            self._stop_for_broken_code(self._calls.broken)
        elif loop.never_awaited is not None:
            self._stop_for_broken_code(
                error_named("NeverAwaited", f"{self._name}: {loop.never_awaited} was never awaited: write `await` before the call")
            )

    def _stop_for_broken_code(self, error: ErrorInfo) -> None:
        """The code is broken: what it asked for since the last record is forgotten."""
        self._writer.roll_back()
        self._stop(error)

    def _stop(self, error: ErrorInfo) -> None:
        self.stop = error
        self._cancel_tasks()

    def _finish(self) -> None:
        for left in self._journal.leftovers(self._definition.removed):
            self._always_log.warning("%s returned without asking for the recorded call %s", self._name, left.address)
        outcome = outcome_of(self._main, self._definition, name=self._name, cancelled=self._cancelled)
        if isinstance(outcome, Completed):
            for call in self._calls.open.values():
                if isinstance(call, TaskCall):
                    self._always_log.warning("%s returned before task %s ended, which is cancelled: await it", self._name, call.task.name)
        self._set_outcome(outcome)

    def _set_outcome(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self._writer.ended(_ENTRY[type(outcome)], self._calls.now, None if isinstance(outcome, Completed) else outcome.error)
        self._cancel_tasks()
        self._calls.loop.prune()

    def _state_to_store(self) -> str | None:
        """The state if it has changed. What cannot be stored stops the run, unless it has failed or was cancelled: that is then the end."""
        if self.stop is not None:
            return None
        try:
            return self._state.change()
        except PayloadError as error:
            if isinstance(self.outcome, (Failed, Cancelled)):
                self._always_log.warning("%s: %s", self._name, error)
                return None
            self.outcome = None
            self._stop_for_broken_code(error_named("PayloadError", f"{self._name}: {error}. Correct the code and retry the run"))
            return None

    def _cancel_tasks(self) -> None:
        running = [call.number for call in self._calls.open.values() if isinstance(call, TaskCall) and call.running]
        self._calls.cancelled.extend(running)
        self._calls.ready.clear()


def _misfit(message: str) -> ErrorInfo:
    return error_named("PayloadError", message)


def _untaken(item: InboxItem) -> str:
    what = f"event {item.seq}, {item.name}," if item.kind == "event" else f"the result of child {item.child}"
    return (
        f"The run did not take {what} and meets it again when it goes on: deploy code of this version with an annotation that takes it, and "
        "retry the run. Nothing but such code leads past it; cancelling ends the run"
    )


def _expire(call: Call) -> None:
    """A timer fires, or a wait has run out of patience."""
    if isinstance(call, Wait):
        call.expire()
    else:
        call.succeed(None)
