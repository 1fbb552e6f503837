"""Postgres, Valkey and the server from the wheels, once per pytest process; whoever needs its own starts its own.

A test that shares the server uses names of its own (`unique`), so tests need not know of each other.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from redis.asyncio import Redis

from aiki_server.local.postgres import Postgres
from aiki_server.local.valkey import Valkey
from support.ports import free_port
from support.waiting import wait_until

START_SECONDS = 30.0


class ServerProcess:
    """A server in a process of its own, on a port that stays the same through restarts."""

    def __init__(self, postgres_url: str, redis_url: str | None, *, log: Path, settings: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._environment = {
            **os.environ,
            "AIKI_DATABASE_URL": postgres_url,
            "AIKI_PORT": str(self.port),
            "AIKI_ALLOW_UNSAFE_DATABASE": "1",
            **(settings or {}),
        }
        if redis_url is not None:
            self._environment["AIKI_REDIS_URL"] = redis_url
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self, *, fault: str = "") -> None:
        """Start it and wait until it is ready; `fault` is where it kills itself."""
        with self.log.open("ab") as output:
            command = [sys.executable, "-m", "aiki_server", "--insecure"]
            environment = {**self._environment, "AIKI_FAULT": fault}
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
        wait_until(self._ready, f"the server to be ready; its log: {self.log}", seconds=START_SECONDS)

    def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def wait(self, seconds: float = START_SECONDS) -> int:
        """Wait until it has ended by itself; its exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(START_SECONDS)

    def _ready(self) -> bool:
        if self.pid is None:
            raise AssertionError(f"the server ended while it started:\n{self.log.read_text()[-4000:]}")
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def running_server(
    postgres_url: str, redis_url: str | None, *, folder: Path, settings: Mapping[str, str] | None = None
) -> Iterator[ServerProcess]:
    """A server of one's own that is ready, and that ends with the block. Its log is `server.log` in the folder."""
    process = ServerProcess(postgres_url, redis_url, log=folder / "server.log", settings=settings)
    process.start()
    try:
        yield process
    finally:
        process.stop()


def _rescued(server: ServerProcess) -> dict[str, float]:
    """What fallbacks of this server found, by which of them, without those that tests of broken workers put to work."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    counts = {line.split('"')[1]: float(line.split()[-1]) for line in lines if line.startswith("aiki_rescues_total{")}
    assert counts, "the server counts no rescues"
    return {by: count for by, count in counts.items() if count and by not in ("lease", "claim")}


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A Postgres that all tests of this process share; it forgets nothing and flushes nothing."""
    server = Postgres(
        tmp_path_factory.mktemp("postgres"), settings={"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_database(postgres: Postgres, unique: str) -> str:
    """The URL of an empty database, for a server that rings another Redis than the shared server, or none: the two would rescue each other's runs."""

    async def make() -> None:
        connection = await asyncpg.connect(postgres.url)
        await connection.execute(f"create database {unique}")
        await connection.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, make()).result()
    return postgres.url.replace("/postgres?", f"/{unique}?")


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A Valkey that all tests of this process share."""
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(valkey: Valkey) -> str:
    """The second database of that Valkey, which the shared server does not use."""
    return f"{valkey.url}?db=1"


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of it; it is empty."""
    client = Redis.from_url(redis_url)
    await client.flushdb()
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
def server(postgres: Postgres, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server, over HTTP, that all tests of this process share."""
    with running_server(postgres.url, valkey.url, folder=tmp_path_factory.mktemp("server")) as process:
        yield process
        rescued = _rescued(process)
    # What tests do on purpose (they kill workers, and lose answers) is left out. All else is a message that somebody forgot to send, and that
    # a fallback repaired before a test could notice.
    assert not rescued, f"fallbacks repaired what should have been told: {rescued}; the server's log: {process.log}"


@pytest.fixture
def own_server_settings() -> Mapping[str, str]:
    """More variables of `own_server`. A file that wants some has a fixture of this name."""
    return {}


@pytest.fixture
def own_server(own_database: str, valkey: Valkey, tmp_path: Path, own_server_settings: Mapping[str, str]) -> Iterator[ServerProcess]:
    """A server that no other test uses, on a database and in a part of Valkey of its own."""
    with running_server(own_database, f"{valkey.url}?db=2", folder=tmp_path, settings=own_server_settings) as process:
        yield process


@pytest.fixture
def unique() -> str:
    """A name that no other test uses."""
    return f"t{uuid4().hex[:12]}"
