"""What is asked of a worker over HTTP: /livez, whether its event loop still turns, /readyz, whether it has registered, and /metrics, its figures.

A few lines over asyncio's streams: a web framework would be most of the worker's memory. Anybody in the cluster may come to this port, and the figures
name workflows and tasks of one namespace, so they are for who shows a token of it; Kubernetes asks without one.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

from aiki.protocol import figures_token
from aiki.worker.metrics.exposition import CONTENT_TYPE, Family, exposition

REQUEST_SECONDS: Final = 5.0
LARGEST_HEAD: Final = 16 * 1024
REFUSAL: Final = (
    "Show the token for figures: `Authorization: Bearer ...`, with the key AIKI_METRICS_TOKEN of the Secret that the worker has its own token from, "
    "or with the SHA-256, in hex, of `figures:` and the worker's token.\n"
)


@asynccontextmanager
async def health(
    port: int | None, *, ready: Callable[[], bool], figures: Callable[[], Iterable[Family]], token: Callable[[], str | None]
) -> AsyncIterator[None]:
    """Answers on `port` as long as the block lasts; without a port, nobody asks. `token` is the worker's own, where the server asks for one."""
    if port is None:
        yield
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                path, shown = _read(await reader.readuntil(b"\r\n\r\n"))
                if path != b"/metrics":
                    writer.write(_response(_status(path, ready=ready)))
                elif _may_read(shown, token()):
                    writer.write(_response(HTTPStatus.OK, exposition(figures()), kind=CONTENT_TYPE))
                else:
                    writer.write(_response(HTTPStatus.UNAUTHORIZED, REFUSAL, more="WWW-Authenticate: Bearer\r\n"))
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return  # whoever asked has gone, or does not speak HTTP
        finally:
            writer.close()

    async with await asyncio.start_server(answer, None, port, limit=LARGEST_HEAD):
        yield


def _read(head: bytes) -> tuple[bytes, bytes]:
    """The path, and what was shown as a credential."""
    request, *headers = head.split(b"\r\n")
    shown = next(
        (value.strip() for name, _, value in (header.partition(b":") for header in headers) if name.lower() == b"authorization"), b""
    )
    return [*request.split(), b"", b""][1], shown


def _may_read(shown: bytes, token: str | None) -> bool:
    """Whether this is the worker's own token, or the one that is made of it and is good for figures alone. Both are compared, always."""
    if token is None:
        return True
    good = [hmac.compare_digest(shown, f"Bearer {one}".encode()) for one in (figures_token(token), token)]
    return any(good)


def _status(path: bytes, *, ready: Callable[[], bool]) -> HTTPStatus:
    if path == b"/livez" or (path == b"/readyz" and ready()):
        return HTTPStatus.OK
    return HTTPStatus.SERVICE_UNAVAILABLE if path == b"/readyz" else HTTPStatus.NOT_FOUND


def _response(status: HTTPStatus, text: str = "", *, kind: str = "text/plain; charset=utf-8", more: str = "") -> bytes:
    body = text.encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}Connection: close\r\n\r\n"
    )
    return head.encode() + body
