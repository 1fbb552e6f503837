"""Redis is there and fails at what is asked of it. S16, L18: the work goes on through Postgres, and the server says why; healed, it goes on as before."""

from __future__ import annotations

import os
import signal
import time
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from aiki import Client
from aiki.client import Start
from faults import checks
from faults.installation import Installation
from support.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

RUNS = 30
STREAM = "aiki:{default:default}:steps:1.0"
Change = Callable[[Redis, Installation], Awaitable[object]]


@dataclass(frozen=True)
class Sickness:
    """How Redis gets ill and well again, and what the server calls it."""

    kind: str
    begin: Change
    end: Change


async def _frozen(_: Redis, installation: Installation) -> None:
    assert installation.valkey.pid is not None
    os.kill(installation.valkey.pid, signal.SIGSTOP)


async def _thawed(_: Redis, installation: Installation) -> None:
    assert installation.valkey.pid is not None
    os.kill(installation.valkey.pid, signal.SIGCONT)


async def _spoiled(redis: Redis, _: Installation) -> None:
    await redis.delete(STREAM)
    await redis.set(STREAM, "not a stream")


def _acl(*rules: str) -> Change:
    return lambda redis, _: redis.execute_command("ACL", "SETUSER", "default", *rules)


SICKNESSES = {
    "full": Sickness("full", lambda r, _: r.config_set("maxmemory", "1"), lambda r, _: r.config_set("maxmemory", "0")),
    "read-only": Sickness(
        "read_only",
        lambda r, _: r.execute_command("REPLICAOF", "127.0.0.1", "9"),
        lambda r, _: r.execute_command("REPLICAOF", "NO", "ONE"),
    ),
    "no XADD": Sickness("forbidden", _acl("-xadd"), _acl("+@all")),
    "no XREADGROUP": Sickness("forbidden", _acl("-xreadgroup"), _acl("+@all")),
    "no SUBSCRIBE": Sickness("not_listening_forbidden", _acl("-psubscribe", "-subscribe"), _acl("+@all")),
    "another type": Sickness("wrong_type", _spoiled, lambda r, _: r.delete(STREAM)),
    "silent": Sickness("silent", _frozen, _thawed),
}


def _said(installation: Installation, path: str) -> str:
    with urllib.request.urlopen(f"{installation.server.url}{path}", timeout=5) as answer:
        assert answer.status == 200
        text: bytes = answer.read()
    return text.decode()


@pytest.mark.parametrize("name", SICKNESSES)
async def test_work_goes_on_and_the_reason_is_said(installation: Installation, client: Client, unique: str, name: str) -> None:
    sickness = SICKNESSES[name]
    installation.worker()
    warm = await checks.started(client, "steps", [2] * 5, prefix=f"{unique}-warm")
    await checks.everything(installation, warm, checks.each(warm, ["s0", "s1"]))
    async with Redis.from_url(installation.valkey.url) as redis:
        await sickness.begin(redis, installation)
        try:
            if name == "no SUBSCRIBE":
                await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            sick = await checks.started(client, "steps", [2] * RUNS, prefix=f"{unique}-sick")
            await checks.everything(installation, sick, checks.each(sick, ["s0", "s1"]))

            async def reason_is_said() -> bool:
                return f'aiki_redis_trouble{{kind="{sickness.kind}"}} 1.0' in _said(installation, "/metrics")

            await until(reason_is_said)
            assert "Postgres" in _said(installation, "/readyz") or name == "another type"
        finally:
            await sickness.end(redis, installation)

        async def well() -> bool:
            return "aiki_redis_up 1.0" in _said(installation, "/metrics") and not await redis.exists("none")

        await until(well)
    back = await checks.started(client, "steps", [2] * RUNS, prefix=f"{unique}-back")
    await checks.everything(installation, back, checks.each(back, ["s0", "s1"]))
    assert len({entry.key for entry in installation.trace()}) == len(installation.trace())


@pytest.mark.parametrize("name", ["full", "silent"])
async def test_a_sick_redis_leaves_a_fifth_of_the_rate(installation: Installation, client: Client, unique: str, name: str) -> None:
    """L18, over runs that are queued already, from the moment in which Redis falls ill."""
    rates: list[float] = []
    async with Redis.from_url(installation.valkey.url) as redis:
        try:
            for part in ("well", "sick"):
                if part == "sick":
                    await SICKNESSES[name].begin(redis, installation)
                refs = {f"{unique}-{part}-{number}" for number in range(400)}
                began = time.monotonic()
                await client.start_many([Start("steps", 1, ref=ref) for ref in sorted(refs)])
                worker = installation.worker()

                async def all_ended(refs: set[str] = refs) -> bool:
                    ended = [run async for run in client.all_runs(status="completed", workflow="steps") if run.ref in refs]
                    return len(ended) == len(refs)

                await until(all_ended, seconds=60)
                rates.append(len(refs) / (time.monotonic() - began))
                worker.stop()
        finally:
            await SICKNESSES[name].end(redis, installation)
    print(f"runs/s with Redis {rates[0]:.0f}, with one that is {name} {rates[1]:.0f}")
    assert rates[1] >= rates[0] / 5
