"""Compensation: steps that are undone, last first, if what follows them fails or is cancelled.

An undo is a task like any other: recorded, retried, replayed. An undo that fails does not keep the others from running.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self

from aiki.context.control_signals import BlockedLoop, Suspended
from aiki.errors import PayloadError, StepFailed

if TYPE_CHECKING:
    from aiki.context.run import Run
    from aiki.definitions.task import TaskDefinition
    from aiki.execution.loop.pending import Pending

P = ParamSpec("P")


class Saga:
    """Made by `run.saga()`."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._undos: list[Callable[[], Pending[Any]]] = []

    def undo(self, task: TaskDefinition[P, Any, Any], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """If the block does not end well, start `task` with these arguments, as they are now. Refuses here what `task.start` would refuse then."""
        bound = task.parameters.bind(args, kwargs)
        copied_args, copied_kwargs = task.parameters.arguments(bound, task.parameters.texts(bound)[1]).take()
        self._undos.append(partial(task.start, self._run, *copied_args, **copied_kwargs))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Undoes and lets the error go on; it carries a note for each undo that failed."""
        if error is None or isinstance(error, (Suspended, BlockedLoop, GeneratorExit)):
            return
        while self._undos:
            try:
                await self._undos.pop()()
            except (StepFailed, PayloadError) as failed:
                error.add_note(f"not undone: {failed}")
                self._run.log.error("a step could not be undone: %s", failed)  # noqa: TRY400  the note and the stored failure have the stack
