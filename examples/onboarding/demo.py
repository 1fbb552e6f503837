"""User onboarding, a day in 15 seconds, with its worker and its server killed on the way: `make demo`.

Ann verifies her address, Bob never does. Ends with exit code 0 only if every task took effect exactly as it should.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from mailserver import MailServer
from processes import HERE, Program, free_port, stopped_at_the_end
from rich.console import Console
from verdict import ANN, BOB, Check, of_the_replay, of_the_retries, of_the_world

from aiki import Client, RunHandle
from aiki.protocol import HistoryEntry, RunInfo, Status
from aiki_server.local import Stack, running

SPEED = 5760
DEADLINE_SECONDS = 60.0
console = Console(highlight=False, soft_wrap=True)


class Story:
    """The demo, told as it happens."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def tell(self, text: str) -> None:
        """One line, with the time since the beginning."""
        console.print(f"[dim]{time.monotonic() - self._began:5.1f} s[/]  {text}")

    def command(self, *arguments: str, url: str) -> None:
        """Run the command line as a person would."""
        console.print(f"\n[bold]$ aiki {shlex.join(arguments)}[/]")
        console.file.flush()
        width = {"COLUMNS": str(console.width)} | ({"FORCE_COLOR": "1"} if console.is_terminal else {})
        subprocess.run(
            [sys.executable, "-m", "aiki.cli", *arguments],
            env={**os.environ, "AIKI_URL": url, **width},
            stderr=subprocess.STDOUT,
            check=True,
        )

    async def until(self, what: str, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait for something, saying what for."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        with console.status(f"[dim]waiting until {what}[/]"):
            while not await condition():
                if time.monotonic() > deadline:
                    raise TimeoutError(f"gave up waiting until {what}")
                await asyncio.sleep(0.05)


async def play(folder: Path, stack: Stack) -> list[Check]:
    story, port = Story(), free_port()
    url, users, mails = f"http://127.0.0.1:{port}", folder / "users.sqlite", folder / "mails.sqlite"
    post = MailServer(mails, refusals_left=-1, say=lambda text: story.tell(f"[dim]{text}[/]"))
    world = {"AIKI_DEMO_SPEED": str(SPEED), "ONBOARDING_DATABASE": str(users), "ONBOARDING_SMTP_PORT": str(await post.start())}
    below = {"AIKI_DATABASE_URL": stack.postgres.url, "AIKI_REDIS_URL": stack.valkey.url}
    server = Program("server", "server", "--port", str(port), "--insecure", env=below, log=folder / "server.log")
    first, second = (Program(f"worker {n}", "worker", "workflows", "--url", url, env=world, log=folder / f"worker-{n}.log") for n in (1, 2))
    with stopped_at_the_end(first, second, server):
        server.start()
        server.wait_until_ready(url)
        first.start()
        story.tell(f"a server (pid {server.pid}) and a worker (pid {first.pid}) run; a day takes 15 s")
        story.tell("the mail server refuses everything, for now")
        async with Client(url) as client:
            ann, bob = [await _sign_up(client, email) for email in (ANN, BOB)]
            story.tell("Ann and Bob sign up")

            await story.until("two attempts to send Ann's mail have failed", lambda: _attempts(ann, 2))
            first.kill()
            story.tell(f"[bold red]kill -9[/] of the worker (pid {first.pid}), in the middle of the retries")
            post.refusals_left = 0
            second.start()
            story.tell(f"the mail server works again; another worker starts (pid {second.pid})")
            await story.until("the dead worker's lease lapses, and both runs wait for their event", lambda: _both_wait(ann, bob))
            story.tell("the runs moved to the new worker, and wait: no worker holds them")

            server.kill()
            story.tell(f"[bold red]kill -9[/] of the server (pid {server.pid}), during the wait")
            server.start()
            server.wait_until_ready(url)
            story.tell(f"a new server runs (pid {server.pid})")
            story.command("send", "ref:signup-ann", "email_verified", '{"by": "link"}', url=url)

            await story.until(
                "Bob's twelve hours (7.5 s) are over, and a day later (15 s) Ann gets her tips", lambda: _both_ended(ann, bob)
            )
            story.tell("both runs have ended")
            for name in ("ann", "bob"):
                story.command("show", f"ref:signup-{name}", url=url)
            return await _verdict(users, mails, ann, bob)


async def _sign_up(client: Client, email: str) -> RunHandle[dict[str, object]]:
    name = email.partition("@")[0]
    return await client.start("user-onboarding", {"email": email, "name": name.title()}, ref=f"signup-{name}")


async def _attempts(run: RunHandle[dict[str, object]], number: int) -> bool:
    return sum(entry.kind == "attempt" for entry in await _history(run)) >= number


async def _both_wait(*runs: RunHandle[dict[str, object]]) -> bool:
    infos: list[RunInfo] = [await run.refresh() for run in runs]
    return all(info.status is Status.WAITING and any(wait.kind == "event" for wait in info.waits) for info in infos)


async def _both_ended(*runs: RunHandle[dict[str, object]]) -> bool:
    return all([(await run.refresh()).status.terminal for run in runs])


async def _history(run: RunHandle[dict[str, object]]) -> list[HistoryEntry]:
    return (await run.history()).entries


async def _verdict(users: Path, mails: Path, ann: RunHandle[dict[str, object]], bob: RunHandle[dict[str, object]]) -> list[Check]:
    results = {ANN: (await ann.result(timeout=5))["success"], BOB: (await bob.result(timeout=5))["success"]}
    checks = [Check("Ann's run says success, Bob's does not", {ANN: True, BOB: False}, results), *of_the_world(users, mails)]
    for email, run in ((ANN, ann), (BOB, bob)):
        history = await _history(run)
        checks += [*of_the_retries(mails, email, history), *of_the_replay(email, history)]
    return checks


def main() -> int:
    console.print("[bold]User onboarding, killed on the way[/]  [dim](examples/onboarding/workflows.py)[/]\n")
    with tempfile.TemporaryDirectory(prefix="aiki-demo-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres runs as another user where we are root
        with running(folder) as stack:
            checks = asyncio.run(play(folder, stack))
    console.print("\n[bold]Did everything take effect exactly as it should?[/]")
    for check in checks:
        console.print(
            f"  [green]✔[/] {check.what}"
            if check.holds
            else f"  [bold red]✘ {check.what}: expected {check.expected}, found {check.found}[/]"
        )
    return 0 if all(check.holds for check in checks) else 1


if __name__ == "__main__":
    os.chdir(HERE)
    sys.exit(main())
