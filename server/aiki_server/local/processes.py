"""Programs on a leash: they end with the process (the thread, to be exact) that started them, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from aiki_server.local.folders import LocalError

LEASH = Path(__file__).with_name("die_with_parent.py")
START_SECONDS = 30.0


def spawn(command: list[str], *, user: str, log: Path, end: signal.Signals, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start a program that ends when we do, by the signal `end`; its output goes to `log`, its input is empty unless `stdin` is another."""
    leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), str(int(end)), user, *command]
    # A session of its own: Ctrl-C in the terminal reaches the parent, which then stops things in order.
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600), "ab") as output:
        return subprocess.Popen(leash, stdin=stdin, stdout=output, stderr=output, cwd="/", start_new_session=True)  # noqa: S603  our own command


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, name: str) -> None:
    """Wait until a program that was started is ready; LocalError with the end of its log if it ends before, or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None:
            raise LocalError(f"{name} ended while it started:\n{tail_of(log)}")
        if time.monotonic() > deadline:
            stop(process, signal.SIGKILL)
            raise LocalError(f"{name} was not ready after {START_SECONDS:.0f} s:\n{tail_of(log)}")
        time.sleep(0.02)


def stop(process: subprocess.Popen[bytes] | None, how: signal.Signals) -> None:
    """Send the signal and wait for the end; what does not end is killed."""
    if process is None or process.poll() is not None:
        return
    process.send_signal(how)
    try:
        process.wait(timeout=START_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tail_of(log: Path) -> str:
    """The last lines of a log, for a message."""
    return "\n".join(lines_of(log)[-20:])


def lines_of(path: Path) -> list[str]:
    """The lines of a file; none if it is not there."""
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []
