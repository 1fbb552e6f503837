"""What Redis knows of a pool: entries that no worker has been given, and counts of the last minutes in buckets.

Redis may be away or empty; then nothing is known, which is said as None, or as nothing having happened.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from aiki_server.engine.doorbell import BUCKET_SECONDS, arrivals_key, served_key
from aiki_server.engine.streams import GROUP

ARRIVAL_BUCKETS = 6
SERVED_BUCKETS = 30


class Rates(NamedTuple):
    """Of one pool. `lag` is None where Redis does not answer."""

    lag: int | None
    arrivals_per_second: float
    service_seconds: float | None


UNKNOWN = Rates(None, 0.0, None)


async def read(redis: Redis | None, namespace: str, pool: str, streams: Sequence[str]) -> Rates:
    """One reading, in one round trip."""
    if redis is None:
        return UNKNOWN
    bucket = int(time.time()) // BUCKET_SECONDS
    pipeline = redis.pipeline(transaction=False)
    for number in range(ARRIVAL_BUCKETS):
        pipeline.hget(arrivals_key(namespace, pool, bucket - number), "n")
    for number in range(SERVED_BUCKETS):
        pipeline.hmget(served_key(namespace, pool, bucket - number), ["seconds", "n"])
    for name in streams:
        pipeline.xlen(name)
        pipeline.xinfo_groups(name)
    try:
        answers = await pipeline.execute(raise_on_error=False)
    except (RedisError, OSError, TimeoutError):
        return UNKNOWN
    arrivals, served, rest = (
        answers[:ARRIVAL_BUCKETS],
        answers[ARRIVAL_BUCKETS : ARRIVAL_BUCKETS + SERVED_BUCKETS],
        answers[ARRIVAL_BUCKETS + SERVED_BUCKETS :],
    )
    lags = [_lag(length, groups) for length, groups in zip(rest[::2], rest[1::2], strict=True)]
    total = None if any(lag is None for lag in lags) else sum(lag for lag in lags if lag is not None)
    return Rates(total, sum(map(_number, arrivals)) / (ARRIVAL_BUCKETS * BUCKET_SECONDS), _mean(served))


def _lag(length: Any, groups: Any) -> int | None:
    """Of one stream: what Redis calls lag where it is a number, else what is neither pending nor gone."""
    if isinstance(groups, ResponseError) and "no such key" in str(groups):
        return 0
    if isinstance(length, Exception) or isinstance(groups, Exception):
        return None
    for group in groups:
        if group["name"] in (GROUP, GROUP.encode()):
            lag = group.get("lag")
            return int(lag) if lag is not None else max(0, int(length) - int(group["pending"]))
    return int(length)


def _mean(served: Sequence[Any]) -> float | None:
    pairs = [pair for pair in served if isinstance(pair, list)]
    count = sum(_number(pair[1]) for pair in pairs)
    return sum(_number(pair[0]) for pair in pairs) / count if count else None


def _number(raw: Any) -> float:
    return 0.0 if raw is None or isinstance(raw, Exception) else float(raw)
