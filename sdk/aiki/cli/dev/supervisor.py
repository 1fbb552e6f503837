"""The parts of `aiki dev`, kept alive: Postgres and Valkey, the server on them, a worker that follows the code.

Started from the bottom up, stopped from the top down. A part that dies is started again, which is what the system is for;
only a worker that ends by itself, with a traceback most likely, waits for a change of the code.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import watchfiles
from watchfiles.main import FileChange

from aiki.cli.dev.child_process import running
from aiki.cli.dev.log_view import DevLog
from aiki.cli.exit_codes import Exit, Failure
from aiki_server.local import Stack

READY_SECONDS = 60.0
PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class System:
    """What runs, and where."""

    stack: Stack
    port: int
    token: str = field(repr=False)
    module: str | None
    source: Path
    concurrency: int
    journal: DevLog

    @property
    def url(self) -> str:
        """Where the server is."""
        return f"http://127.0.0.1:{self.port}"

    async def run(self, announce: Callable[[], None]) -> None:
        """Run until Ctrl-C, SIGTERM or SIGHUP; announce when everything answers."""
        stop, ready = _stop_signal(), asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                below = group.create_task(self._keep_stack())
                server = group.create_task(self._keep_server(ready))
                above = group.create_task(self._keep_worker(ready, announce))
                await stop.wait()
                self.journal.say("stopping; open runs go on at the next start")
                for task in (above, server, below):
                    task.cancel()
                    await asyncio.wait({task})
        except BaseExceptionGroup as group:
            failures = group.subgroup(Failure)
            raise (failures.exceptions[0] if failures else group) from None

    async def _keep_stack(self) -> None:
        # Restarted from here, the main thread: their leashes are tied to it.
        while True:
            await asyncio.sleep(PAUSE_SECONDS)
            for name, part in (("Postgres", self.stack.postgres), ("Valkey", self.stack.valkey)):
                if part.pid is None:
                    self.journal.say(f"{name} has gone; starting it again")
                    part.start()

    async def _keep_server(self, ready: asyncio.Event) -> None:
        env = {
            "AIKI_DATABASE_URL": self.stack.postgres.url,
            "AIKI_REDIS_URL": self.stack.valkey.url,
            "AIKI_TOKENS": f"default:{self.token}",
            "AIKI_TOKENS_FILE": "",  # what this terminal was set up for is not meant
            "AIKI_ALLOWED_HOSTS": "",
        }
        command = ["-m", "aiki.cli", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        while True:
            async with running("server", command, env=env, journal=self.journal) as part:
                code = await part.ended()
            if not ready.is_set():
                raise Failure(Exit.UNREACHABLE, f"The server ended while it started ({_how(code)}).", "Its log is above.")
            self.journal.say(f"the server has gone ({_how(code)}); starting it again")
            await asyncio.sleep(PAUSE_SECONDS)

    async def _keep_worker(self, ready: asyncio.Event, announce: Callable[[], None]) -> None:
        await _until_ready(f"http://127.0.0.1:{self.port}/readyz")
        ready.set()
        announce()
        if self.module is None:
            return
        command = ["-m", "aiki.cli", "worker", self.module, "--url", self.url, "--concurrency", str(self.concurrency)]
        changes = _changes(self.source)
        change = asyncio.ensure_future(anext(changes))
        while True:
            async with running("worker", command, env={"AIKI_GRACE_SECONDS": "3", "AIKI_TOKEN": self.token}, journal=self.journal) as part:
                end = asyncio.ensure_future(part.ended())
                await asyncio.wait({end, change}, return_when=asyncio.FIRST_COMPLETED)
                if end.done() and end.result() >= 0 and not change.done():
                    self.journal.say(f"the worker has ended ({_how(end.result())}); it starts again when the code changes")
                    await change
            if change.done():
                self.journal.say(f"{change.result()} changed; restarting the worker")
                change = asyncio.ensure_future(anext(changes))
            else:
                self.journal.say(f"the worker has gone ({_how(end.result())}); starting it again")
                await asyncio.sleep(PAUSE_SECONDS)


async def _changes(source: Path) -> AsyncIterator[str]:
    """The names of changed Python files, a few at a time."""
    async for changes in watchfiles.awatch(source, watch_filter=watchfiles.PythonFilter(), debounce=200):
        yield _names(changes, source)


def _names(changes: set[FileChange], source: Path) -> str:
    names = sorted({str(Path(path).relative_to(source)) for _, path in changes})
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


async def _until_ready(url: str) -> None:
    try:
        async with asyncio.timeout(READY_SECONDS), aiohttp.ClientSession() as session:
            while not await _answers(session, url):  # noqa: ASYNC110 - another process: there is nothing to be told by
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise Failure(Exit.UNREACHABLE, f"The server was not ready after {READY_SECONDS:.0f} s.", "Its log is above.") from None


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=5)) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
