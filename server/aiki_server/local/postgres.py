"""A Postgres of our own, on a Unix socket in a folder that nobody else may enter, and with a password all the same.

Postgres refuses root, so for root it runs as an unprivileged user, who owns its data and nothing else.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from aiki_server.local import wheels
from aiki_server.local.accounts import account_for, entered, owner_of, passable, reachable, socket_directory, written
from aiki_server.local.folders import LocalError, kept_secret, own_folder
from aiki_server.local.processes import START_SECONDS, lines_of, spawn, stop, tail_of, wait_until

BUSY_SECONDS = 10.0
"""How long a data directory may still be held by the process before."""
RULES = "local all all scram-sha-256\n"
"""Who may connect, as pg_hba.conf says it: nobody without the password."""


class Postgres:
    """A Postgres server on a data directory of its own: `start`, `stop`, `kill` (-9), as often as wanted."""

    def __init__(self, home: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self._account = account_for(home / "data")
        self.home = reachable(home, self._account)
        entered(self.home, self._account)
        self.data = self.home / "data"
        self.log = self.home / "postgres.log"
        self.sockets = socket_directory(self.home, self._account)
        self._password, self._new_password = kept_secret(self.home / "password", group=self._account and self._account.pw_gid)
        self._settings = {**POSTGRES_SETTINGS, "hba_file": str(self.home / "hba.conf"), **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def user(self) -> str:
        """Whom it runs as, where that is not who we are."""
        return self._account.pw_name if self._account else ""

    @property
    def url(self) -> str:
        """Where it is reached, as asyncpg and libpq understand it."""
        return f"postgresql://postgres:{self._password}@/postgres?host={self.sockets}"

    @property
    def pid(self) -> int | None:
        """The process id of the postmaster, while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Create the data directory if there is none, start, and wait until connections are taken."""
        own_folder(self.data, owner=owner_of(self._account))
        written(self.home / "hba.conf", RULES, account=self._account)
        self._wait_until_free()
        if not (self.data / "PG_VERSION").exists():
            self._create()
        elif self._new_password:
            self._set_password()
        self._new_password = False
        options = [part for key, value in self._settings.items() for part in ("-c", f"{key}={value}")]
        command = [self._program("postgres"), "-D", str(self.data), "-k", str(self.sockets), *options]
        self._process = spawn(command, user=self.user, log=self.log, end=signal.SIGQUIT)
        wait_until(self._ready, self._process, self.log, "Postgres")

    def stop(self) -> None:
        """Shut down cleanly, ending open connections."""
        stop(self._process, signal.SIGINT)
        self._process = None

    def kill(self) -> None:
        """End it as a crash would; the next start recovers."""
        if self.pid:
            children = _children(self.pid)
            stop(self._process, signal.SIGKILL)
            for child in children:
                _wait_gone(child)
        self._process = None

    def _create(self) -> None:
        secured = ["-U", "postgres", "-A", "scram-sha-256", "--pwfile", str(self.home / "password")]
        command = [self._program("initdb"), "-D", str(self.data), *secured, "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions"]
        process = spawn(command, user=self.user, log=self.log, end=signal.SIGKILL)
        if process.wait(timeout=4 * START_SECONDS) != 0:
            raise LocalError(f"initdb failed:\n{tail_of(self.log)}")

    def _set_password(self) -> None:
        """For data of a release that asked for none; without a server, so that there is no moment in which anybody gets in."""
        command = [self._program("postgres"), "--single", "-D", str(self.data), "postgres"]
        process = spawn(command, user=self.user, log=self.log, end=signal.SIGKILL, stdin=subprocess.PIPE)
        process.communicate(f"alter role postgres password '{self._password}'\n".encode(), timeout=START_SECONDS)
        if process.returncode != 0:
            raise LocalError(f"Postgres did not take its password:\n{tail_of(self.log)}")

    def _program(self, name: str) -> str:
        return str(wheels.postgres(lambda path: passable(path, self._account)) / name)

    def _wait_until_free(self) -> None:
        # The one before may still be shutting down, or its parent was killed a moment ago.
        deadline = time.monotonic() + BUSY_SECONDS
        while (owner := _running_postmaster(self.data)) is not None:
            if time.monotonic() > deadline:
                raise LocalError(f"{self.data} is in use by the Postgres process {owner}. Stop what started it, or choose another folder.")
            time.sleep(0.05)

    def _ready(self) -> bool:
        lines = lines_of(self.data / "postmaster.pid")
        # After a crash the file of the one before is still there.
        return len(lines) > 7 and lines[7].strip() == "ready" and lines[0].strip() == str(self.pid)


def _running_postmaster(data: Path) -> int | None:
    lines = lines_of(data / "postmaster.pid")
    if not lines or not lines[0].strip().isdigit():
        return None
    pid = int(lines[0])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return pid
    # The number may long belong to someone else.
    return pid if "postgres" in _command(pid) else None


def _command(pid: int) -> str:
    """The name of a process; empty once it has ended, though nobody may have waited for it yet."""
    import psutil  # noqa: PLC0415  of the extra `dev`

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else process.name()
    except psutil.NoSuchProcess:
        return ""


def _children(pid: int) -> list[int]:
    import psutil  # noqa: PLC0415

    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def _wait_gone(pid: int) -> None:
    # Backends notice the death of their postmaster by themselves; a new one cannot start on their memory before that.
    deadline = time.monotonic() + BUSY_SECONDS
    while _command(pid) and time.monotonic() < deadline:
        time.sleep(0.02)


POSTGRES_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "log_min_messages": "fatal",  # an error may quote a row
    "log_checkpoints": "off",
    "autovacuum_naptime": "10s",
}
