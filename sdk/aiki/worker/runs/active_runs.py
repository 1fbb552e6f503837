"""The runs in hand: at most `concurrency`, each in its Activation, from its claim until it is given back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import copy_context
from typing import Final

from aiki.errors import error_info
from aiki.protocol import ClaimedRun, CommitAnswer, CommitOp, ErrorInfo, InboxQuery, InboxUpdate
from aiki.shared.redaction import shown
from aiki.worker.link.api import encoded
from aiki.worker.link.clock import DatabaseClockEstimate
from aiki.worker.link.commit_pipe import CommitPipe
from aiki.worker.link.lease import WorkerLease
from aiki.worker.registry import WorkflowRegistry
from aiki.worker.runs.activation import Activation, Mode
from aiki.worker.runs.context import ActivationContext
from aiki.worker.tasks.blocking_guard import BlockingGuard
from aiki.worker.tasks.runner import TaskRunner

log = logging.getLogger("aiki.worker")

COMMIT_SOON_SECONDS: Final = 0.1
"""Reservations of first tasks that run longer than this are written without waiting for a result to travel with."""


class ActiveRuns:
    """Slots, and what is in them."""

    def __init__(
        self,
        *,
        registry: WorkflowRegistry,
        concurrency: int,
        lease: WorkerLease,
        clock: DatabaseClockEstimate,
        pipe: CommitPipe,
        tasks: TaskRunner,
        guard: BlockingGuard,
        random: Callable[[], float],
        freed: Callable[[], None],
        pause_claims: Callable[[Callable[[], None]], bool],
    ) -> None:
        self._registry = registry
        self._concurrency = concurrency
        self._lease = lease
        self._pipe = pipe
        self._freed = freed
        self._mode = Mode.GO_ON
        self._loop = asyncio.get_running_loop()
        self._callback_context = copy_context()
        self._activation_context = ActivationContext(
            clock=clock,
            pipe=pipe,
            tasks=tasks,
            guard=guard,
            callback_context=self._callback_context,
            may_start=lease.holds,
            random=random,
            commit_soon=self._commit_soon,
            slot_wanted=self._slot_wanted,
            pause_claims=pause_claims,
            ended=self._ended,
        )
        self._coming: dict[str, ClaimedRun] = {}
        self._active: dict[str, Activation] = {}
        self._with_unsent: list[Activation] = []
        self._idling: dict[Activation, None] = {}
        self._commit_timer: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self.activations = 0

    def __len__(self) -> int:
        return len(self._active) + len(self._coming)

    # ---- what the poller asks

    def free(self) -> int:
        """How many more runs may be taken on now; none while the lease is in doubt, or while runs are being given back."""
        return self._concurrency - len(self) if self._mode is Mode.GO_ON and self._lease.holds() else 0

    def held(self) -> list[str]:
        """Every run that is this worker's own."""
        return [*self._active, *self._coming]

    def accept(self, claimed: ClaimedRun) -> None:
        """Begin to work on a run, in a callback of the loop: workflow code is never stepped inside a task."""
        if (older := self._active.get(claimed.id)) is not None:
            older.close()  # parked and woken; the answer to its last commit is still on its way
        self._coming[claimed.id] = claimed
        self._empty.clear()
        if self._idling and len(self) >= self._concurrency:
            self._clear_slots()
        self._loop.call_soon(self._begin, claimed, context=self._callback_context)

    # ---- what the worker asks

    def query(self, run: str) -> InboxQuery | None:
        """The question what came in for a run, if it is in hand."""
        activation = self._active.get(run)
        return None if activation is None else activation.query()

    def receive(self, query: InboxQuery, update: InboxUpdate) -> None:
        """The answer to that question; it may come when the run is not in hand any more, or again."""
        activation = self._active.get(query.run)
        if activation is not None and activation.epoch == query.epoch:
            activation.receive(update)

    def touch_held_back(self) -> None:
        """The lease holds: let the runs start what it held back."""
        for activation in list(self._active.values()):
            if activation.held_back:
                activation.touch()

    def give_back(self, mode: Mode) -> None:
        """Give back every run, and each that still comes."""
        self._mode = mode
        for activation in list(self._active.values()):
            activation.give_back(mode)

    def go_on(self) -> None:
        """Take on runs again. Those that are still in hand are given back nevertheless."""
        self._mode = Mode.GO_ON

    async def given_back(self) -> None:
        """Wait until no run is in hand."""
        await self._empty.wait()

    def drop(self) -> None:
        """Let go of every run and write nothing: they are not ours any more, or the worker ends."""
        self._coming.clear()
        for activation in list(self._active.values()):
            activation.close()
        if self._commit_timer is not None:
            self._commit_timer.cancel()
            self._commit_timer = None
        self._with_unsent.clear()
        self._look_whether_empty()

    # ---- inside

    def _begin(self, claimed: ClaimedRun) -> None:
        if self._coming.pop(claimed.id, None) is None:
            return  # dropped meanwhile
        definition = self._registry.find(claimed.workflow, claimed.version)
        extra = {"run_id": claimed.id, "workflow": f"{claimed.workflow} {claimed.version}", "deliveries": claimed.deliveries}
        if definition is None:
            log.error("run of a workflow that this worker does not carry", extra=extra)
            self._pipe.put(_Return(claimed, None))
            self._look_whether_empty()
            return
        try:
            activation = Activation(claimed, definition, self._activation_context, self._mode)
            activation.begin()
        except Exception as error:  # a turn of this run's loop: one run that cannot even begin must not take the others with it
            log.exception("run cannot be taken up", extra=extra, exc_info=shown(error))
            self._pipe.put(_Return(claimed, error_info(error)))
            self._look_whether_empty()
            return
        self.activations += 1
        self._active[claimed.id] = activation

    def _ended(self, activation: Activation) -> None:
        self._idling.pop(activation, None)
        if self._active.get(activation.id) is activation:
            del self._active[activation.id]
        self._look_whether_empty()
        self._freed()

    def _look_whether_empty(self) -> None:
        if not len(self):
            self._empty.set()

    def _slot_wanted(self, activation: Activation) -> bool:
        """Where all slots are taken, others may wait for one; who does is known to nobody here."""
        if len(self) >= self._concurrency:
            return True
        self._idling[activation] = None
        return False

    def _clear_slots(self) -> None:
        idling, self._idling = self._idling, {}
        for activation in idling:
            activation.touch()

    def _commit_soon(self, activation: Activation) -> None:
        self._with_unsent.append(activation)
        if self._commit_timer is None:
            self._commit_timer = self._loop.call_later(COMMIT_SOON_SECONDS, self._write_unsent, context=self._callback_context)

    def _write_unsent(self) -> None:
        self._commit_timer = None
        with_unsent, self._with_unsent = self._with_unsent, []
        for activation in with_unsent:
            activation.write_unsent()


class _Return:
    """Gives a run back that could not be taken up: released, or stopped with an error."""

    def __init__(self, claimed: ClaimedRun, error: ErrorInfo | None) -> None:
        self._op = CommitOp(run=claimed.id, epoch=claimed.epoch, number=1, release=error is None, stop=error)

    def take_op(self) -> bytes | None:
        return encoded(self._op)

    def answered(self, answer: CommitAnswer) -> None:
        log.debug("run returned", extra={"run_id": self._op.run, "outcome": answer.outcome})
