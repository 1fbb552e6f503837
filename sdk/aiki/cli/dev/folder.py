"""The folder `.aiki/` of a project: its data, and the lock that lets one `aiki dev` at a time use it.

The lock is the kernel's (flock), so it goes with its process however that ends: there is no stale lock to heal. What
the holder wrote into the file only serves the message that a second one prints.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiki.cli.exits import Exit, Failure

IGNORE = "# Data of `aiki dev`. Delete the folder to start afresh.\n*\n"


@contextmanager
def held(path: Path) -> Iterator[Path]:
    """The folder, created if need be, ours alone for as long as the block lasts."""
    folder = path.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".gitignore").write_text(IGNORE)
        lock = (folder / "lock").open("a+")
    except OSError as error:
        raise Failure(Exit.USAGE, f"Cannot write to {folder}: {error.strerror}.", "Choose another folder with --data.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Failure(
                Exit.CONFLICT,
                f"`aiki dev` runs in this folder already{_holder(lock.name)}.",
                "Stop that one, or give this one --data and --port.",
            ) from error
        lock.truncate(0)
        yield folder


def sign(folder: Path, *, url: str) -> None:
    """Leave word of who holds the folder and where its server is."""
    (folder / "lock").write_text(json.dumps({"pid": os.getpid(), "url": url}))


def _holder(path: str) -> str:
    try:
        holder = json.loads(Path(path).read_text())
        return f" (process {holder['pid']}, {holder['url']})"
    except (ValueError, KeyError):
        return ""  # it has the lock and is about to write who it is
