"""One simulated run: what the server would keep of it (history, inbox, state), and its execution."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from aiki.context.log import LogSink
from aiki.definitions.event import Event
from aiki.definitions.workflow import VersionDefinition
from aiki.errors import RunCancelled, RunFailed, error_named
from aiki.execution.batch import JournalBatch
from aiki.execution.execution import Execution
from aiki.execution.outcome import Completed, Failed, TaskAttempt
from aiki.protocol import ChildStart, EntryKind, ErrorInfo, InboxItem, Status
from aiki.testing.queue import TaskQueue
from aiki.values.codec import ANY

if TYPE_CHECKING:
    from aiki.testing.simulation import Simulation

O = TypeVar("O")  # noqa: E741  the output of a workflow
T = TypeVar("T")


class SimulatedRun(Generic[O]):
    """A run of a simulation. `history` has its entries, `state` what the code wrote to `run.state`, `ran` the labels of started tasks."""

    def __init__(self, simulation: Simulation, definition: VersionDefinition[Any, O], *, id: str, input: str, parent: str | None) -> None:
        self.id = id
        self.parent = parent
        self.definition = definition
        self.state: dict[str, Any] = {}
        self.ran: list[str] = []
        self.logged: list[tuple[int, str, dict[str, Any]]] = []
        self.status = Status.RUNNING
        self.output: str | None = None
        self.error: ErrorInfo | None = None
        self.children: dict[str, ChildStart] = {}
        self.cancelled_children: list[str] = []
        self.cancel_requested = False
        self._simulation = simulation
        self._input = input
        self._chunks: list[str] = []
        self._inbox: dict[int, InboxItem] = {}
        self._inbox_seen = 0
        self._arrived: list[InboxItem] = []
        self._new_children: list[ChildStart] = []
        self._new_cancelled_children: list[str] = []
        self._tasks = TaskQueue()
        self._execution: Execution | None = None
        self._ends_at_crash = 0

    @property
    def history(self) -> list[dict[str, Any]]:
        """The entries that docs/internals/protocol.md describes."""
        return [entry for chunk in self._chunks for entry in json.loads(chunk)]

    def over(self) -> bool:
        """Whether it has ended, or was stopped by an error in its code."""
        return self.status is not Status.RUNNING

    async def result(self) -> O:
        """Lets the simulation go on until this run has ended; its output. RunFailed, RunCancelled, or Stuck."""
        await self._simulation.run_until(self)
        match self.status:
            case Status.COMPLETED:
                assert self.output is not None
                return self.definition.output.decode_text(self.output)
            case Status.CANCELLED:
                raise RunCancelled(self.id, self.error)
            case _:
                assert self.error is not None
                raise RunFailed(self.id, self.error)

    @overload
    def send(self, event: Event[T], payload: T, *, after: timedelta = timedelta()) -> None: ...
    @overload
    def send(self, event: Event[None], payload: None = None, *, after: timedelta = timedelta()) -> None: ...
    @overload
    def send(self, event: str, payload: Any = None, *, after: timedelta = timedelta()) -> None: ...
    def send(self, event: Event[Any] | str, payload: Any = None, *, after: timedelta = timedelta()) -> None:
        """An event, now or later by the virtual clock. PayloadError if the payload does not fit the event."""
        name, text = (event, ANY.encode(payload)) if isinstance(event, str) else (event.name, event.encode(payload))
        self._simulation.later(after, lambda: self.arrive("event", name=name, payload=text))

    def cancel(self, *, after: timedelta = timedelta()) -> None:
        """A request to cancel, now or later by the virtual clock."""
        self._simulation.later(after, self.be_cancelled)

    # ---- for the simulation

    def arrive(self, kind: Any, **fields: Any) -> None:
        """Something comes from outside."""
        if self.status.terminal:
            return
        self._inbox_seen += 1
        item = InboxItem(seq=self._inbox_seen, kind=kind, at=self._simulation.micros, **fields)
        self._inbox[self._inbox_seen] = item
        self._arrived.append(item)

    def be_cancelled(self) -> None:
        """A request to cancel comes; only the first counts. A run that has not begun ends at once."""
        if self.cancel_requested:
            return
        self.cancel_requested = True
        if self._chunks:
            self.arrive("cancel")
            return
        self.status, self.error = Status.CANCELLED, error_named("Cancelled", "The run was cancelled before it began.")
        self._chunks.append(f'[{{"k":"{EntryKind.CANCELLED}","at":{self._simulation.micros},"e":{self.error.model_dump_json()}}}]')
        self._simulation.ended(self)

    def step(self, log: LogSink, *, crash: bool) -> bool:
        """Hands over what has come, stores what is to be written; whether anything was. Must not run inside an asyncio task."""
        execution = self._claimed(log)
        arrived, self._arrived = self._arrived, []
        execution.receive(arrived, self._inbox_seen)
        execution.advance(self._simulation.micros)
        batch = execution.take_commit()
        if batch is not None:
            self._store(batch)
        self._tasks.forget(execution.cancelled_tasks())
        for attempt in execution.take_tasks():
            self._tasks.add(attempt)
        if execution.outcome is not None or execution.stop is not None:
            self._end(execution)
        elif batch is not None and crash and self._progressed():
            self._crash()
        return batch is not None

    def next_task(self) -> TaskAttempt | None:
        """The next task to run, unless it has a delay before it."""
        attempt = self._tasks.take(self._simulation.micros)
        if attempt is not None:
            self.ran.append(attempt.label)
        return attempt

    def new_children(self) -> tuple[list[ChildStart], list[str]]:
        """Children to start, and children to cancel, since this was last asked."""
        new, self._new_children = self._new_children, []
        cancelled_children, self._new_cancelled_children = self._new_cancelled_children, []
        return new, cancelled_children

    def task_ended(self, attempt: TaskAttempt, result: object, error: BaseException | None) -> None:
        """A task came back. Must not run inside an asyncio task."""
        if self._execution is None:
            return
        if error is None:
            self._execution.task_done(attempt.call, result, self._simulation.micros)
        else:
            self._execution.task_failed(attempt.call, error, self._simulation.micros, 0.5)

    def next_due(self) -> int | None:
        """When something happens by itself."""
        if self.status.terminal or self._execution is None:
            return None
        return min((due for due in (self._execution.next_due(), self._tasks.next_due()) if due is not None), default=None)

    def waited_events(self) -> list[str]:
        """What it waits for from outside."""
        waits = self._execution.waits() if self._execution is not None else None
        return waits.events if waits is not None else []

    def close(self) -> None:
        """Discards the execution."""
        if self._execution is not None:
            self._execution.close()
            self._execution = None

    def _claimed(self, log: LogSink) -> Execution:
        if self._execution is None:
            self._execution = Execution(
                self.definition,
                run_id=self.id,
                input=self._input,
                history=self._chunks,
                inbox=list(self._inbox.values()),
                inbox_seen=self._inbox_seen,
                now=self._simulation.micros,
                workflow=self.definition.workflow,
                version=self.definition.version,
                log=log,
            )
        return self._execution

    def _store(self, batch: JournalBatch) -> None:
        self._chunks.append(batch.entries)
        for item in batch.consumed:
            del self._inbox[item]
        self.children |= {child.id: child for child in batch.children}
        self.cancelled_children += batch.cancel_children
        self._new_children += batch.children
        self._new_cancelled_children += batch.cancel_children
        if batch.state is not None:
            self.state = json.loads(batch.state)

    def _crash(self) -> None:
        self._tasks.clear()
        self.close()

    def _progressed(self) -> bool:
        """Whether anything but reservations was stored since the last crash: code that asks for something else each time must not crash for ever."""
        ends = sum(1 for entry in self.history if entry["k"] != EntryKind.CALL)
        before, self._ends_at_crash = self._ends_at_crash, ends
        return ends > before

    def _end(self, execution: Execution) -> None:
        outcome = execution.outcome
        if isinstance(outcome, Completed):
            self.status, self.output = Status.COMPLETED, outcome.output
        elif outcome is None:
            self.status, self.error = Status.PAUSED, execution.stop
        else:
            self.status = Status.FAILED if isinstance(outcome, Failed) else Status.CANCELLED
            self.error = outcome.error
        self._crash()


async def in_callback(function: Callable[[], T]) -> T:
    """Calls it from a callback of the loop: newer Pythons step no loop inside a task of another."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def call() -> None:
        try:
            done.set_result(function())
        except BaseException as error:  # noqa: BLE001  carried to the caller, not handled
            done.set_exception(error)

    loop.call_soon(call)
    return await done
