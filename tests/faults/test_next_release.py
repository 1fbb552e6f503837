"""Servers, workers and the schema of the next release, beside those of this one (S35).

There is no release before this one yet. So the next one is made here, of this code with a migration and a few words more, in a folder that comes
first on PYTHONPATH; this release is the one before it. Once there is a release, a commit of the history takes the place of this code.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from aiki import Client, RunHandle
from aiki_server.local.valkey import Valkey
from aiki_server.store import migrate
from faults.installation import PROGRAM, UNMEASURED
from faults.program import GO
from support.server import ServerProcess
from support.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
RUNS = 8
MIGRATION = """alter table runs add column later text;
create index runs_later on runs (later) where later is not null;
"""
CHANGES = (
    ("server/aiki_server/store/migrate.py", "FIRST_OF_RELEASE = (1,)", "FIRST_OF_RELEASE = (1, 2)"),
    ("server/aiki_server/api/worker/http.py", '"poll": not circuit.usable}', '"poll": not circuit.usable, "later": "said"}'),
)
"""What the next release does otherwise: file, what stands there, what stands there then."""
SAYS_MORE = (
    "sdk/aiki/protocol/worker.py",
    "    worker: Name\n    pool: Name\n",
    '    worker: Name\n    later: str = "said"\n    pool: Name\n',
)
"""A worker that registers says something that a server of this release does not know."""


@pytest.fixture(scope="module")
def next_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the next release: a migration more, and answers that say more."""
    home = copied(tmp_path_factory, *CHANGES)
    (home / "server/aiki_server/store/migrations/0002_later.sql").write_text(MIGRATION)
    return home


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of a next release whose workers say more when they register."""
    return copied(tmp_path_factory, SAYS_MORE)


def copied(tmp_path_factory: pytest.TempPathFactory, *changes: tuple[str, str, str]) -> Path:
    """This code with these changes, in a folder."""
    home = tmp_path_factory.mktemp("release")
    for package in ("sdk/aiki", "server/aiki_server"):
        shutil.copytree(ROOT / package, home / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in changes:
        text = (home / file).read_text()
        assert text.count(old) == 1, f"{file} has {old!r} {text.count(old)} times: this test has to be changed with it"
        (home / file).write_text(text.replace(old, new))
    return home


def paths(home: Path) -> dict[str, str]:
    return {**UNMEASURED, "PYTHONPATH": os.pathsep.join([str(home / "sdk"), str(home / "server")])}


class Workers:
    """Processes of either release."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, server: ServerProcess, home: Path | None = None) -> subprocess.Popen[bytes]:
        """One that works for a server; of the release in `home`, or of this one."""
        environment = {
            **os.environ,
            **(UNMEASURED if home is None else paths(home)),
            "AIKI_URL": server.url,
            "FAULTS_DIRECTORY": str(self._directory),
        }
        with (self._directory / "workers.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, str(PROGRAM)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        self._processes.append(process)
        return process

    @property
    def log(self) -> str:
        return (self._directory / "workers.log").read_text()

    def ended(self, process: subprocess.Popen[bytes]) -> int:
        """The exit code of one that ends by itself."""
        code = process.wait(60)
        self._processes.remove(process)
        return code

    def stop(self) -> None:
        """As a roll-out does it."""
        processes, self._processes = self._processes, []
        for process in processes:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(40) for process in processes] == [0] * len(processes)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    started = Workers(tmp_path)
    yield started
    started.stop()


@pytest.fixture
def old(own_database: str, valkey: Valkey, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of this release, on a database that it has made."""
    process = ServerProcess(own_database, valkey.url, log=tmp_path / "old.log", settings=UNMEASURED)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def new(next_release: Path, own_database: str, valkey: Valkey, tmp_path: Path) -> Iterator[ServerProcess]:
    """One of the next release on the same database; it is started by the test."""
    process = ServerProcess(own_database, valkey.url, log=tmp_path / "new.log", settings=paths(next_release))
    yield process
    process.stop()


async def test_this_release_works_beside_the_next_one(
    next_release: Path, old: ServerProcess, new: ServerProcess, workers: Workers, own_database: str, unique: str
) -> None:
    """S1 S5 S12 S15 S24 S35: runs of either are finished by either, whichever server is asked."""
    async with Client(old.url) as by_old, Client(new.url) as by_new:
        workers.start(old)
        early = [await by_old.start("parked", 0.0, ref=f"{unique}-early-{number}") for number in range(RUNS)]
        for run in early:
            await waits(by_old, run)
        new.start()  # migrates, beneath the other's feet
        assert await numbers(own_database) == [1, 2]
        workers.start(new, next_release)
        await until(lambda: registered(new) == 2, seconds=60)
        for number, run in enumerate(early):
            await send(by_new if number % 2 else by_old, run)
        await both_tell(by_old, by_new, early)

        mixed = [await (by_new if number % 2 else by_old).start("parked", 0.0, ref=f"{unique}-mixed-{number}") for number in range(RUNS)]
        timed = [await (by_new if number % 2 else by_old).start("parked", 0.2, ref=f"{unique}-timed-{number}") for number in range(RUNS)]
        again = await by_new.start("parked", 0.0, ref=f"{unique}-mixed-0")
        assert again.id == mixed[0].id
        for run in mixed:
            await waits(by_new, run)
        for number, run in enumerate(mixed):
            await send(by_old if number % 2 else by_new, run)
        await both_tell(by_old, by_new, mixed + timed)

        late = [await by_old.start("parked", 0.0, ref=f"{unique}-late-{number}") for number in range(RUNS)]
        for run in late:
            await waits(by_old, run)
        workers.stop()
        old.stop()
        workers.start(new, next_release)  # the last step: what old workers have begun on old servers is ended by new ones
        for run in late:
            await send(by_new, run)
        for run in late:
            assert await by_new.handle(run.id).result(timeout=60) == ["before", "go on", "after"]


async def test_workers_of_this_release_work_with_servers_of_the_next_one(
    next_release: Path, new: ServerProcess, workers: Workers, unique: str
) -> None:
    """S1 S5 S15 S24 S35: also where a worker of the next release takes over what they have begun, and they what it has."""
    new.start()
    async with Client(new.url) as client:
        workers.start(new)
        await until(lambda: registered(new) == 1, seconds=60)
        early = await begun(client, f"{unique}-early")
        failing = await client.start("retrying", ref=f"{unique}-failing")
        workers.start(new, next_release)
        await until(lambda: registered(new) == 2, seconds=60)
        both = await begun(client, f"{unique}-both")
        for run in (*early, *both):
            await send(client, run)
        await both_tell(client, client, [*early, *both])
        assert await client.handle(failing.id).result(timeout=60) == ["before", 3, "after"]
        late = await begun(client, f"{unique}-late")
        workers.stop()
        workers.start(new)
        for run in late:
            await send(client, run)
        await both_tell(client, client, late)


async def test_a_worker_that_says_more_than_its_server_knows_ends_with_words(
    talkative: Path, old: ServerProcess, workers: Workers, unique: str
) -> None:
    """Upgrades begin with servers. The run that it could not take waits for one that can."""
    async with Client(old.url) as client:
        run = await client.start("parked", 0.0, ref=unique)
        assert workers.ended(workers.start(old, talkative)) == 1
        assert "The server is of an earlier release than this program: upgrade servers first, then workers and clients." in workers.log
        assert (await client.handle(run.id).refresh()).status == "queued"


async def test_a_worker_that_says_what_its_older_server_knows_works(
    next_release: Path, old: ServerProcess, workers: Workers, unique: str
) -> None:
    workers.start(old, next_release)
    async with Client(old.url) as client:
        runs = await begun(client, unique)
        for run in runs:
            await send(client, run)
        await both_tell(client, client, runs)


async def numbers(url: str) -> list[int]:
    """The migrations that a database has."""
    connection = await asyncpg.connect(url)
    try:
        return sorted(await migrate.applied(connection))
    finally:
        await connection.close()


async def begun(client: Client, prefix: str) -> list[RunHandle[Any]]:
    """Runs that wait for their event."""
    runs = [await client.start("parked", 0.0, ref=f"{prefix}-{number}") for number in range(RUNS)]
    for run in runs:
        await waits(client, run)
    return runs


def registered(server: ServerProcess) -> int:
    """How many workers it knows."""
    with urllib.request.urlopen(f"{server.url}/api/v1/workers", timeout=10) as answer:
        return len(json.load(answer)["workers"])


async def waits(client: Client, run: RunHandle[Any]) -> None:
    """Until the run waits for its event."""

    async def waiting() -> bool:
        return (await client.handle(run.id).refresh()).status == "waiting"

    await until(waiting, seconds=60)


async def send(client: Client, run: RunHandle[Any]) -> None:
    await client.handle(run.id).send(GO, "go on")


async def both_tell(one: Client, other: Client, runs: list[RunHandle[Any]]) -> None:
    """Both servers know how each run ended, and say the same."""
    for run in runs:
        result = await one.handle(run.id).result(timeout=60)
        assert await other.handle(run.id).result(timeout=60) == result
        assert result[0] == "before"
        assert result[-1] == "after"
