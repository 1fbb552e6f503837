"""Folders that are one user's alone, for what `aiki dev`, the tests and the benchmarks keep on this machine.

Others on the machine may have made a folder, or a symbolic link, at a place that is easy to guess, and wait for somebody to trust it.
So nothing here follows a link, and what exists is taken only if it has the right owner; its mode is set to what it should be. Below a folder
in which everybody may make folders (`/tmp`), what leads on has to be ours or root's; one in which everybody may rename them is no place for anything.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

ALONE = 0o700
ROOT = 0


class LocalError(Exception):
    """Postgres or Valkey cannot be started on this machine; the message says why."""


class UnsafeFolderError(LocalError):
    """Somebody else could change what is in a folder; the message says which and why."""


def own_folder(path: Path, *, mode: int = ALONE, owner: tuple[int, int] | None = None, also: int | None = None) -> Path:
    """The folder at `path`, made if need be, of ours or of `owner` (uid, gid: root gives it to them), with `mode`.

    One that belongs to the uid `also` is taken over. The parent has to be there; it comes back resolved.
    """
    path = path.parent.resolve() / path.name
    _check_way(path.parent)
    with suppress(FileExistsError):
        path.mkdir(mode=ALONE)
    descriptor = _opened(path)
    try:
        found = os.fstat(descriptor)
        wanted = (os.geteuid(), found.st_gid) if owner is None else owner
        if found.st_uid not in {wanted[0], os.geteuid(), also}:
            raise UnsafeFolderError(f"{path} belongs to another user (uid {found.st_uid}), who could change what is kept there.")
        if (found.st_uid, found.st_gid) != wanted:
            os.fchown(descriptor, *wanted)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)
    return path


def kept_secret(path: Path, *, group: int | None = None) -> tuple[str, bool]:
    """A secret that is made once and kept in a file that only its owner (and `group`) can read; and whether it was made just now."""
    with suppress(FileNotFoundError):
        if kept := _read_own(path):
            return kept, False
        path.unlink()  # whoever made it was ended before it had written anything
    secret = secrets.token_hex(24)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        if group is not None:
            os.fchown(file.fileno(), os.geteuid(), group)
            os.fchmod(file.fileno(), 0o640)
        file.write(secret)
    return secret, True


def is_of(path: Path, uid: int) -> bool:
    """Whether there is a folder, no link, that belongs to this user and that nobody else may look into."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == uid and stat.S_IMODE(found.st_mode) == ALONE


def _read_own(path: Path) -> str:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW)) as file:
        if os.fstat(file.fileno()).st_uid != os.geteuid():
            raise UnsafeFolderError(f"{path} belongs to another user, who knows what is in it.")
        return file.read()


def _opened(path: Path) -> int:
    if path.is_symlink() or not path.is_dir():
        raise UnsafeFolderError(f"{path} is no folder, or a link to one, which somebody else may have made.")
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _check_way(path: Path) -> None:
    """Nobody else may have made, or may put another one in the place of, a folder on the way."""
    for folder in (path, *path.parents):
        found = folder.stat()
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            raise UnsafeFolderError(f"Everybody may rename what is in {folder}: nothing below it is safe.")
        shared = folder.parent != folder and folder.parent.stat().st_mode & stat.S_IWOTH
        if shared and found.st_uid not in {os.geteuid(), ROOT}:
            raise UnsafeFolderError(f"{folder} was made by another user (uid {found.st_uid}) in a folder that everybody shares.")
