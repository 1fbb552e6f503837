"""What Kubernetes asks a worker: /livez, whether its event loop still turns, and /readyz, whether it has registered.

A few lines over asyncio's streams: a web framework would be most of the worker's memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

REQUEST_SECONDS = 5.0


@asynccontextmanager
async def health(port: int | None, *, ready: Callable[[], bool]) -> AsyncIterator[None]:
    """Answers on `port` as long as the block lasts; without a port, nobody asks."""
    if port is None:
        yield
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await asyncio.wait_for(reader.readline(), REQUEST_SECONDS)
            status = _status(request, ready=ready)
            writer.write(f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
        except (TimeoutError, ConnectionError, ValueError):
            return  # whoever asked has gone, or does not speak HTTP
        finally:
            writer.close()

    async with await asyncio.start_server(answer, None, port):
        yield


def _status(request: bytes, *, ready: Callable[[], bool]) -> HTTPStatus:
    path = [*request.split(), b"", b""][1]
    if path == b"/livez" or (path == b"/readyz" and ready()):
        return HTTPStatus.OK
    return HTTPStatus.SERVICE_UNAVAILABLE if path == b"/readyz" else HTTPStatus.NOT_FOUND
