"""A world for workflows in a test: runs, a clock that jumps from one due time to the next, tasks that run one after another.

Nothing waits for real. With `crash=True` every commit is followed by a crash and a replay: code that is not deterministic shows at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from heapq import heappop, heappush
from typing import Any, Final, TypeVar, cast

from aiki.context.log import LogLine
from aiki.context.task_context import TaskContext, current_task
from aiki.definitions.task import TaskDefinition
from aiki.definitions.workflow import VersionDefinition, WorkflowDefinition
from aiki.errors import AikiError
from aiki.execution.outcome import TaskAttempt
from aiki.testing.run import SimulatedRun, in_callback
from aiki.values.duration import instant, since_epoch

O = TypeVar("O")  # noqa: E741  the output of a workflow


class Stuck(AikiError):
    """Nothing can happen any more, and the run that is waited for has not ended."""


class Simulation:
    """Runs of these workflows. `tasks` puts other functions in the place of tasks; `random` of retry delays is one half."""

    def __init__(
        self,
        *workflows: WorkflowDefinition,
        tasks: Mapping[TaskDefinition[..., Any, Any], Callable[..., Any]] | None = None,
        begin_at: datetime = datetime(2026, 1, 1, tzinfo=UTC),
        crash: bool = False,
    ) -> None:
        self.micros = since_epoch(begin_at)
        self.runs: dict[str, SimulatedRun[Any]] = {}
        self._open: dict[str, SimulatedRun[Any]] = {}
        self._workflows: Final = {workflow.name: workflow for workflow in workflows}
        self._fakes: Final = {task.name: fake for task, fake in (tasks or {}).items()}
        self._crash: Final = crash
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._planned = 0

    def now(self) -> datetime:
        """The virtual clock."""
        return instant(self.micros)

    def start(self, version: VersionDefinition[Any, O], input: Any = None) -> SimulatedRun[O]:
        """A run; it goes on when something waits for a result."""
        number = len(self.runs)
        id = f"00{self.micros // 1000:012x}{sha256(str(number).encode()).hexdigest()[:18]}"
        return self._add(SimulatedRun(self, version, id=id, input=version.input.encode(version.given(input)), parent=None))

    def later(self, after: timedelta, action: Callable[[], None]) -> None:
        """Plans something, by the virtual clock."""
        self._planned += 1
        heappush(self._agenda, (self.micros + after // timedelta(microseconds=1), self._planned, action))

    async def run_until(self, run: SimulatedRun[Any]) -> None:
        """Lets everything happen until the run has ended, or was stopped by an error in its code."""
        while not run.over():
            self._act()
            if not await self._turn() and not run.over() and not self._jump():
                raise Stuck(_why(run))

    # ---- how it goes on

    def _act(self) -> None:
        while self._agenda and self._agenda[0][0] <= self.micros:
            heappop(self._agenda)[2]()

    async def _turn(self) -> bool:
        """Steps every run and runs one task of each; whether anything happened."""
        happened = False
        for run in list(self._open.values()):
            if run.over():  # perhaps just now, cancelled before it began
                del self._open[run.id]
                continue
            happened |= await in_callback(lambda run=run: self._step(run))  # type: ignore[misc]  # mypy does not infer a default
            attempt = run.next_task()
            if attempt is not None:
                happened = True
                await self._run(run, attempt)
        return happened

    def _step(self, run: SimulatedRun[Any]) -> bool:
        def log(line: LogLine) -> None:
            run.logged.append((line.level, line.message, dict(line.fields)))

        happened = run.step(log, crash=self._crash)
        children, cancelled_children = run.new_children()
        for child in children:
            definition = self._definition(child.workflow, child.version)
            self._add(SimulatedRun(self, definition, id=child.id, input=child.input, parent=run.id))
        for child_id in cancelled_children:
            self.runs[child_id].be_cancelled()
        if run.status.terminal:
            self.ended(run)
        return happened

    def _jump(self) -> bool:
        """Moves the clock to the next instant at which something happens; whether there is one."""
        dues = [run.next_due() for run in self._open.values()]
        due = min((due for due in (*dues, self._agenda[0][0] if self._agenda else None) if due is not None), default=None)
        if due is None:
            return False
        self.micros = max(self.micros, due)
        return True

    async def _run(self, run: SimulatedRun[Any], attempt: TaskAttempt) -> None:
        result: object = None
        error: BaseException | None = None
        token = current_task.set(TaskContext(run.id, attempt.call, attempt.attempt, attempt.key, attempt.label))
        try:
            fake = self._fakes.get(attempt.task.name)
            result = attempt.task.attempt(attempt.args, attempt.kwargs) if fake is None else fake(*attempt.args, **attempt.kwargs)
            if hasattr(result, "__await__"):
                result = await cast("Any", result)
        except Exception as raised:  # noqa: BLE001  user code
            error = raised
        finally:
            current_task.reset(token)
        await in_callback(lambda: run.task_ended(attempt, result, error))

    # ---- families

    def _add(self, run: SimulatedRun[O]) -> SimulatedRun[O]:
        self.runs[run.id] = self._open[run.id] = run
        return run

    def _definition(self, workflow: str, version: str | None) -> VersionDefinition[Any, Any]:
        known = self._workflows.get(workflow)
        if known is None or version not in known.versions:
            raise AikiError(f"the simulation knows no {workflow} {version}: name the child's workflow, as in Simulation(parent, child)")
        return known.versions[version]

    def ended(self, run: SimulatedRun[Any]) -> None:
        """Tells parent and children of a run that it has ended."""
        if run.parent is not None:
            self.runs[run.parent].arrive("child", child=run.id, status=run.status, payload=run.output, error=run.error)
        for child in run.children.values():
            if child.on_parent_close == "cancel":
                self.runs[child.id].be_cancelled()


def _why(run: SimulatedRun[Any]) -> str:
    events = run.waited_events()
    if events:
        return f"{run.definition.workflow} waits for {', '.join(events)}: send it, as in run.send(event, payload, after=timedelta(hours=1))"
    return f"{run.definition.workflow} waits for a run that does not end"
