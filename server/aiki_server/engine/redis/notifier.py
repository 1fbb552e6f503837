"""Telling Redis: runs that may be claimed (XADD), inboxes for workers and ended runs (PUBLISH), all of a moment in one pipeline.

Redis may fail at anything, so nothing here may fail an operation or make it wait: what cannot be sent is dropped, workers are told to
poll, and the sweeper refills the streams from Postgres. While the circuit is open nothing is attempted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from redis.exceptions import RedisError

from aiki_server.engine.commit.after_commit import Effects
from aiki_server.engine.redis.circuit import Circuit, is_about_a_key
from aiki_server.engine.redis.counters import Command, Tally
from aiki_server.engine.redis.stream_names import DONE, done_channel, inbox_channel, stream

log = logging.getLogger(__name__)

MOST_PENDING = 100_000
TALLY_SECONDS = 1.0
ALONE_SECONDS = 1.0
"""A server that finds itself the only one that listens for ends tells of none for so long: a new one asks Postgres as often."""
MOST_AT_ONCE = 500
MOST_SPOILED = 100
"""Keys of another type, of which it was said."""
SPOILED_SECONDS = 2.0
"""After so long without anything to add they are looked at: somebody may have deleted them."""
ADD_ALL = "for _, run in ipairs(ARGV) do redis.call('XADD', KEYS[1], '*', 'r', run) end"


class Doorbell:
    """`ring` never waits and never fails; `turn` has to be repeated by a Loop."""

    def __init__(self, circuit: Circuit) -> None:
        self.dropped = 0
        self.spoiled: set[str] = set()
        """Keys of ours that hold something of another type, so that nothing can be added. Whoever reads such a stream polls."""
        self._circuit = circuit
        self._pending: list[Command] = []
        self._tally = Tally()
        self._alone_until = 0.0
        self._arrived = asyncio.Event()

    def ring(self, effects: Effects) -> None:
        """Tell Redis soon what came of a transaction."""
        if not self._circuit.usable:
            self.dropped += sum(map(len, effects.queued.values()))
            return
        self._count(effects)
        if commands := _commands(effects, alone=time.monotonic() < self._alone_until):
            self._put(commands)

    def publish(self, channel: str, message: str) -> None:
        """Tell whoever listens."""
        if self._circuit.usable:
            self._put([("PUBLISH", channel, message)])

    async def turn(self) -> None:
        """Send what has gathered, or wait a while for something to gather."""
        try:
            async with asyncio.timeout(SPOILED_SECONDS if self.spoiled else 30):
                await self._arrived.wait()
        except TimeoutError:
            await self._look_at_spoiled()
            return
        self._arrived.clear()
        commands, self._pending = self._pending, []
        await self._send(commands)

    def _put(self, commands: Sequence[Command]) -> None:
        if len(self._pending) + len(commands) > MOST_PENDING:
            self.dropped += len(commands)
            return
        self._pending.extend(commands)
        self._arrived.set()

    def _count(self, effects: Effects) -> None:
        """The first count of a while sees to it that all of them are told at its end."""
        told = bool(self._tally)
        self._tally.add(effects)
        if self._tally and not told:
            asyncio.get_running_loop().call_later(TALLY_SECONDS, lambda: self._put(self._tally.take()))

    async def _send(self, commands: Sequence[Command]) -> None:
        redis = self._circuit.redis
        if redis is None:
            self.dropped += len(commands)
        if redis is None or not commands:
            return
        try:
            pipeline = redis.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            answers = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as error:
            self.dropped += len(commands)
            self._circuit.failed(error)
            return
        self._look_at(commands, answers)

    async def _look_at_spoiled(self) -> None:
        if self._circuit.usable:
            await self._send([("XLEN", key) for key in sorted(self.spoiled)])

    def _look_at(self, commands: Sequence[Command], answers: Sequence[Any]) -> None:
        """Each answer for itself: Redis may take some commands of a pipeline and refuse others."""
        for command, answer in zip(commands, answers, strict=True):
            if isinstance(answer, Exception):
                self.dropped += command[0] != "XLEN"
                self._refused(command, answer)
                continue
            if self.spoiled:
                self.spoiled.discard(_key(command))
            if _to_replicas(command) and answer <= 1:
                self._alone_until = time.monotonic() + ALONE_SECONDS

    def _refused(self, command: Command, error: Exception) -> None:
        if not is_about_a_key(error):
            self._circuit.failed(error)
            return
        key = _key(command)
        if key not in self.spoiled and len(self.spoiled) < MOST_SPOILED:
            self.spoiled.add(key)
            log.warning("a key holds something of another type; its runs go through Postgres until it is deleted", extra={"key": key})


def _key(command: Command) -> str:
    return str(command[3] if command[0] == "EVAL" else command[1])


def _to_replicas(command: Command) -> bool:
    return command[0] == "PUBLISH" and str(command[1]).startswith(DONE)


def _commands(effects: Effects, *, alone: bool) -> list[Command]:
    commands: list[Command] = []
    for place, runs in effects.queued.items():
        commands.extend(_added(stream(*place), [run.hex for run in runs]))
    for namespace, worker, run in effects.inbox_pending:
        commands.append(("PUBLISH", inbox_channel(namespace, worker), run.hex))
    ended: dict[str, list[UUID]] = {}
    for end in () if alone else effects.ended:
        ended.setdefault(end.namespace, []).append(end.id)
    for namespace, ids in ended.items():
        commands.append(("PUBLISH", done_channel(namespace), ",".join(run.hex for run in ids)))
    return commands


def _added(key: str, runs: list[str]) -> list[Command]:
    """One entry a run. Many are added by one command: packing a command costs more than carrying it out."""
    if len(runs) == 1:
        return [("XADD", key, "*", "r", runs[0])]
    return [("EVAL", ADD_ALL, 1, key, *runs[first : first + MOST_AT_ONCE]) for first in range(0, len(runs), MOST_AT_ONCE)]
