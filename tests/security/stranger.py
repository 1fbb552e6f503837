"""Run as another user of the machine, with a project's folder and the server's address: prints what it got hold of, a line each."""

from __future__ import annotations

import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path


def read(path: Path) -> str:
    """What is in a file."""
    return path.read_text(errors="replace")[:100]


def listed(path: Path) -> str:
    """What a folder holds."""
    return ", ".join(sorted(one.name for one in path.iterdir()))


def connected(path: Path) -> str:
    """Whether a socket lets somebody in."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2)
        connection.connect(str(path))
        return "connected"


def asked(url: str) -> str:
    """What the server answers."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        return f"{answer.status} {answer.read()[:100]!r}"


def main(aiki: Path, url: str, sockets: Iterable[Path], pids: Iterable[str]) -> None:
    """Try everything."""
    tried: list[tuple[Callable[..., str], object]] = [
        (read, aiki / name) for name in ("token", "lock", "postgres/password", "valkey/password")
    ]
    tried += [(read, aiki / name) for name in ("valkey/valkey.conf", "postgres/data/PG_VERSION", "postgres/hba.conf")]
    tried += [(listed, aiki), (listed, aiki / "postgres"), (listed, aiki / "postgres/data"), (asked, f"{url}/api/v1/runs")]
    tried += [(connected, path) for path in sockets]
    tried += [(read, Path("/proc") / pid / "environ") for pid in pids]
    for how, what in tried:
        try:
            print(f"{how.__name__} {what}: {how(what)}")
        except (OSError, urllib.error.URLError):
            continue


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], map(Path, sys.argv[3].split(",")), sys.argv[4].split(","))
