"""Owns asyncio tasks that start at any time: none is lost, none ends unseen.

A TaskGroup wants a block that surrounds its children; a worker has none between `start` and `stop`. What ends with an error is logged once, here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, Final

from aiki.shared.redaction import shown

log = logging.getLogger("aiki.worker")

CANCEL_AGAIN_SECONDS: Final = 0.2


class BackgroundTasks:
    """The tasks of one owner, until `close` cancels what is left and waits for it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, object], *, context: Context | None = None) -> asyncio.Task[Any]:
        """Run `work` as a task of this owner."""
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self) -> None:
        """Cancel every task and wait until all have ended."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            # Again after a while: before Python 3.12 `wait_for`, which redis-py uses, swallows a cancellation that comes as it ends.
            await asyncio.wait(self._tasks, timeout=CANCEL_AGAIN_SECONDS)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background task failed", extra={"owner": self._name, "task": task.get_name()}, exc_info=shown(error))
