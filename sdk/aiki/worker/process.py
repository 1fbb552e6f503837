"""A process that is nothing but a worker: the fast event loop where it is installed, and an end that no task can hold up."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec

from aiki.garbage import collect_rarely
from aiki.worker.worker import Worker


def run(make: Callable[[], Worker], *, grace: float | None = None) -> None:
    """Run the worker that `make` makes until SIGTERM or SIGINT. Ends the process if a thread is stuck in a task."""
    collect_rarely()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        worker = runner.run(_run(make, grace))
    if worker.stuck:
        # A `def` task that does not end: its thread would keep the interpreter from ending until someone kills it.
        logging.getLogger("aiki.worker").warning("a task's thread does not end: the process ends without it", extra={"worker": worker.id})
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


async def _run(make: Callable[[], Worker], grace: float | None) -> Worker:
    worker = make()
    await worker.run(grace)
    return worker


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if find_spec("uvloop") is None:
        return None
    import uvloop  # noqa: PLC0415  of the extra `fast`

    return uvloop.new_event_loop
