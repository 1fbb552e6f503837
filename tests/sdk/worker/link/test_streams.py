"""Reading streams of a real Valkey: groups made when missing, nonsense dropped, abandoned entries taken over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from aiki.worker.link.redis_streams import Streams, StreamsUnavailable

RUN = "00" + "1" * 30


@pytest.fixture
async def streams(redis_url: str) -> AsyncIterator[Streams]:
    reader = Streams(redis_url, "w1", block_seconds=0.05)
    yield reader
    await reader.close()


async def test_missing_group_is_made_at_zero_and_counted(redis: Redis, streams: Streams, unique: str) -> None:
    await redis.xadd(unique, {"r": RUN})
    assert await streams.read([unique], count=10) == []
    assert [ring.run for ring in await streams.read([unique], count=10)] == [RUN]
    assert streams.groups_missing == 1


async def test_group_lost_with_all_data_is_made_again(redis: Redis, streams: Streams, unique: str) -> None:
    await streams.read([unique], count=10)
    await redis.delete(unique)
    await redis.xadd(unique, {"r": RUN})
    assert await streams.read([unique], count=10) == []
    assert [ring.run for ring in await streams.read([unique], count=10)] == [RUN]
    assert streams.groups_missing == 2


async def test_acknowledged_entry_is_deleted_with_the_next_read(redis: Redis, streams: Streams, unique: str) -> None:
    await streams.read([unique], count=10)
    await redis.xadd(unique, {"r": RUN})
    streams.acknowledge(await streams.read([unique], count=10))
    assert await redis.xlen(unique) == 1
    await streams.flush()
    assert await redis.xlen(unique) == 0
    assert (await redis.xpending(unique, "workers"))["pending"] == 0


@pytest.mark.parametrize("fields", [{"x": "1"}, {"r": "not a run"}, {"r": b"\xff\xfe"}, {"r": RUN + "\n"}, {"r": RUN.upper() + "G"}])
async def test_malformed_entry_names_no_run_and_can_be_deleted(redis: Redis, streams: Streams, unique: str, fields: Any) -> None:
    await streams.read([unique], count=10)
    await redis.xadd(unique, fields)
    rings = await streams.read([unique], count=10)
    assert [ring.run for ring in rings] == [None]
    streams.acknowledge(rings)
    await streams.flush()
    assert await redis.xlen(unique) == 0


async def test_entry_read_and_never_acknowledged_is_taken_over(redis_url: str, redis: Redis, streams: Streams, unique: str) -> None:
    other = Streams(redis_url, "w2", block_seconds=0.05)
    await other.read([unique], count=10)
    await redis.xadd(unique, {"r": RUN})
    assert len(await other.read([unique], count=10)) == 1
    await other.close()
    assert await streams.abandoned([unique], idle_seconds=60, count=10) == []
    assert [ring.run for ring in await streams.abandoned([unique], idle_seconds=0, count=10)] == [RUN]


async def test_deleted_pending_entry_is_no_obstacle(redis: Redis, streams: Streams, unique: str) -> None:
    await streams.read([unique], count=10)
    entry = await redis.xadd(unique, {"r": RUN})
    assert len(await streams.read([unique], count=10)) == 1
    await redis.xdel(unique, entry)
    assert await streams.abandoned([unique], idle_seconds=0, count=10) == []


async def test_several_streams_are_read_at_once(redis: Redis, streams: Streams, unique: str) -> None:
    names = [f"{unique}-{n}" for n in range(3)]
    await streams.read(names, count=10)
    for name in names:
        await redis.xadd(name, {"r": RUN})
    assert sorted(ring.stream for ring in await streams.read(names, count=10)) == names


async def test_foreign_type_under_the_name_is_unavailability(redis: Redis, streams: Streams, unique: str) -> None:
    await redis.set(unique, "not a stream")
    with pytest.raises(StreamsUnavailable):
        await streams.read([unique], count=10)


async def test_absent_redis_is_unavailability(unique: str) -> None:
    reader = Streams("redis://127.0.0.1:1", "w1", block_seconds=0.05)
    with pytest.raises(StreamsUnavailable):
        await reader.probe([unique], idle_seconds=1)
    with pytest.raises(StreamsUnavailable):
        await reader.read([unique], count=10)
    await reader.close()


async def test_entry_whose_answer_was_lost_is_read_again(redis: Redis, streams: Streams, redis_url: str, unique: str) -> None:
    """Only by who has read it, and only until it is acknowledged."""
    other = Streams(redis_url, "w2", block_seconds=0.05)
    assert await streams.unanswered([unique]) == []
    await redis.xadd(unique, {"r": RUN})
    rings = await streams.read([unique], count=10)
    assert await other.unanswered([unique]) == []
    assert await streams.unanswered([unique]) == rings
    streams.acknowledge(rings)
    assert await streams.unanswered([unique]) == []
    await other.close()


async def test_deleted_entry_is_no_ring_when_it_is_read_again(redis: Redis, streams: Streams, unique: str) -> None:
    await streams.read([unique], count=10)
    entry = await redis.xadd(unique, {"r": RUN})
    await streams.read([unique], count=10)
    await redis.xdel(unique, entry)
    assert [ring.run for ring in await streams.unanswered([unique])] == [None]
