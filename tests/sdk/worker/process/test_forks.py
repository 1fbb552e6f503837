"""Signals for the child processes of a task are the children's; those for the worker are the worker's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiki import Client
from support.server import ServerProcess

PROGRAM = Path(__file__).with_name("forking.py")
EXPECTED = {
    "pool": "28",
    "terminated": "-15",
    "SIGTERM": "-15",
    "SIGUSR1": "-10",
    "SIGHUP": "-1",
    "SIGINT": "1",
    "raises": "1",
    "exits": "7",
    "exits well": "0",
    "exits with a word": "1",
    "returns": "0",
    "preexec": "-15",
    "executor": "28 broken",
    "spawned": "-15",
    "overdue": "expired",
    "grandchild": "0",
}


@pytest.fixture(params=["asyncio", "uvloop"])
def forking(request: pytest.FixtureRequest, server: ServerProcess, unique: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {"AIKI_URL": server.url, "FLOW": unique}
    with subprocess.Popen([sys.executable, PROGRAM, request.param], env=environment, stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


async def test_signals_of_a_forked_child_do_not_reach_the_worker(client: Client, forking: subprocess.Popen[bytes], unique: str) -> None:
    handles = {way: await client.start(unique, way) for way in EXPECTED}
    assert {way: await handle.result(50) for way, handle in handles.items()} == {way: [code, code] for way, code in EXPECTED.items()}
    assert forking.poll() is None
    forking.send_signal(signal.SIGTERM)
    out, _ = forking.communicate(timeout=30)
    assert (out, forking.returncode) == (b"told\n", 0)
