"""What is attacked: Postgres and Valkey from the wheels, and a real server on loopback that knows a token for each of some namespaces."""

from __future__ import annotations

import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import environ
from pathlib import Path

from aiki_server.local import Stack, running
from support.ports import free_port
from support.waiting import wait_until

START_SECONDS = 60.0
STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Stage:
    """A server that is up. `tokens` has the token of each namespace."""

    url: str
    pid: int
    tokens: Mapping[str, str]
    stack: Stack
    log: Path


@contextmanager
def stage(
    home: Path,
    *,
    namespaces: Sequence[str] = ("team-a", "team-b"),
    settings: Mapping[str, str] | None = None,
    program: Sequence[str] = ("-m", "aiki_server"),
    traced: bool = True,
) -> Iterator[Stage]:
    """A stage on a folder of its own, for as long as the block lasts; `program` is what Python is told to run as its server.

    Not `traced`: its lines are not counted where those of others are, for its processor time is measured.
    """
    tokens = {namespace: secrets.token_hex(16) for namespace in namespaces}
    log = home / "server.log"
    with running(home) as stack, _serving(_environment(stack, tokens, settings or {}, traced=traced), log, program) as (url, pid):
        yield Stage(url, pid, tokens, stack, log)


def _environment(stack: Stack, tokens: Mapping[str, str], settings: Mapping[str, str], *, traced: bool) -> dict[str, str]:
    return {
        **{name: value for name, value in environ.items() if traced or name != "COVERAGE_PROCESS_CONFIG"},
        "AIKI_DATABASE_URL": stack.postgres.url,
        "AIKI_REDIS_URL": stack.valkey.url,
        "AIKI_TOKENS": ",".join(f"{namespace}:{token}" for namespace, token in tokens.items()),
        "AIKI_PORT": str(free_port()),
        **settings,
    }


@contextmanager
def _serving(environment: Mapping[str, str], log: Path, program: Sequence[str]) -> Iterator[tuple[str, int]]:
    url = f"http://127.0.0.1:{environment['AIKI_PORT']}"
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, *program], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
    try:
        _until_ready(url, process, log)
        yield url, process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    def ready() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"The server ended while it started. The end of its log:\n{log.read_text()[-4000:]}")
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False

    wait_until(ready, f"the server to be ready; its log: {log}", seconds=START_SECONDS)
