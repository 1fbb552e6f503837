"""One conversation with the server: open a client, run a command's coroutine, turn what goes wrong into an exit code.

The only place of the command line that knows the SDK's errors.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import typer
from rich.text import Text

from aiki.cli.exit_codes import Exit, Failure
from aiki.cli.output.terminal import SafeConsole, json_text, one_line, say
from aiki.client import Client, RunHandle
from aiki.errors import AikiError, ApiError, ServerUnreachable
from aiki.protocol import explained_at
from aiki.shared.redaction import Redactor, without_users

CONNECT_SECONDS = 3.0
PORTS = {"http": 80, "https": 443}
START_HINT = "Is the server running? `aiki dev` starts everything on this machine; --url or AIKI_URL says where it is."


@dataclass(frozen=True, slots=True)
class Session:
    """Where a command talks to, and how it prints."""

    url: str
    token: str | None
    json: bool

    @property
    def out(self) -> SafeConsole:
        """Standard output; plain where it is not a terminal."""
        return SafeConsole()

    def run(self, command: Callable[[Client], Awaitable[Exit]]) -> None:
        """Carry out one command and leave with its exit code."""

        async def conversation() -> Exit:
            await _reach(self.url)
            async with Client(self.url, self.token) as client:
                return await command(client)

        with failures(json_errors=self.json):
            code = self._answer(conversation)
        raise typer.Exit(code)

    def _answer(self, conversation: Callable[[], Coroutine[Any, Any, Exit]]) -> Exit:
        try:
            return asyncio.run(conversation())
        except ServerUnreachable as error:
            raise Failure(Exit.UNREACHABLE, f"No answer: {error}", START_HINT, link=error.help_link) from error
        except ApiError as error:
            raise _from_problem(error) from error
        except AikiError as error:  # what the client itself refuses to send
            raise Failure(Exit.REFUSED, str(error), link=error.help_link) from error

    def note(self, text: str) -> None:
        """Something for the person at the terminal; never in the way of a script's standard output."""
        if not self.json:
            SafeConsole(stderr=True).print(one_line(text), style="dim")


@contextmanager
def failures(*, json_errors: bool = False) -> Iterator[None]:
    """Print a Failure as text or JSON on standard error, and leave with its code."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
    except Failure as failure:
        redacted = Redactor.of_environment()  # a script's standard error is kept in a log
        message = redacted(failure.message)
        if json_errors:
            body = {"code": int(failure.code), "error": message, "hint": failure.hint, "link": failure.link}
            say(json_text(body, encoding=sys.stderr.encoding), err=True)
        else:
            console = SafeConsole(stderr=True)
            console.print(Text.assemble(("error", "bold red"), f" {message}"))
            if failure.hint:
                console.print(failure.hint, style="dim")
            console.print(f"See {failure.link}", style="dim", soft_wrap=True)
        raise typer.Exit(failure.code) from None


async def _reach(url: str) -> None:
    """Fail at once where nobody listens: the client would be patient, a person at a prompt is not."""
    host, port = _address(url)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        raise Failure(
            Exit.UNREACHABLE,
            f"Nobody listens at {without_users(url)}: {str(error) or type(error).__name__}",
            START_HINT,
            link=explained_at(ServerUnreachable.__name__),
        ) from error
    writer.close()


def _address(url: str) -> tuple[str, int]:
    """Host and port; a Failure where the URL has none."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS[parts.scheme]
    except (ValueError, KeyError) as error:
        raise _no_url(url) from error
    if not parts.hostname:
        raise _no_url(url)
    return parts.hostname, port


def _no_url(url: str) -> Failure:
    return Failure(
        Exit.USAGE, f"{_nameable(url)} is not a URL of a server.", "Write it like http://127.0.0.1:8080 or https://aiki.example.com"
    )


def _nameable(url: str) -> str:
    """What was given as a URL; where it has no scheme, what stands before an @ may be a password all the same."""
    return without_users(url) if "://" in url else url.rpartition("@")[2]


def _from_problem(error: ApiError) -> Failure:
    problem = error.problem
    message, link = problem.detail or problem.title, error.help_link
    match error.status:
        case 401 | 403:
            return Failure(Exit.UNAUTHORIZED, message, "Give the token of your namespace with --token or AIKI_TOKEN.", link=link)
        case 404:
            return Failure(Exit.NOT_FOUND, message, "`aiki runs` lists what there is; RUN is a whole id, or ref:NAME.", link=link)
        case 409:
            return Failure(Exit.CONFLICT, message, link=link)
        case _:
            wrong = "; ".join(_one(item) for item in problem.errors or [])
            return Failure(Exit.REFUSED, f"{message} {wrong}".rstrip(), link=link)


def _one(item: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in item.get("loc", ()))
    return f"{place}: {item.get('msg', item)}" if place else str(item.get("msg", item))


async def find_run(client: Client, name: str) -> RunHandle[Any]:
    """`ref:NAME` or an id to a handle."""
    if name.startswith("ref:"):
        return await client.by_ref(name.removeprefix("ref:"))
    return client.handle(name)
