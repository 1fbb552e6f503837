"""A child process of `aiki dev`: started on a leash, its output read line by line, stopped in good order.

The leash (aiki_server.local.die_with_parent) makes the kernel end it when `aiki dev` itself is killed. It runs in a session of its own, so that
Ctrl-C reaches `aiki dev` alone, which then stops things one after the other.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aiki.cli.dev.log_view import DevLog
from aiki_server.local import die_with_parent

STOP_SECONDS = 15.0
LINE_LIMIT = 1 << 20
LEASH = Path(die_with_parent.__file__)


class Part:
    """One running child and the task that reads its output."""

    def __init__(self, process: asyncio.subprocess.Process, reader: asyncio.Task[None]) -> None:
        self.process = process
        self._reader = reader

    async def ended(self) -> int:
        """Wait for its end, with all of its output written; the exit code, negative for a signal."""
        code = await self.process.wait()
        await self._reader
        return code

    async def stop(self) -> None:
        """Ask it to end; insist after STOP_SECONDS."""
        if self.process.returncode is None:
            self.process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
        await self.ended()


@asynccontextmanager
async def running(name: str, command: Sequence[str], *, env: Mapping[str, str], journal: DevLog) -> AsyncIterator[Part]:
    """Run `python COMMAND…` for as long as the block lasts. From the main thread: the leash is tied to its life."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), str(int(signal.SIGKILL)), ""),
        *(sys.executable, "-u", *command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **env},
        start_new_session=True,
        limit=LINE_LIMIT,
    )
    part = Part(process, asyncio.create_task(_relay(name, process, journal)))
    try:
        yield part
    finally:
        await part.stop()


async def _relay(name: str, process: asyncio.subprocess.Process, journal: DevLog) -> None:
    assert process.stdout is not None
    while True:
        try:
            line = await process.stdout.readline()
        except ValueError:  # a line longer than LINE_LIMIT: the reader has dropped it
            journal.line(name, f"(a line of more than {LINE_LIMIT} bytes was left out)")
            continue
        if not line:
            return
        journal.line(name, line.decode("utf-8", "replace").rstrip("\n"))
