"""Runs whose finish went back because something had come in: no event is taken in before their code has looked again.

Else a run that takes all its events before it ends would never end while they come fast enough. Events wait for the run's next finish, park or
stop, but not for long: if the worker is slow, or works through another replica, they are taken in and found by the next look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from aiki_server.model import ops

PATIENCE_SECONDS = 1.0


class LastLook:
    """Of one server: `see` every batch of ops, and wait until a look is `over` before an event is submitted."""

    def __init__(self) -> None:
        self._under_way: dict[UUID, asyncio.Event] = {}

    @property
    def under_way(self) -> bool:
        """Whether any run looks for the last time."""
        return bool(self._under_way)

    async def over(self, run: UUID) -> None:
        """Return when the run may take events."""
        looking = self._under_way.get(run)
        if looking is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await looking.wait()

    def see(self, batch: Sequence[ops.Op], answers: Sequence[ops.Answer]) -> None:
        """What became of a batch: looks begin and end with it."""
        for op, answer in zip(batch, answers, strict=True):
            if not isinstance(op, ops.Commit):
                continue
            if op.op.finish is not None and isinstance(answer, ops.InboxPending):
                self._begin(op.run)
            elif self._under_way and (op.op.finish or op.op.park or op.op.stop):
                self._end(op.run)

    def _begin(self, run: UUID) -> None:
        if run not in self._under_way:
            self._under_way[run] = asyncio.Event()
            asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._end, run)

    def _end(self, run: UUID) -> None:
        looking = self._under_way.pop(run, None)
        if looking is not None:
            looking.set()
