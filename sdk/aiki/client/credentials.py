"""The token that a client sends: the one that it was given, or that of an `aiki dev` on this machine, which nobody has to type.

`aiki dev` makes a token anew at each start and leaves it in its folder, where only its user can read it, beside a note of its process and
address. It is looked for in `.aiki` here and in the folders above, and then where this user's `aiki dev` noted that it listens on the
port. A token is taken only from a folder that is this user's alone, while the process that made it lives, and for an address on this machine.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from aiki.protocol import LOOPBACK

FOLDER = ".aiki"
TOKEN = "token"  # noqa: S105  the name of a file
LOCK = "lock"
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_FOR_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Credentials:
    """The token for a server; `refused` says whether there is another to try. From any thread."""

    def __init__(self, url: str, token: str | None) -> None:
        self.token = token or local_token(url)
        self._url = url

    def refused(self) -> bool:
        """The server does not take the token (any more): whether it is another one now, because `aiki dev` was started since."""
        found = local_token(self._url)
        if found is None or found == self.token:
            return False
        self.token = found
        return True


def local_token(url: str) -> str | None:
    """The token of this user's `aiki dev` that serves at `url`; None where there is none."""
    port = _local_port(url)
    if port is None or not hasattr(os, "geteuid"):
        return None
    for folder in _folders(port):
        try:
            return _token_of(folder, port)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # no `aiki dev`, another one, or none any more
    return None


def noted(port: int) -> Path:
    """Where an `aiki dev` of this user notes its folder, for commands that are typed elsewhere."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "aiki" / f"dev-{port}"


def _local_port(url: str) -> int | None:
    try:
        parts = urlsplit(url)
        return (parts.port or 80) if parts.hostname in LOOPBACK and parts.scheme == "http" else None
    except ValueError:
        return None


def _folders(port: int) -> Iterator[Path]:
    try:
        here = Path.cwd()
        yield from (folder / FOLDER for folder in (here, *here.parents))
        yield Path(noted(port).read_text())
    except (OSError, RuntimeError, ValueError):
        return  # the folder is gone, or there is no home, or no note


def _token_of(folder: Path, port: int) -> str:
    """The token in a folder of `aiki dev`; an error where it is not ours, not of this port, or not of a living process."""
    _check_ours(folder, stat.S_IFDIR, _OTHERS_MAY_WRITE)
    holder = json.loads((folder / LOCK).read_text())
    if _local_port(holder["url"]) != port:
        raise ValueError("another port")
    if (pid := int(holder["pid"])) <= 0:
        raise ValueError("that is a group of processes, which always lives")
    os.kill(pid, 0)
    _check_ours(folder / TOKEN, stat.S_IFREG, _FOR_OTHERS)
    return (folder / TOKEN).read_text().strip()


def _check_ours(path: Path, kind: int, forbidden: int) -> None:
    found = path.lstat()
    if stat.S_IFMT(found.st_mode) != kind or found.st_uid != os.geteuid() or found.st_mode & forbidden:
        raise PermissionError(f"{path} is not this user's alone")
