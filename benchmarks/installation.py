"""One installation for the benchmarks: Postgres and Valkey from the wheels, one server, one or two workers, all on loopback."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
from benchmarks.processes import cpu_seconds

from aiki import Client
from aiki_server.local import Stack, running

ROOT = Path(__file__).parent.parent
TOKEN = "token-of-the-benchmark"
CONCURRENCY = 1_000
START_SECONDS = 30.0


@dataclass(slots=True)
class Installation:
    """What runs, and where."""

    folder: Path
    stack: Stack
    url: str
    server: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def database_url(self) -> str:
        """Where Postgres listens."""
        return self.stack.postgres.url

    @property
    def worker_pids(self) -> list[int]:
        """The workers' processes, in the order of their start."""
        return [worker.pid for worker in self.workers]

    def client(self) -> Client:
        """A client with the installation's token."""
        return Client(self.url, token=TOKEN)

    @asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection to look at what was committed."""
        connection = await asyncpg.connect(self.database_url)
        try:
            yield connection
        finally:
            await connection.close()

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far of each part."""
        return cpu_seconds(
            {
                "server": [self.server.pid],
                "worker": self.worker_pids,
                "postgres": _pids(self.stack.postgres.pid),
                "redis": _pids(self.stack.valkey.pid),
                "client": [os.getpid()],
            },
            without={"client": self.all_pids()},
        )

    def all_pids(self) -> list[int]:
        """The root processes, this one excluded."""
        return [self.server.pid, *self.worker_pids, *_pids(self.stack.postgres.pid), *_pids(self.stack.valkey.pid)]

    async def use_workers(self, count: int) -> None:
        """Stops or starts workers until `count` of them are registered."""
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) > count:
            _stop(self.workers.pop())
        while len(self.workers) < count:
            self.workers.append(self._start_worker())
        async with self.database() as database:
            end = time.monotonic() + START_SECONDS
            while await database.fetchval("select count(*) from workers") < count:
                if time.monotonic() > end:
                    raise TimeoutError(f"{count} workers did not register; see {self.folder / 'worker.log'}")
                await asyncio.sleep(0.05)

    def kill_worker(self) -> None:
        """`kill -9` of the worker that was started last."""
        worker = self.workers.pop()
        worker.kill()
        worker.wait()

    def _start_worker(self) -> subprocess.Popen[bytes]:
        return _spawn(
            [sys.executable, "-m", "aiki.cli", "worker", "benchmarks.workloads", "--concurrency", str(CONCURRENCY)],
            {"AIKI_URL": self.url, "AIKI_TOKEN": TOKEN},
            self.folder / "worker.log",
        )


@asynccontextmanager
async def installation(folder: Path) -> AsyncIterator[Installation]:
    """Starts everything but workers, and stops all of it."""
    with running(folder) as stack:
        port = _free_port()
        environment = {
            "AIKI_DATABASE_URL": stack.postgres.url,
            "AIKI_REDIS_URL": stack.valkey.url,
            "AIKI_TOKENS": TOKEN,
            "AIKI_HOST": "127.0.0.1",
            "AIKI_PORT": str(port),
        }
        server = _spawn([sys.executable, "-m", "aiki_server"], environment, folder / "server.log")
        it = Installation(folder, stack, f"http://127.0.0.1:{port}", server)
        try:
            await _until_ready(it)
            yield it
        finally:
            for process in (*it.workers, server):
                _stop(process)


def _pids(pid: int | None) -> list[int]:
    return [] if pid is None else [pid]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def _until_ready(it: Installation) -> None:
    end = time.monotonic() + START_SECONDS
    while not await asyncio.to_thread(_answers, f"{it.url}/readyz"):
        if time.monotonic() > end or it.server.poll() is not None:
            raise TimeoutError(f"the server is not ready:\n{(it.folder / 'server.log').read_text()[-4000:]}")
        await asyncio.sleep(0.05)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


def _spawn(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=ROOT, env=os.environ | environment)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
