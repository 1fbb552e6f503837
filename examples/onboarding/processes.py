"""What the demo starts and kills: a server and workers, as processes of their own, with their logs in files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from socket import socket

HERE = Path(__file__).parent
STOP_SECONDS = 10.0


class Program:
    """`python -m aiki.cli ARGUMENTS…`, started, killed and started again."""

    def __init__(self, name: str, *arguments: str, env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = [sys.executable, "-m", "aiki.cli", *arguments]
        self._env = {**os.environ, **env}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the present or the last process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, in this folder."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=HERE, env=self._env, stdout=log, stderr=log)

    def kill(self) -> None:
        """Kill -9: no goodbye, nothing is handed back."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """The polite way, at the end."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def wait_until_ready(self, url: str, *, seconds: float = 60.0) -> None:
        """Until it answers; RuntimeError with the end of its log where it does not."""
        deadline = time.monotonic() + seconds
        while not _answers(f"{url}/readyz"):
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The {self.name} does not answer. The end of its log:\n{self.tail()}")
            time.sleep(0.05)

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])


@contextmanager
def stopped_at_the_end(*programs: Program) -> Iterator[None]:
    """Whatever happens, no process is left."""
    try:
        yield
    finally:
        for program in programs:
            program.stop()


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False
