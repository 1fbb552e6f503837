"""Consumers in Redis of workers that are gone: every worker reads under a name of its own, and Redis forgets no name by itself (S41).

One is forgotten when it has been silent for long and has no entry left that it read and did not acknowledge; others take those over. Looking
and forgetting are one script, so an entry that is read in between is not lost. A worker that lives after all is known again when it reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from redis.exceptions import RedisError

from aiki.protocol import CONSUMER_GROUP
from aiki_server.engine.redis.circuit import Circuit
from aiki_server.engine.redis.pipelined import ask_all

PERIOD = 60.0
SILENT_SECONDS = 600.0
"""A worker that reads does so every few seconds; one that is full or drained may not read for long."""
FORGET_SILENT = """
local gone, consumers = 0, redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers.err then return 0 end  -- the stream or its group is not there yet
for _, fields in ipairs(consumers) do
    local about = {}
    for i = 1, #fields, 2 do about[fields[i]] = fields[i + 1] end
    if about.pending == 0 and about.idle >= tonumber(ARGV[2]) then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], about.name)
        gone = gone + 1
    end
end
return gone
"""


class Consumers:
    """`turn` has to be repeated by a Loop. `streams` gives the names of all there are."""

    def __init__(self, circuit: Circuit, *, streams: Callable[[], Iterable[str]]) -> None:
        self._circuit = circuit
        self._streams = streams
        self._known: set[str] = set()
        """The streams that there have been, as far as they have not been deleted."""

    async def turn(self) -> None:
        """Forget those that have been silent for long, and the streams of builds that were forgotten; then wait."""
        await self.forget_silent(SILENT_SECONDS)
        await self.forget_streams()
        await asyncio.sleep(PERIOD)

    async def forget_silent(self, seconds: float) -> int:
        """Forget those that have been silent for so long; how many."""
        streams, redis = list(self._streams()), self._circuit.redis
        if redis is None or not streams:
            return 0
        asked = [("eval", (FORGET_SILENT, 1, stream, CONSUMER_GROUP, str(int(seconds * 1_000)))) for stream in streams]
        try:
            found = await ask_all(redis, asked)
        except (RedisError, OSError, TimeoutError) as error:
            self._circuit.failed(error)
            return 0
        return sum(answer for answer in found if isinstance(answer, int))

    async def forget_streams(self) -> int:
        """Delete the streams that nobody reads any more, because their build was forgotten; how many."""
        current = set(self._streams())
        gone = self._known - current
        done = await delete_streams(self._circuit, gone)
        self._known = current if done else self._known | current
        return len(gone) if done else 0


async def delete_streams(circuit: Circuit, gone: Iterable[str]) -> bool:
    """Delete streams that nobody reads any more; whether Redis has done it. Where it has not, a later turn does."""
    names, redis = sorted(gone), circuit.redis
    if not names:
        return True
    if redis is None:
        return False
    try:
        for answer in await ask_all(redis, [("delete", (name,)) for name in names]):
            if isinstance(answer, RedisError):
                raise answer
    except (RedisError, OSError, TimeoutError) as error:
        circuit.failed(error)
        return False
    return True
