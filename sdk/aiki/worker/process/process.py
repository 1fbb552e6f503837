"""A process that is nothing but a worker: the fast event loop where it is installed, and an end that no task can hold up."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Final, NoReturn

from aiki.worker.process.gc_tuning import collect_rarely
from aiki.worker.process.worker import Worker

LOOP_THREADS_NAME: Final = "aiki-loop"
LOOP_THREADS: Final = 32
"""For `asyncio.to_thread` in tasks, and to look up names: what asyncio has by default on many cores."""
THREADS_SECONDS: Final = 0.5
"""How long a worker that has stopped waits for them."""
TASKS_SECONDS: Final = 0.5
"""How long it waits for tasks of the loop that user code has started, once they are cancelled."""


def run(make: Callable[[], Worker], *, grace_seconds: float | None = None) -> None:
    """Run the worker that `make` makes until SIGTERM or SIGINT. Ends the process where a task does not end, and with 1 if it is unfit."""
    collect_rarely()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.get_loop().set_default_executor(_Threads(LOOP_THREADS, thread_name_prefix=LOOP_THREADS_NAME))
        worker, all_ended = runner.run(_run(make, grace_seconds))
        code = 1 if worker.unfit else 0
        if not all_ended:  # the runner would wait for them without end
            _leave(worker, code, "a task swallows its cancellation: the process ends without it")
    if worker.stuck or _busy():
        # A task that does not end: its thread would keep the interpreter from ending until someone kills it.
        _leave(worker, code, "a task's thread does not end: the process ends without it")
    if code:
        sys.exit(code)


async def _run(make: Callable[[], Worker], grace_seconds: float | None) -> tuple[Worker, bool]:
    """The worker, once it has stopped; and whether all that its tasks have started in the loop has ended."""
    worker = make()
    await worker.run(grace_seconds)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        _, left = await asyncio.wait(left, timeout=TASKS_SECONDS)
    return worker, not left


def _leave(worker: Worker, code: int, why: str) -> NoReturn:
    """End the process whatever is under way in it."""
    logging.getLogger("aiki.worker").warning(why, extra={"worker": worker.id})
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class _Threads(ThreadPoolExecutor):
    """The loop's own threads. The loop waits for them when it is closed, and one may hang in what a task gave it or in a look-up of a name."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002  both are as long as it takes
        """Wait no longer than THREADS_SECONDS."""
        super().shutdown(wait=False, cancel_futures=True)
        deadline = time.monotonic() + THREADS_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _busy() -> bool:
    """Whether a thread of the loop is left, for which the interpreter would wait."""
    return any(thread.is_alive() and thread.name.startswith(LOOP_THREADS_NAME) for thread in threading.enumerate())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if find_spec("uvloop") is None:
        return None
    import uvloop  # noqa: PLC0415  of the extra `fast`

    return uvloop.new_event_loop
