"""What goes wrong: every few seconds something, picked at random, and a repair of it a while later.

Runs in the main thread, because Postgres ends with the thread that started it. Nothing here waits for a server or a worker to be ready.
"""

from __future__ import annotations

import asyncio
import heapq
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from random import Random

import asyncpg
from redis import Redis
from redis.exceptions import RedisError

from faults.soak.stage import LEASE_SECONDS, Part, Stage

Repair = Callable[[], None]
KINDS = ("worker", "server", "redis", "postgres", "network")
END_SESSIONS = """
select pg_terminate_backend(pid)
from (select pid from pg_stat_activity where application_name = 'aiki' order by state, random() limit $1) as chosen
"""
MOST_DOWN_SECONDS = 5.0
FROZEN_SECONDS = (LEASE_SECONDS / 2, 2.5 * LEASE_SECONDS)


class Breaker:
    """Breaks what it may (`kinds`) and mends everything in the end."""

    def __init__(self, stage: Stage, *, kinds: Iterable[str], random: Random) -> None:
        self.counts: Counter[str] = Counter()
        self._stage = stage
        self._random = random
        self._repairs: list[tuple[float, int, Repair]] = []
        self._frozen: list[Part] = []
        every: dict[str, list[Callable[[], str | None]]] = {
            "worker": [self._kill_worker, self._stop_worker, self._freeze_worker],
            "server": [self._kill_server, self._stop_server, self._freeze_server],
            "redis": [self._flush, self._lose_redis],
            "postgres": [self._lose_postgres, self._end_sessions],
            "network": [self._cut_connections],
        }
        self._faults = [fault for kind in kinds for fault in every[kind]]

    def run(self, seconds: float) -> None:
        """Break and mend for so long; then mend what is left."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            if self._faults and (name := self._random.choice(self._faults)()) is not None:
                self.counts[name] += 1
            self._rest_until(min(end, now + self._random.uniform(1, 5)))
        for part in self._stage.parts:
            part.see_off()
        while self._repairs:
            heapq.heappop(self._repairs)[2]()

    def _rest_until(self, instant: float) -> None:
        while self._repairs and self._repairs[0][0] < instant:
            at, _, repair = heapq.heappop(self._repairs)
            time.sleep(max(0.0, at - time.monotonic()))
            repair()
        time.sleep(max(0.0, instant - time.monotonic()))

    def _later(self, least: float, most: float, repair: Repair) -> None:
        heapq.heappush(self._repairs, (time.monotonic() + self._random.uniform(least, most), self._random.getrandbits(62), repair))

    def _one(self, parts: list[Part]) -> Part | None:
        whole = [part for part in parts if part.up and part not in self._frozen]
        return self._random.choice(whole) if whole else None

    # ---- workers and servers

    def _kill_worker(self) -> str | None:
        return self._down(self._stage.workers, Part.kill, "kill -9 of a worker")

    def _stop_worker(self) -> str | None:
        return self._down(self._stage.workers, Part.leave, "SIGTERM of a worker")

    def _freeze_worker(self) -> str | None:
        return self._freeze(self._stage.workers, "SIGSTOP of a worker")

    def _kill_server(self) -> str | None:
        return self._down(self._stage.servers, Part.kill, "kill -9 of a server")

    def _stop_server(self) -> str | None:
        return self._down(self._stage.servers, Part.leave, "SIGTERM of a server")

    def _freeze_server(self) -> str | None:
        return self._freeze(self._stage.servers, "SIGSTOP of a server")

    def _down(self, parts: list[Part], end: Callable[[Part], None], name: str) -> str | None:
        part = self._one(parts)
        if part is None:
            return None
        end(part)
        self._later(0, MOST_DOWN_SECONDS, lambda: self._start(part))
        return name

    def _start(self, part: Part) -> None:
        """Not before its predecessor is gone, which may listen at the same port."""
        if part.gone:
            part.start()
        else:
            self._later(0.1, 0.5, lambda: self._start(part))

    def _freeze(self, parts: list[Part], name: str) -> str | None:
        part = self._one(parts)
        if part is None:
            return None
        part.signal(signal.SIGSTOP)
        self._frozen.append(part)
        self._later(*FROZEN_SECONDS, lambda: self._thaw(part))
        return name

    def _thaw(self, part: Part) -> None:
        part.signal(signal.SIGCONT)
        self._frozen.remove(part)

    # ---- Redis, Postgres and the network

    def _flush(self) -> str | None:
        try:
            with Redis.from_url(self._stage.valkey.url) as redis:
                redis.flushall()
        except RedisError:
            return None
        return "FLUSHALL"

    def _lose_redis(self) -> str | None:
        if self._stage.valkey.pid is None:
            return None
        self._stage.valkey.kill()
        self._later(0, MOST_DOWN_SECONDS, self._stage.valkey.start)
        return "Valkey killed, back empty"

    def _lose_postgres(self) -> str | None:
        if self._stage.postgres.pid is None:
            return None
        self._stage.postgres.kill()
        self._later(0, MOST_DOWN_SECONDS, self._stage.postgres.start)
        return "Postgres killed"

    def _end_sessions(self) -> str | None:
        if self._stage.postgres.pid is None:
            return None
        if not asyncio.run(_end_sessions(self._stage.postgres.url, self._random.choice([1, 3, 100]))):
            return None
        return "sessions of Postgres ended"

    def _cut_connections(self) -> str:
        self._stage.balancer.cut()
        return "connections cut"


async def _end_sessions(url: str, most: int) -> bool:
    """Whether it could be done: Postgres may just be starting, or ending."""
    try:
        database = await asyncpg.connect(url)
    except (asyncpg.PostgresError, OSError):
        return False
    try:
        await database.execute(END_SESSIONS, most)
    finally:
        database.terminate()  # it may be away by now, and nothing is left to say
    return True
