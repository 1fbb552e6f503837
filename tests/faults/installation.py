"""A whole installation in processes of its own, every one of which a test may kill: Postgres as durable as in production, Valkey, server, workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiki_server.local.postgres import Postgres
from aiki_server.local.valkey import Valkey
from support.server import ServerProcess

LEASE_SECONDS = 2.0
UNMEASURED = {"COVERAGE_PROCESS_CONFIG": ""}
"""For processes that are killed: they would run at half the speed to count what they have no time to write down."""
PROGRAM = Path(__file__).with_name("program.py")


@dataclass(frozen=True, slots=True)
class Trace:
    """One attempt of a step that began."""

    run: str
    key: str
    step: str
    attempt: int
    pid: int
    at: float


class WorkerProcess:
    """A worker in a process of its own."""

    def __init__(self, url: str, directory: Path, *, concurrency: int) -> None:
        environment = {
            **os.environ,
            **UNMEASURED,
            "AIKI_URL": url,
            "FAULTS_DIRECTORY": str(directory),
            "FAULTS_CONCURRENCY": str(concurrency),
        }
        self.log = directory / "workers.log"
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, str(PROGRAM)], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs (or is stopped)."""
        return self._process.poll() is None

    def signal(self, how: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(how)

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM, and wait for the end; the exit code."""
        if self.alive:
            self._process.terminate()
        return self._process.wait(30)


class Installation:
    """Everything, on a directory. `directory` is the one that workers leave their trace in; it is another for each test."""

    def __init__(self, home: Path, *, postgres_settings: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.directory = home
        self.postgres = Postgres(home / "postgres", settings=postgres_settings)
        self.valkey = Valkey(home / "valkey")
        self.workers: list[WorkerProcess] = []
        self.postgres.start()
        self.valkey.start()
        self.server = ServerProcess(
            self.postgres.url,
            self.valkey.url,
            log=home / "server.log",
            settings={"AIKI_LEASE_SECONDS": str(LEASE_SECONDS), "AIKI_ALLOW_UNSAFE_DATABASE": "", **UNMEASURED},
        )
        self.server.start()

    def begin(self, directory: Path) -> None:
        """A new test: everything that should run runs, and no worker does."""
        self.directory = directory
        if self.postgres.pid is None:
            self.postgres.start()
        if self.valkey.pid is None:
            self.valkey.start()
        if self.server.pid is None:
            self.server.start()

    def end(self) -> None:
        """No worker is left behind."""
        for worker in self.workers:
            if worker.alive:
                worker.kill()
        self.workers.clear()

    def close(self) -> None:
        """Stop everything."""
        self.end()
        self.server.stop()
        self.valkey.stop()
        self.postgres.stop()

    def worker(self, *, concurrency: int = 50) -> WorkerProcess:
        """One more worker."""
        worker = WorkerProcess(self.server.url, self.directory, concurrency=concurrency)
        self.workers.append(worker)
        return worker

    def open_gate(self, gate: str) -> None:
        """Let the tasks go that wait at this gate, now and later."""
        (self.directory / gate).touch()

    def trace(self) -> list[Trace]:
        """Every attempt that began, in order."""
        path = self.directory / "trace.jsonl"
        text = path.read_text() if path.exists() else ""
        # A line that is being appended may be seen in part, where it crosses a page.
        lines: list[dict[str, Any]] = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [Trace(**line) for line in lines]

    def starts(self, step: str) -> dict[str, int]:
        """How often this step began, by run."""
        counts: dict[str, int] = {}
        for entry in self.trace():
            if entry.step == step:
                counts[entry.run] = counts.get(entry.run, 0) + 1
        return counts
