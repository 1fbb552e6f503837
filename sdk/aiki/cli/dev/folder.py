"""The folder `.aiki/` of a project: its data, its token, and the lock that lets one `aiki dev` at a time use it.

The lock is the kernel's (flock), so it goes with its process however that ends: there is no stale lock to heal. What
the holder wrote into the file serves the message that a second one prints, and the commands that look for the token
(aiki.client.credentials). The folder is this user's alone: nobody else on the machine may look into it.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aiki.cli.exit_codes import Exit, Failure
from aiki.client.credentials import LOCK, TOKEN, noted
from aiki_server.local.folders import UnsafeFolderError, own_folder

IGNORE = "# Data of `aiki dev`. Delete the folder to start afresh.\n*\n"


@contextmanager
def held(path: Path) -> Iterator[Path]:
    """The folder, created if need be, ours alone for as long as the block lasts."""
    folder = path.absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder = own_folder(folder)
        _write(folder / ".gitignore", IGNORE)
        lock = os.fdopen(os.open(folder / LOCK, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600), "a+")
    except OSError as error:
        raise Failure(Exit.USAGE, f"Cannot write to {folder}: {error.strerror}.", "Choose another folder with --data.") from error
    except UnsafeFolderError as error:
        raise Failure(Exit.USAGE, str(error), "Delete it, or choose another folder with --data.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Failure(
                Exit.CONFLICT,
                f"`aiki dev` runs in this folder already{_holder(folder / LOCK)}.",
                "Stop that one, or give this one --data and --port.",
            ) from error
        lock.truncate(0)
        yield folder


def sign(folder: Path, *, port: int) -> str:
    """Leave word of who holds the folder and where its server is, and a new token for it; the token."""
    token = secrets.token_hex(32)
    _write(folder / TOKEN, token)
    (folder / LOCK).write_text(json.dumps({"pid": os.getpid(), "url": f"http://127.0.0.1:{port}"}))
    return token


@contextmanager
def found_from_elsewhere(folder: Path, *, port: int) -> Iterator[None]:
    """For as long as the block lasts, commands that are typed in other folders find this one. Where there is no home, they do not."""
    with suppress(OSError, RuntimeError):
        note = noted(port)
        note.parent.mkdir(parents=True, exist_ok=True)
        _write(note, str(folder))
    try:
        yield
    finally:
        with suppress(OSError, RuntimeError):
            noted(port).unlink()


def _write(path: Path, text: str) -> None:
    """A file that only its owner can read; what was there is replaced, not written to."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f" (process {holder['pid']}, {holder['url']})"
    except (ValueError, KeyError):
        return ""  # it has the lock and is about to write who it is
