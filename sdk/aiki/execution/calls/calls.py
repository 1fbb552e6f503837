"""Where workflow code makes its calls: reservation in the order of the calls, and the match with what was recorded.

A call whose address was recorded takes over that reservation; any other gets the next number and is written to the draft. A call
with a recorded end waits for replay to hand it back; one without is held until the execution judges that nothing is left over.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NoReturn

from aiki.context.control_signals import Suspended
from aiki.context.log import RunLog
from aiki.errors import StepLimit, error_named
from aiki.execution.batch import JournalWriter
from aiki.execution.calls.call import Call, ChildCall, FutureCall, LoopTimer, Sleep, TaskCall, Wait
from aiki.execution.calls.delayed import Delayed
from aiki.execution.calls.inbox import Inbox
from aiki.execution.journal import Journal, Reservation
from aiki.execution.loop.loop import DurableTimer, WorkflowLoop
from aiki.execution.loop.pending import Child, Pending
from aiki.protocol import MAX_STEPS, ChildStart, ErrorInfo
from aiki.values.address import address, child_id, without_defaults
from aiki.values.codec import ANY, canonical
from aiki.values.duration import MICROS_PER_SECOND, micros
from aiki.values.signature import canonical_arguments
from aiki.values.twice import same_function, told

if TYPE_CHECKING:
    from aiki.definitions.event import Event
    from aiki.definitions.task import TaskDefinition
    from aiki.definitions.workflow import VersionDefinition
    from aiki.values.twice import Origin

_NO_ID: Final = ""
_CHILD: Final = ChildStart.model_construct


class Calls:
    """All calls of one activation. `now` is the instant of the last record."""

    def __init__(self, run_id: str, journal: Journal, *, writer: JournalWriter, inbox: Inbox, log: RunLog, began: int) -> None:
        self.run_id: Final = run_id
        self.began: Final = began
        self.now = began
        self.loop: Final = WorkflowLoop(self, run_id)  # type: ignore[abstract]  # what it lacks is set below ClosedLoop, to refuse
        self.open: Final[OrderedDict[int, Call]] = OrderedDict()  # whose first one is found at once, also when many before it are gone
        self.delayed: Final = Delayed()
        self.tasks = 0
        self.children = 0
        self.replayed: Final[dict[int, Call]] = {}
        self.ready: list[TaskCall] = []
        self.cancelled: list[int] = []
        self.closed = False
        self.broken: ErrorInfo | None = None
        """What the code must not do: it was stopped there."""
        self._named: Final[dict[str, TaskDefinition[..., Any, Any]]] = {}
        self._events: Final[dict[str, Event[Any]]] = {}
        self._journal: Final = journal
        self._writer: Final = writer
        self._inbox: Final = inbox
        self._log: Final = log
        self._next = journal.size

    # ---- what the code calls

    def task(self, definition: TaskDefinition[..., Any, Any], bound: dict[str, Any]) -> Pending[Any]:
        """Reserves a task; its arguments are copied unless its end is recorded: first, for a call that cannot be made reserves nothing."""
        known = self._named.setdefault(definition.name, definition)
        if known is not definition and not (known.origin.again(definition.origin) or same_function(known.fn, definition.fn)):
            self._two(definition.called, known.origin, definition.origin)
        parameters = definition.parameters
        texts, written = parameters.texts(bound)
        call = TaskCall(address("task", definition.name, canonical_arguments(texts)), definition, texts)
        if self._journal.has_end(call.address):
            return self._future(call)
        call.arguments = parameters.arguments(bound, written)
        future = self._future(call)
        self.ready.append(call)
        return future

    def sleep(self, text: str, label: str, due: int) -> Pending[None]:
        """Reserves a sleep until an instant; `text` says what was asked for."""
        call = Sleep(address("sleep", "", text), ANY, label)
        call.due = due
        return self._future(call)

    def wait(self, event: Event[Any], timeout: int | None) -> Pending[Any]:
        """Reserves a wait for an event, for at most `timeout` microseconds."""
        known = self._events.setdefault(event.name, event)
        if known is not event and not (known.same(event) or known.origin.again(event.origin)):
            self._two(event.called, known.origin, event.origin)
        call = Wait(address("event", event.name, canonical(timeout)), event.codec, event.name, limited=timeout is not None)
        if timeout is not None:
            call.due = self.now + timeout
        return self._future(call)

    def child(self, version: VersionDefinition[Any, Any], value: Any, *, on_parent_close: Any, pool: str | None) -> Child[Any]:
        """Reserves a child; it is created with the commit that stores the reservation."""
        value = version.given(value)
        written = version.input.jsonable(value)
        text = canonical(without_defaults(value, written))
        place = address("child", f"{version.workflow}@{version.version}", text)
        start = _CHILD(
            id=_NO_ID,
            workflow=version.workflow,
            version=version.version,
            pool=pool,
            input="" if self._journal.has_call(place) else version.input.read_back(value, written)[0],
            on_parent_close=on_parent_close,
        )
        call = ChildCall(place, version.output, start, text=text)
        child: Child[Any] = Child(call, self.loop)
        call.future = child
        self._reserve(call)
        return child

    # ---- what the loop calls

    def timer(self, handle: DurableTimer, delay: float) -> None:
        """Makes a timer of the loop durable."""
        length = micros(delay)
        call = LoopTimer(address("timer", "", str(length)), handle, self.loop, delay=length)
        call.due = self.now + length
        self._reserve(call)
        handle.call = call.number

    def cancel_timer(self, handle: DurableTimer) -> None:
        """A timer that was cancelled never fires and is not recorded."""
        call = self.open.get(handle.call) if handle.call is not None else None
        if call is not None:
            call.cancel()

    def elapsed(self) -> float:
        """Seconds since the run began, at the last record."""
        return (self.now - self.began) / MICROS_PER_SECOND

    def on_unhandled_error(self, message: str, error: BaseException | None) -> None:
        """asyncio found an error that no code asked for."""  # noqa: D403  its name is lower-case
        self._log.error("%s: %s: %s", message, type(error).__name__, error) if error else self._log.error(message)

    # ---- what the execution calls

    def mark_completed(self, call: Call, at: int) -> None:
        """The call's end is being handed back."""
        self.now = max(self.now, at)
        self._close(call)

    def _two(self, what: str, first: Origin, second: Origin) -> NoReturn:
        self.broken = error_named("TwoOfOneName", told(what, first, second))
        raise Suspended

    def _future(self, call: FutureCall) -> Pending[Any]:
        call.future = Pending(call, self.loop)
        self._reserve(call)
        return call.future

    def _reserve(self, call: Call) -> None:
        if self.closed:
            raise Suspended
        found = self._journal.take(call.address)
        if found is None:
            self._number(call)
        else:
            call.reserved = True
            _take_over(call, found)
            if found.not_before is not None and isinstance(call, TaskCall):
                self.delayed.note(call)
            if isinstance(call, Wait) and self._journal.rewound:
                call.known = self._inbox.inbox_seen
        self.open[call.number] = call
        self.tasks += call.is_task
        self.children += call.is_child
        call.on_cancel = self._cancel
        if found is not None and found.record is not None:
            self.replayed[call.number] = call
            self._journal.expect(found)
        else:
            self._inbox.expect(call)

    def _number(self, call: Call) -> None:
        if self._next >= MAX_STEPS:
            raise StepLimit(f"{MAX_STEPS} calls are what one run may make: let child workflows do the work in parts")
        call.number = self._next
        self._next += 1
        start = None
        if isinstance(call, ChildCall):
            call.id = child_id(self.run_id, call.number, self.now)
            start = call.start.model_copy(update={"id": call.id})
        elif isinstance(call, Wait):
            call.known = self._inbox.inbox_seen
        self._writer.call(call.number, call.address, label=call.label(), due=call.due, child=start)

    def _close(self, call: Call) -> None:
        call.open = False
        if self.open.pop(call.number, None) is not None:
            self.tasks -= call.is_task
            self.children -= call.is_child
        if call.is_task:
            self.delayed.calls.pop(call.number, None)
        else:
            self._inbox.closed(call)

    def _cancel(self, call: Call) -> None:
        self._close(call)
        if isinstance(call, TaskCall) and call.running:
            self.cancelled.append(call.number)
        elif isinstance(call, ChildCall):
            self._cancel_child(call)

    def _cancel_child(self, call: ChildCall) -> None:
        """The child is to be cancelled: once, unless it has ended, or was started to be abandoned."""
        if not (self.closed or call.cancel_requested or call.number in self.replayed or call.start.on_parent_close == "abandon"):
            self._writer.cancel_child(call.number, call.id)


def _take_over(call: Call, found: Reservation) -> None:
    call.number = found.number
    call.due = found.due
    if isinstance(call, ChildCall):
        call.id, call.cancel_requested = str(found.child), found.cancel_requested
    elif isinstance(call, TaskCall):
        call.attempt, call.not_before = found.attempt, found.not_before
