"""As whom a program runs on this machine, and folders and files that are that account's alone. Postgres refuses root."""

from __future__ import annotations

import os
import pwd
import tempfile
from pathlib import Path

from aiki_server.local import wheels
from aiki_server.local.folders import is_of, own_folder

SOCKET_PATH_MAX = 90
"""Unix socket paths end at 107 bytes; Postgres appends `/.s.PGSQL.5432`."""
ACCOUNTS = ("postgres", "games", "news", "uucp", "nobody")
"""Who Postgres runs as for root, the first that there is. Others' programs run as `nobody`, and what is Postgres's would be theirs."""


def account_for(data: Path) -> pwd.struct_passwd | None:
    """Who Postgres runs as: nobody else but ourselves, unless we are root."""
    if os.geteuid() != 0:
        return None
    if data.exists() and data.lstat().st_uid != 0:
        return pwd.getpwuid(data.lstat().st_uid)
    there = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next(there[name] for name in ACCOUNTS if name in there)


def owner_of(account: pwd.struct_passwd | None) -> tuple[int, int] | None:
    """User and group of the account, for what is to be its own."""
    return None if account is None else (account.pw_uid, account.pw_gid)


def entered(home: Path, account: pwd.struct_passwd | None) -> None:
    """A folder of ours, through which the account may pass, and nobody else."""
    home.parent.mkdir(parents=True, exist_ok=True)
    if account is None:
        own_folder(home)
    else:
        own_folder(home, mode=0o710, owner=(os.geteuid(), account.pw_gid), also=account.pw_uid)


def reachable(path: Path, account: pwd.struct_passwd | None) -> Path:
    """`path` itself if the account may pass through its parents; else a folder of the same identity that it can reach, where root alone makes folders."""
    path = path.parent.resolve() / path.name
    return path if passable(path.parent, account) else wheels.library() / f"postgres-{wheels.digest(path)}"


def passable(path: Path, account: pwd.struct_passwd | None) -> bool:
    """Whether the account may pass through a folder and all those above it."""
    if account is None:
        return True
    found = [parent.stat() for parent in (path, *path.parents) if parent.exists()]
    return all(one.st_mode & (0o010 if one.st_gid == account.pw_gid else 0o001) for one in found)


def written(path: Path, text: str, *, account: pwd.struct_passwd | None) -> None:
    """A file of ours that the account may read, and nobody else."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        if account is not None:
            os.fchown(file.fileno(), os.geteuid(), account.pw_gid)
            os.fchmod(file.fileno(), 0o640)
        file.write(text)


def socket_directory(home: Path, account: pwd.struct_passwd | None) -> Path:
    """`socket` in the home; where that is too long for a socket, one with a name that nobody guesses, noted in the home."""
    path, note = home / "socket", home / "socket-path"
    uid = os.geteuid() if account is None else account.pw_uid
    if len(str(path)) > SOCKET_PATH_MAX:
        path = Path(note.read_text()) if note.exists() else path
        if len(str(path)) > SOCKET_PATH_MAX or not is_of(path, uid):
            path = Path(tempfile.mkdtemp(prefix="aiki-"))
            written(note, str(path), account=None)
    return own_folder(path, owner=owner_of(account))
