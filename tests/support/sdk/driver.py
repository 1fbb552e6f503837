"""Plays the worker's and the server's part for one run: a durable history, an inbox, a clock that only tests move.

What was not acknowledged is lost in a crash. Tasks that follow from an unacknowledged end do not start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiki.execution.batch import JournalBatch
from aiki.execution.execution import Execution
from aiki.execution.outcome import Completed, Outcome, TaskAttempt
from aiki.protocol import ChildStart, ErrorInfo, InboxItem, Status

START = 1_700_000_000_000_000
RUN_ID = "00" + "018bcfe56800" + "a" * 18


class Driver:
    def __init__(self, definition: Any, input: Any = None, *, run_id: str = RUN_ID) -> None:
        self.definition = definition
        self.run_id = run_id
        self.input = json.dumps(input)
        self.now = START
        self.chunks: list[str] = []
        self.inbox: dict[int, InboxItem] = {}
        self.inbox_seen = 0
        self.children: dict[str, ChildStart] = {}
        self.cancelled_children: list[str] = []
        self.ended_children: set[str] = set()
        self.states: list[str] = []
        self.outcome: Outcome | None = None
        self.logged: list[tuple[int, str, Mapping[str, Any]]] = []
        self.unacked: list[JournalBatch] = []
        self.running: dict[int, TaskAttempt] = {}
        self.to_start: list[TaskAttempt] = []
        self.execution: Execution = None  # type: ignore[assignment]  # set by activate
        self.activate()

    # ---- activations

    def activate(self) -> None:
        """Claims the run: a new execution replays what is stored."""
        self.execution = Execution(
            self.definition,
            run_id=self.run_id,
            input=self.input,
            history=list(self.chunks),
            inbox=list(self.inbox.values()),
            inbox_seen=self.inbox_seen,
            now=self.now,
            workflow=self.definition.workflow,
            version=self.definition.version,
            log=lambda line: self.logged.append((line.level, line.message, line.fields)),
        )

    def crash(self) -> None:
        """The worker dies: what was not acknowledged is gone."""
        self.execution.close()
        self.unacked.clear()
        self.running.clear()
        self.to_start.clear()
        self.activate()

    def pump(self) -> None:
        """Looks what there is to write and to run."""
        execution = self.execution
        execution.advance(self.now)
        batch = execution.take_commit()
        tasks = execution.take_tasks()
        for call in execution.cancelled_tasks():
            self.running.pop(call, None)
            self.to_start = [task for task in self.to_start if task.call != call]
        if batch is not None:
            assert batch.count == len(json.loads(batch.entries))
            self.unacked.append(batch)
        self.to_start += tasks

    def ack(self, count: int | None = None) -> None:
        """The server answers: these batches, in order, are stored."""
        acked = self.unacked[:count]
        del self.unacked[: len(acked)]
        for batch in acked:
            self._store(batch)
        if not self.unacked:
            if self.execution.outcome is not None:
                self.outcome = self.execution.outcome
            for task in self.to_start:
                self.running[task.call] = task
            self.to_start.clear()

    def turn(self) -> None:
        """Writes and starts whatever there is."""
        self.pump()
        self.ack()

    # ---- what comes from outside

    def finish(self, call: int, result: object) -> None:
        self.running.pop(call)
        self.execution.task_done(call, result, self.now)

    def fail(self, call: int, error: BaseException, *, random: float = 0.5) -> None:
        self.running.pop(call)
        self.execution.task_failed(call, error, self.now, random)

    def send(self, name: str, payload: Any = None) -> None:
        self._arrive(InboxItem(seq=self.inbox_seen + 1, kind="event", name=name, payload=json.dumps(payload), at=self.now))

    def cancel(self, reason: str | None = None) -> None:
        payload = None if reason is None else json.dumps(reason)
        self._arrive(InboxItem(seq=self.inbox_seen + 1, kind="cancel", payload=payload, at=self.now))

    def end_child(self, child: str, output: Any = None, *, status: Status = Status.COMPLETED, error: ErrorInfo | None = None) -> None:
        self.ended_children.add(child)
        self._arrive(
            InboxItem(
                seq=self.inbox_seen + 1, kind="child", child=child, payload=json.dumps(output), status=status, error=error, at=self.now
            )
        )

    def tell(self) -> None:
        """The worker hears what came in."""
        self.execution.receive(list(self.inbox.values()), self.inbox_seen)

    def _arrive(self, item: InboxItem) -> None:
        self.inbox_seen += 1
        self.inbox[item.seq] = item

    # ---- what is stored

    @property
    def history(self) -> list[dict[str, Any]]:
        return [entry for chunk in self.chunks for entry in json.loads(chunk)]

    @property
    def output(self) -> Any:
        assert isinstance(self.outcome, Completed), (self.outcome, self.execution.stop)
        return json.loads(self.outcome.output)

    def kinds(self) -> list[str]:
        return [entry["k"] for entry in self.history]

    def _store(self, batch: JournalBatch) -> None:
        self.chunks.append(batch.entries)
        for item in batch.consumed:
            del self.inbox[item]
        for child in batch.children:
            assert child.id not in self.children
            self.children[child.id] = child
        for child_id in batch.cancel_children:
            assert child_id in self.children
            assert child_id not in self.cancelled_children
            self.cancelled_children.append(child_id)
        if batch.state is not None:
            self.states.append(batch.state)

    # ---- the whole way

    def run_tasks(self, results: Mapping[str, Any]) -> None:
        """Turns until nothing runs; each task answers what `results` has for its name (called with its arguments if callable)."""
        self.turn()
        while self.running:
            task = self.running[min(self.running)]
            result = results[task.task.name]
            try:
                value = result(*task.args, **task.kwargs) if callable(result) else result
            except Exception as error:  # noqa: BLE001  the user's code
                self.fail(task.call, error)
            else:
                if isinstance(value, Exception):
                    self.fail(task.call, value)
                else:
                    self.finish(task.call, value)
            self.turn()

    def pass_time(self, results: Mapping[str, Any], *, until: int | None = None) -> None:
        """Runs tasks and moves the clock from one due time to the next, up to `until`."""
        self.run_tasks(results)
        while self.outcome is None and self.execution.stop is None:
            due = self.execution.next_due()
            if due is None or (until is not None and due > until):
                return
            self.now = max(self.now, due)
            self.run_tasks(results)
