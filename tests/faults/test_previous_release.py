"""Servers, workers and the schema of the release before, beside those of this one (S35).

The release before is a commit of this repository, taken out of its history into a folder that comes first on PYTHONPATH. A clone without
its history does not have it, and only there the test is left out.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiki import Client, RunHandle
from aiki_server.local import Valkey
from faults.installation import PROGRAM, UNMEASURED
from faults.program import GO
from plugin_stack import ServerProcess
from waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
BEFORE = "ac6241106"
"""Stands for the release before until there is one: its schema has none but the first migration. Its workers refuse what newer servers answer
(decision 27), so they stay with their server here."""
RUNS = 8


def git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the release before."""
    if git("rev-parse", "--is-shallow-repository").stdout.strip() != b"false":
        pytest.skip("this copy of the repository has no history to take the release before from")
    archive = git("archive", "--format=tar", BEFORE, "sdk", "server", "tests/faults/program.py")
    assert archive.returncode == 0, archive.stderr.decode()
    home = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(home, filter="data")
    return home


def paths(home: Path) -> dict[str, str]:
    return {**UNMEASURED, "PYTHONPATH": os.pathsep.join([str(home / "sdk"), str(home / "server")])}


class Workers:
    """Processes of either release."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, server: ServerProcess, home: Path | None = None) -> subprocess.Popen[bytes]:
        """One that works for a server; of the code in `home`, or of this release."""
        program = PROGRAM if home is None else home / "tests" / "faults" / "program.py"
        environment = {
            **os.environ,
            **(UNMEASURED if home is None else paths(home)),
            "AIKI_URL": server.url,
            "FAULTS_DIRECTORY": str(self._directory),
        }
        with (self._directory / "workers.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, str(program)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        self._processes.append(process)
        return process

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
def old(before: Path, own_database: str, valkey: Valkey, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of the release before, on a database that it has made."""
    process = ServerProcess(own_database, valkey.url, log=tmp_path / "old.log", settings=paths(before))
    process.start()
    yield process
    process.stop()


@pytest.fixture
def new(own_database: str, valkey: Valkey, tmp_path: Path) -> Iterator[ServerProcess]:
    """One of this release on the same database; it is started by the test."""
    process = ServerProcess(own_database, valkey.url, log=tmp_path / "new.log", settings=UNMEASURED)
    yield process
    process.stop()


async def test_this_release_works_beside_the_one_before(
    before: Path, old: ServerProcess, new: ServerProcess, workers: Workers, unique: str
) -> None:
    """S1 S5 S12 S15 S24 S35: runs of either are finished by either, whichever server is asked."""
    async with Client(old.url) as by_old, Client(new.url) as by_new:
        workers.start(old, before)
        early = [await by_old.start("parked", 0.0, ref=f"{unique}-early-{number}") for number in range(RUNS)]
        for run in early:
            await waits(by_old, run)
        new.start()  # migrates, beneath the other's feet
        workers.start(new)
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
        workers.start(new)  # the last step: what old workers have begun on old servers is ended by new ones
        for run in late:
            await send(by_new, run)
        for run in late:
            assert await by_new.handle(run.id).result(timeout=60) == ["before", "go on", "after"]


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
