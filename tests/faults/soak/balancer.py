"""What stands before the servers, as a Service does in a cluster: each connection goes to one of those that accept it."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any


class Balancer:
    """Listens in a thread of its own, so that nothing that the soak does holds it up."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="balancer", daemon=True)
        self._thread.start()
        self.port: int = self._run(self._listen())

    def cut(self) -> None:
        """Break every connection, whatever is on its way."""
        self._loop.call_soon_threadsafe(self._abort)

    def close(self) -> None:
        """Accept no more."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _abort(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> int:
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for port in random.sample(self._ports, len(self._ports)):
            try:
                upstream, downstream = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            ends = {downstream, writer}
            self._open |= ends
            await asyncio.gather(_carry(reader, downstream), _carry(upstream, writer))
            self._open -= ends
            return
        writer.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):  # either side was killed: the other is told by the close
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()
