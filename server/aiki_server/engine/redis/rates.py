"""What Redis knows of pools: entries that no worker has been given, and counts of the last minutes in buckets.

Asked for every second by every operator, so all pools are read together, of empty streams no more than that they are, and a bucket that is over
is read once and remembered. A namespace may have ten thousand streams: what is sent and taken in at once has a bound, and others have their turn
at the loop between. Redis may be away, silent or full of nonsense; then the lag is not known, which is said as None: to hold it for nothing would
have a pool with work scaled down.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from redis.exceptions import RedisError, ResponseError

from aiki.protocol import CONSUMER_GROUP
from aiki_server.engine.redis.circuit import Circuit
from aiki_server.engine.redis.counters import BUCKET_SECONDS, arrivals_key, served_key
from aiki_server.engine.redis.pipelined import Command, ask_all
from aiki_server.model.keys import PoolKey

ARRIVAL_BUCKETS = 6
SERVED_BUCKETS = 30
OPEN_BUCKETS = 2
"""Buckets that may still change: the current one, and the last one, for a replica whose clock is a little behind."""
PATIENCE_SECONDS = 1.0
"""What takes longer is as good as no answer: the operator would hold back everything else."""


class Rates(NamedTuple):
    """Of one pool. `lag` is None where Redis cannot be used, or did not say it of one of the pool's streams."""

    lag: int | None
    arrivals_per_second: float
    service_seconds: float | None


UNKNOWN = Rates(None, 0.0, None)


class _Bucket(NamedTuple):
    """What happened in one stretch of time."""

    arrivals: float
    seconds: float
    served: float


class RatesReader:
    """Reads rates, and remembers the buckets that are over."""

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit
        self._closed: dict[PoolKey, dict[int, _Bucket]] = {}

    async def read(self, namespace: str, streams: Mapping[str, Sequence[str]]) -> dict[str, Rates]:
        """The rates of pools, given the streams of each."""
        redis = self._circuit.redis
        if redis is None:
            return dict.fromkeys(streams, UNKNOWN)
        current = int(time.time()) // BUCKET_SECONDS
        missing = {pool: self._missing(namespace, pool, current) for pool in streams}
        commands: list[Command] = []
        for pool, names in streams.items():
            for bucket in missing[pool]:
                commands.append(("hget", (arrivals_key(namespace, pool, bucket), "n")))
                commands.append(("hmget", (served_key(namespace, pool, bucket), ["seconds", "n"])))
            commands += [("xlen", (name,)) for name in names]
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                first = await ask_all(redis, commands)
                filled = [
                    args[0] for (command, args), length in zip(commands, first, strict=True) if command == "xlen" and not _is_empty(length)
                ]
                groups = dict(zip(filled, await ask_all(redis, [("xinfo_groups", (name,)) for name in filled]), strict=True))
        except (RedisError, OSError, TimeoutError) as error:
            self._circuit.failed(error)
            return dict.fromkeys(streams, UNKNOWN)
        found: dict[str, Rates] = {}
        answers = iter(first)
        for pool, names in streams.items():
            fresh = {bucket: _bucket(next(answers), next(answers)) for bucket in missing[pool]}
            lags = [0 if _is_empty(length) else _lag(length, groups[name]) for name, length in zip(names, answers, strict=False)]
            found[pool] = _rates(self._remember(PoolKey(namespace, pool), fresh, current), lags, current)
        return found

    def _missing(self, namespace: str, pool: str, current: int) -> list[int]:
        closed = self._closed.get(PoolKey(namespace, pool), {})
        return [bucket for bucket in range(current - SERVED_BUCKETS + 1, current + 1) if bucket not in closed]

    def _remember(self, key: PoolKey, fresh: Mapping[int, _Bucket], current: int) -> dict[int, _Bucket]:
        """All buckets of the window; those that are over are kept."""
        buckets = {bucket: value for bucket, value in self._closed.get(key, {}).items() if bucket > current - SERVED_BUCKETS} | dict(fresh)
        self._closed[key] = {bucket: value for bucket, value in buckets.items() if bucket <= current - OPEN_BUCKETS}
        return buckets


def _is_empty(length: Any) -> bool:
    """Whether a stream has nothing to give out, or is not there."""
    return isinstance(length, int) and length == 0


def _rates(buckets: Mapping[int, _Bucket], lags: Sequence[int | None], current: int) -> Rates:
    arrivals = sum(value.arrivals for bucket, value in buckets.items() if bucket > current - ARRIVAL_BUCKETS)
    served = sum(value.served for value in buckets.values())
    seconds = sum(value.seconds for value in buckets.values())
    lag = None if any(one is None for one in lags) else sum(one for one in lags if one is not None)
    return Rates(lag, arrivals / (ARRIVAL_BUCKETS * BUCKET_SECONDS), seconds / served if served else None)


def _bucket(arrivals: Any, served: Any) -> _Bucket:
    seconds, count = served if isinstance(served, list) else (None, None)
    return _Bucket(_number(arrivals), _number(seconds), _number(count))


def _lag(length: Any, groups: Any) -> int | None:
    """Of one stream: what Redis calls lag where it is a number, else what is neither pending nor gone."""
    if isinstance(groups, ResponseError) and "no such key" in str(groups):
        return 0
    if isinstance(length, Exception) or isinstance(groups, Exception):
        return None
    for group in groups:
        if group["name"] in (CONSUMER_GROUP, CONSUMER_GROUP.encode()):
            lag = group.get("lag")
            return int(lag) if lag is not None else max(0, int(length) - int(group["pending"]))
    return int(length)


def _number(raw: Any) -> float:
    """A count, or nothing: what is no number, or none that can be a count, is nobody's count."""
    try:
        number = float(raw or 0)
    except (TypeError, ValueError):
        return 0.0
    return number if math.isfinite(number) and number >= 0 else 0.0
