"""Bodies with very many values are read in a process of their own, so that reading one does not hold up everybody else's requests.

Python reads a megabyte of small JSON values in a quarter of a second or more, and nothing else runs in the process meanwhile. Such a
body is rare and may be meant well, so it is not refused: a second process, started when it is first needed, reads it by the same
functions and says what came of it. It has one body at a time; the namespaces take turns. A body that takes it too long, or
too much memory, is refused, and the process begins anew.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from typing import Any

from aiki_server.api.fairness.turns import Turns
from aiki_server.api.http.errors import ApiError

log = logging.getLogger(__name__)

LIGHT_BYTES = 64 * 1024
MOST_BYTES = 1024 * 1024
MOST_VALUES = 30_000
"""What is read at once, in some 20 ms at the very most: few bytes, or not very many with few values."""
PATIENCE_SECONDS = 15.0


def texts_of(places: Sequence[int | None], sizes: Sequence[int], raw: bytes, found: bytes) -> list[str]:
    """The texts that a job found: where they begin in the body that it was given, or one after the other in what it sent, where that is None."""
    texts: list[str] = []
    sent = 0
    for place, size in zip(places, sizes, strict=True):
        if place is None:
            texts.append(found[sent : sent + size].decode())
            sent += size
        else:
            texts.append(str(memoryview(raw)[place : place + size], "utf-8"))
    return texts


def is_heavy(raw: bytes | str) -> bool:
    """Whether reading this JSON may take longer than others should wait."""
    if len(raw) <= LIGHT_BYTES:
        return False
    if len(raw) > MOST_BYTES:
        return True
    counted = (",", "[", "{") if isinstance(raw, str) else (b",", b"[", b"{")
    return sum(map(raw.count, counted)) > MOST_VALUES  # type: ignore[arg-type]


class Heavy:
    """The reading process, as the server sees it. One per app; `close` ends it."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._turns = Turns()

    async def ask(self, job: str, raw: bytes, *, namespace: str, **more: Any) -> tuple[Mapping[str, Any], bytes]:
        """What came of a job of `heavy_process`, and the texts that it tells of (`texts_of`). Raises what the job raised."""
        async with self._turns.taken(namespace):
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    answer, found = await self._exchange({"job": job, "size": len(raw), **more}, raw)
            except (TimeoutError, ConnectionError, asyncio.IncompleteReadError) as error:
                log.warning(
                    "heavy body given up", extra={"namespace": namespace, "job": job, "bytes": len(raw), "error": type(error).__name__}
                )
                await self.close()
                raise _too_heavy() from None
            except BaseException:
                await self.close()  # an answer that nobody has read would be taken for that to the next question
                raise
        if (problem := answer.get("problem")) is not None:
            raise ApiError(**problem)
        return answer, found

    async def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()

    async def _exchange(self, question: Mapping[str, Any], raw: bytes) -> tuple[dict[str, Any], bytes]:
        process = await self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(question).encode() + b"\n")
        process.stdin.write(raw)
        await process.stdin.drain()
        answer = json.loads(await process.stdout.readuntil(b"\n"))
        return answer, await process.stdout.readexactly(answer.pop("size"))

    async def _running(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIKI_", "PG"))}  # it needs no secret
            command = (sys.executable, "-m", "aiki_server.api.heavy_process")
            self._process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=environment, limit=2**26)
        return self._process


def _too_heavy() -> ApiError:
    return ApiError(413, "The body has so many values that the server cannot read it in time. Send fewer at once.")
