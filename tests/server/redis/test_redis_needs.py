"""What is needed of Redis is tried out, and the documents list it. S16."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from aiki.shared.redis_link import MAX_ANSWER_BYTES, AnswerTooLargeError, connection
from aiki_server.engine.redis.needs import SERVER_COMMANDS, WORKER_COMMANDS, check_commands, trouble_of
from aiki_server.local.valkey import Valkey
from support.fake_worker import FakeWorker
from support.waiting import until

DOCUMENT = Path(__file__).parents[3] / "docs/operate/redis.md"
OLD = frozenset({"PING", "SUBSCRIBE", "PSUBSCRIBE"})
"""PING is of no consequence; a subscription is tried by whoever listens."""


@pytest.fixture
async def own(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Redis]:
    """A Redis of this test's own, which it may spoil."""
    valkey = Valkey(tmp_path_factory.mktemp("own-valkey"))
    valkey.start()
    async with connection(valkey.url, answer_seconds=1.0) as redis:
        yield redis
    valkey.stop()


@pytest.mark.parametrize("command", sorted({*SERVER_COMMANDS, *WORKER_COMMANDS} - OLD))
async def test_each_needed_command_is_tried(own: Redis, command: str) -> None:
    assert await check_commands(own, "aiki:check:x") is None
    await own.execute_command("ACL", "SETUSER", "default", f"-{command.lower().replace(' ', '|')}")
    found = await check_commands(own, "aiki:check:x")
    assert found is not None
    assert found.kind == "forbidden"
    assert command in found.text


async def test_nothing_is_left_behind_by_the_look(own: Redis) -> None:
    await check_commands(own, "aiki:check:x")
    assert await own.dbsize() == 0


def test_a_command_that_redis_does_not_know_is_called_too_old() -> None:
    found = trouble_of(ResponseError("unknown command 'XAUTOCLAIM', with args beginning with: 'x'"), "XAUTOCLAIM")
    assert found.kind == "unknown_command"
    assert "6.2" in found.text
    assert "XAUTOCLAIM" in found.text


@pytest.mark.parametrize(("who", "commands"), [("The server", SERVER_COMMANDS), ("A worker", WORKER_COMMANDS)])
def test_the_documents_list_what_is_needed(who: str, commands: tuple[str, ...]) -> None:
    (line,) = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"{who}:")]
    assert tuple(re.findall(r"`([A-Z ]+)`", line)) == commands


async def test_an_answer_that_is_too_large_ends_the_connection(own: Redis) -> None:
    """Whoever may write to Redis does not fill the memory of whoever reads it. S17, S41."""
    await own.set("huge", b"x" * (MAX_ANSWER_BYTES + 1))
    with pytest.raises(AnswerTooLargeError):
        await own.get("huge")
    await own.set("large", b"x" * (MAX_ANSWER_BYTES // 2))
    for _ in range(3):  # each answer is counted for itself
        assert await own.strlen("large") == len(await own.get("large") or b"") == MAX_ANSWER_BYTES // 2


async def test_workers_are_told_to_poll_while_redis_is_sick(own: Redis, start_server: Any) -> None:
    """At registration and with each heartbeat; healed, they are told to wait at their streams again. L18."""
    path = own.connection_pool.connection_kwargs
    url = f"unix://:{path['password']}@{path['path']}"
    api = await start_server(redis_url=url, worker_redis_url=url)
    worker = await FakeWorker(api, "w1").register()
    assert worker.registered["assignment"]["poll"] is False
    await own.config_set("maxmemory", "1")

    async def told(poll: bool) -> bool:
        return (await worker.heartbeat())["assignment"]["poll"] is poll

    await until(lambda: told(True))
    assert (await worker.register()).registered["assignment"]["poll"] is True
    assert "Redis is full" in (await api.as_(None).get("/readyz")).body.decode()
    await own.config_set("maxmemory", "0")
    await until(lambda: told(False))
    assert (await api.as_(None).get("/readyz")).body == b"ok"


async def test_a_key_of_another_type_is_complained_of_until_it_is_deleted(api: Any, redis: Redis, worker: FakeWorker) -> None:
    """And not until the next run of its kind is started, which may be never."""
    stream = "aiki:{default:main}:flow:1.0"
    await redis.set(stream, "no stream")
    await api.post("/api/v1/runs", {"workflow": "flow"})

    async def complained() -> bool:
        return b"another type" in (await api.as_(None).get("/readyz")).body

    async def calm() -> bool:
        return not await complained()

    await until(complained)
    await redis.delete(stream)
    await until(calm)


async def test_forged_messages_cost_a_bounded_amount(api: Any, redis: Redis) -> None:
    """S17, S41: pools that nobody knows are not marked, nonsense is dropped, and a flood reads the registry a few times only."""
    await FakeWorker(api, "w1").register()
    engine = api.app._drain.__self__.engine
    renewals = 0
    renew = engine.registry.renew

    async def counted() -> None:
        nonlocal renewals
        renewals += 1
        await renew()

    engine.listener._registered = counted
    pipeline = redis.pipeline(transaction=False)
    for number in range(2_000):
        pipeline.publish("aiki:wake", f"ns{number}:pool-{number}")
        pipeline.publish("aiki:registry", "x" * 100)
        pipeline.publish("aiki:done:default", b"\xff,nonsense,")
    pipeline.publish("aiki:wake", "x" * 2_000_000)
    pipeline.publish("aiki:wake", "default:main")
    assert (await pipeline.execute())[-1] >= 1
    assert (await api.get("/api/v1/pools/wake", timeout=20)).json() == {"pools": ["main"]}
    assert set(engine.wakes._marked) <= {"default"}
    assert renewals < 100
