"""Rings that a worker had read and not claimed when it went: the runs are rung again, and nobody has to wait until the rings have lain for long.

Redis keeps such an entry for the worker that read it, and another worker may take it over when nobody has acknowledged it for some seconds. That
remains the way where nobody said that the worker is gone. Here the entries stay as they are, and what still waits for a claim gets one more: whichever is
read first counts. A worker may live a moment longer than was said of it and read on, so there is a second look.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from redis.exceptions import RedisError, ResponseError

from aiki.protocol import CONSUMER_GROUP, is_run_id
from aiki_server.engine.redis.circuit import Circuit
from aiki_server.engine.redis.pipelined import ask_all

AT_ONCE = 500
"""Entries of a stream that one look reads, and streams that are looked at together."""
UNACKNOWLEDGED = """
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers.err then return nil end  -- the stream or its group is not there yet, or is something else: nobody has read of it
for _, fields in ipairs(consumers) do
    local about = {}
    for i = 1, #fields, 2 do about[fields[i]] = fields[i + 1] end
    if about.name == ARGV[2] and about.pending > 0 then
        local found = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[4], 'STREAMS', KEYS[1], ARGV[3])
        return found and found[1][2]
    end
end
"""
"""Reads nothing as a consumer that is not there: that would make it."""


@dataclass(slots=True)
class Departed:
    """A worker that is gone, and the streams that it read."""

    worker: str
    streams: Sequence[str]
    at: float = field(default_factory=time.monotonic)


class Unclaimed:
    """`leave` remembers a worker that is gone, `look` rings what it left; `ring` is given runs, and rings those that are queued still."""

    def __init__(self, circuit: Circuit, ring: Callable[[Sequence[UUID]], Awaitable[None]], *, last_breath_seconds: float) -> None:
        self.departed: list[Departed] = []
        self._circuit = circuit
        self._ring = ring
        self._last_breath_seconds = last_breath_seconds

    def leave(self, worker: str, streams: Sequence[str]) -> None:
        """Remember that a worker is gone which read these streams."""
        if self._circuit.usable and streams:
            self.departed.append(Departed(worker, streams))

    async def look(self) -> None:
        """Ring what those left who are gone; each is looked at until its last breath is over."""
        looked_at, now = list(self.departed), time.monotonic()
        for one in looked_at:
            for begin in range(0, len(one.streams), AT_ONCE):
                await self._look_at(one.worker, one.streams[begin : begin + AT_ONCE])
        over = {id(one) for one in looked_at if now - one.at >= self._last_breath_seconds}
        self.departed = [one for one in self.departed if id(one) not in over]

    async def _look_at(self, worker: str, streams: Iterable[str]) -> None:
        left = dict.fromkeys(streams, "0")
        while left and (redis := self._circuit.redis) is not None:
            asked = [("eval", (UNACKNOWLEDGED, 1, stream, CONSUMER_GROUP, worker, last, str(AT_ONCE))) for stream, last in left.items()]
            try:
                answers = await ask_all(redis, asked)
            except (RedisError, OSError, TimeoutError) as error:
                self._circuit.failed(error)
                return
            # What is refused all the same was read by nobody: the stream is not there any more.
            pages = {stream: answer or [] for stream, answer in zip(left, answers, strict=True) if not isinstance(answer, ResponseError)}
            if runs := [run for page in pages.values() for _, fields in page for run in _named(fields)]:
                await self._ring(runs)
            left = {stream: page[-1][0].decode() for stream, page in pages.items() if len(page) == AT_ONCE}


def _named(fields: Sequence[bytes] | None) -> Iterable[UUID]:
    """The run that an entry names: none where it has been deleted, or somebody else has written it."""
    for name, value in zip((fields or ())[::2], (fields or ())[1::2], strict=False):
        if name == b"r" and is_run_id(text := value.decode("ascii", "replace")):
            yield UUID(text)
