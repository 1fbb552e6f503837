"""What the soak breaks: Postgres as durable as in production, Valkey, two servers behind a balancer, workers of two tenants; all processes.

Both tenants have a pool `main`; the first has a pool `pinned` besides, whose two builds keep the runs that they were given.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from aiki_server.local.postgres import Postgres
from aiki_server.local.valkey import Valkey
from faults.soak.balancer import Balancer
from support.ports import free_port

LEASE_SECONDS = 3.0
SERVERS = 2
TENANTS = {"left": "token-of-left", "right": "token-of-right"}
"""Tokens by namespace."""
MAIN, PINNED = "main", "pinned"
BUILDS = ("b1", "b2")
CREWS = (*[("left", MAIN, None)] * 2, *[("left", PINNED, build) for build in BUILDS], *[("right", MAIN, None)] * 2)
"""Namespace, pool and build of each worker."""
RETENTION_DAYS = 1e-6
LEAVE_SECONDS = 30.0
LEFT = (0, -signal.SIGTERM)
"""How a process ends that was asked to; uvicorn passes the signal on when it is done."""


@dataclass(slots=True)
class Part:
    """One server or worker, and the processes that it was, one after the other."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    leaving: list[subprocess.Popen[bytes]] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)
    """Processes that ended as nobody had asked them to."""

    @property
    def up(self) -> bool:
        """Whether a process is there that nobody has ended; it may be frozen."""
        return self.process is not None and self.process.poll() is None

    @property
    def gone(self) -> bool:
        """Whether all that were asked to end have done so."""
        return all(process.poll() is not None for process in self.leaving)

    def start(self) -> None:
        """A new process; it gets ready by itself."""
        self._look()
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **self.environment}
            )

    def kill(self) -> None:
        """End it as a crash would."""
        if process := self._given_up():
            process.kill()
            process.wait()

    def leave(self) -> None:
        """Ask it to end."""
        if process := self._given_up():
            process.terminate()
            self.leaving.append(process)

    def signal(self, how: signal.Signals) -> None:
        """Freeze it or thaw it."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)

    def see_off(self) -> None:
        """Wait for those that were asked to end."""
        for process in self.leaving:
            try:
                if (code := process.wait(LEAVE_SECONDS)) not in LEFT:
                    self.deaths.append(f"{self.name} {process.pid} left with code {code}")
            except subprocess.TimeoutExpired:
                self.deaths.append(f"{self.name} {process.pid} did not leave within {LEAVE_SECONDS:.0f} s")
                process.kill()
        self.leaving.clear()

    @property
    def megabytes(self) -> int:
        """Of memory."""
        return psutil.Process(self.process.pid).memory_info().rss >> 20 if self.up and self.process else 0

    def size(self) -> str:
        """What it has grown to."""
        if not self.up or self.process is None:
            return f"{self.name}: down"
        about = psutil.Process(self.process.pid)
        return f"{self.name}: {self.megabytes} MB, {about.num_fds()} fds, {about.num_threads()} threads"

    def _given_up(self) -> subprocess.Popen[bytes] | None:
        self._look()
        process, self.process = self.process, None
        return process

    def _look(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            self.deaths.append(f"{self.name} {self.process.pid} ended by itself with code {self.process.returncode}")
            self.process = None


class Stage:
    """All of it, on a folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.postgres = Postgres(home / "postgres")
        self.valkey = Valkey(home / "valkey")
        ports = [free_port() for _ in range(SERVERS)]
        self.balancer = Balancer(ports)
        self.url = f"http://127.0.0.1:{self.balancer.port}"
        self.servers = [self._server(number, port) for number, port in enumerate(ports, 1)]
        self.workers = [self._worker(number, *crew) for number, crew in enumerate(CREWS, 1)]
        self.retiring = self._server(SERVERS + 1, free_port(), AIKI_RETENTION_DAYS=str(RETENTION_DAYS))
        """A server that deletes what has ended; for the end."""

    @property
    def parts(self) -> list[Part]:
        """Servers and workers."""
        return [*self.servers, *self.workers]

    def start(self) -> None:
        """Start everything."""
        self.postgres.start()
        self.valkey.start()
        for part in self.parts:
            part.start()

    def stop(self) -> None:
        """End everything."""
        for part in (*self.parts, self.retiring):
            part.kill()
        self.balancer.close()
        self.valkey.kill()
        self.postgres.stop()

    def _server(self, number: int, port: int, **more: str) -> Part:
        environment = {
            "AIKI_DATABASE_URL": self.postgres.url,
            "AIKI_REDIS_URL": self.valkey.url,
            "AIKI_PORT": str(port),
            "AIKI_LEASE_SECONDS": str(LEASE_SECONDS),
            "AIKI_TOKENS": ",".join(f"{tenant}:{token}" for tenant, token in TENANTS.items()),
            **more,
        }
        return Part(f"server {number}", [sys.executable, "-m", "aiki_server"], environment, self.home / f"server-{number}.log")

    def _worker(self, number: int, tenant: str, pool: str, build: str | None) -> Part:
        environment = {"AIKI_URL": self.url, "AIKI_TOKEN": TENANTS[tenant], "FAULTS_DIRECTORY": str(self.home), "FAULTS_TENANT": tenant}
        environment |= {"FAULTS_POOL": pool, **({"AIKI_BUILD": build} if build else {})}
        name = f"worker {number} ({tenant}, {pool}{f', {build}' if build else ''})"
        return Part(name, [sys.executable, "-m", "faults.soak.worker"], environment, self.home / f"worker-{number}.log")


@contextmanager
def stage(home: Path) -> Iterator[Stage]:
    """A stage that is up, for as long as the block lasts."""
    made = Stage(home)
    try:
        made.start()
        yield made
    finally:
        made.stop()
