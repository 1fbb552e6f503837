"""The signals that end a worker, as a queue; and what a child process that a task forks must not inherit of them.

A forked child has its parent's handlers, and before Python 3.12 also the end of a socket through which the parent's event loop hears of signals. So a
SIGTERM that was meant for the child did not end it, and was heard by the worker: `multiprocessing.Pool` in a task stopped the worker. Every fork, whoever
makes it, goes through the hook below; a child that calls `exec` loses both by itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Final

ENDING: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def ending_signals() -> Iterator[asyncio.Queue[int]]:
    """SIGTERM and SIGINT as a queue, as long as the block lasts."""
    _guard_forks()
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[int] = asyncio.Queue()
    for number in ENDING:
        loop.add_signal_handler(number, queue.put_nowait, number)
    try:
        yield queue
    finally:
        for number in ENDING:
            loop.remove_signal_handler(number)


@cache
def _guard_forks() -> None:
    """Once in a process: such hooks cannot be taken back."""
    masks = threading.local()

    def hold() -> None:
        # A signal that comes before the child is its own would be taken by the handler that it inherited.
        masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    def go_on() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.before)

    def be_nobodys_loop() -> None:
        _let_go_of_signals()
        go_on()

    os.register_at_fork(before=hold, after_in_parent=go_on, after_in_child=be_nobodys_loop)


def _let_go_of_signals() -> None:
    """In a forked child: signals are its own, and those that a loop had asked for do what they do by default."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if _is_of_a_loop(signal.getsignal(number)):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _is_of_a_loop(handler: object) -> bool:
    """Whether asyncio or uvloop has set it: it does nothing where their loop does not turn."""
    function = handler.func if isinstance(handler, partial) else handler
    return str(getattr(function, "__module__", "")).partition(".")[0] in ("asyncio", "uvloop")
