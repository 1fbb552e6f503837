"""A child process that a task forks, and that comes out of the task's function instead of ending.

It would go on as a second worker, with this one's sockets, loop and lease; in a thread it would wait for work without end, and the task for it.
So it ends there, as Python would end it: with the code of its SystemExit, with its traceback and 1, or with 0.
"""

from __future__ import annotations

import os
import sys
import traceback


def end_if_forked(worker: int, error: BaseException | None) -> None:
    """End this process if it is not the worker's (`worker` is its pid). `error` is what the function raised."""
    if os.getpid() == worker:
        return
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        if code == 1 and not isinstance(error.code, int):
            sys.stderr.write(f"{error.code}\n")
    elif error is not None:
        code = 1
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)
