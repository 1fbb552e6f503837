"""I45 under load: many tenants with equal names everywhere, all routes at once, and nobody is answered with a byte of another's.

What is searched: the head and body of every answer, every entry of every stream, every message between the parts, and at the end
every row of the database. The routes are those of the server's own document, so one that nobody tried here is a breach as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
from pydantic_core import from_json
from redis.asyncio import Redis

from security.row import Row
from security.stage import Stage, stage
from security.tenant import BASE, ID, Crowd, Tenant

TENANTS = 4
NAMESPACE_OF_KEY = re.compile(r"^aiki:(?:\{(?P<stream>[^:}]+):|(?:inbox|done):(?P<channel>[^:]+))")
OWNED: Mapping[str, str] = {
    "runs": "select id, namespace, concat_ws(' ', input, output, error, state, waits) as texts from runs",
    "history": "select r.id, r.namespace, h.entries as texts from history h join runs r on r.id = h.run_id",
    "inbox": "select r.id, r.namespace, concat_ws(' ', i.payload, i.error) as texts from inbox i join runs r on r.id = i.run_id",
}


def measure(home: Path, seconds: float) -> Sequence[Row]:
    """The row of the table."""
    names = [f"team-{secrets.token_hex(6)}" for _ in range(TENANTS)]
    with stage(home, namespaces=names) as on:
        return [asyncio.run(crowded(on, seconds))]


async def crowded(on: Stage, seconds: float) -> Row:
    """Let the tenants of a stage act for so long, and look at everything."""
    marks = {namespace: f"MARK-{secrets.token_hex(9)}" for namespace in on.tokens}
    crowd = Crowd(_routes(on))
    tenants = [_tenant(on, namespace, marks, crowd, seed) for seed, namespace in enumerate(on.tokens)]
    until = asyncio.get_running_loop().time() + seconds
    redis = Redis.from_url(on.stack.valkey.url, decode_responses=True)
    async with redis, _overheard(redis) as told, asyncio.TaskGroup() as group:
        for tenant in tenants:
            group.create_task(tenant.act(until))
        group.create_task(_read_streams(redis, told, until))
    breaches = [breach for tenant in tenants for breach in tenant.breaches]
    breaches += await _of_the_database(on, tenants, marks, told)
    breaches += [f"{method} {path} was never answered to its owner" for method, path in sorted(crowd.missing)]
    answers, size = sum(tenant.answers for tenant in tenants), sum(tenant.bytes for tenant in tenants)
    found = f"{len(breaches)} in {answers:,} answers, {size >> 20:,} MiB, {len(told):,} entries and messages"
    return Row(f"{len(tenants)} namespaces, equal names, all routes, {seconds:.0f} s", "0 foreign bytes", found, breaches)


def _tenant(on: Stage, namespace: str, marks: Mapping[str, str], crowd: Crowd, seed: int) -> Tenant:
    foreign: dict[str, str] = {}
    for other, token in on.tokens.items():
        if other != namespace:
            foreign |= {marks[other]: f"a payload of {other}", token: f"the token of {other}", other: "the name of another namespace"}
    return Tenant(on.url, namespace=namespace, token=on.tokens[namespace], mark=marks[namespace], foreign=foreign, crowd=crowd, seed=seed)


def _routes(on: Stage) -> set[tuple[str, str]]:
    with urllib.request.urlopen(f"{on.url}/openapi.json", timeout=10) as answer:
        document = from_json(answer.read())
    return {(method.upper(), path.removeprefix(BASE)) for path, methods in document["paths"].items() for method in methods}


Told = set[tuple[str, str]]
"""Key or channel, and what it carried."""


@asynccontextmanager
async def _overheard(redis: Redis) -> AsyncIterator[Told]:
    """Everything that is published while the block lasts."""
    told: Told = set()
    subscription = redis.pubsub()
    await subscription.psubscribe("aiki:*")

    async def listen() -> None:
        async for message in subscription.listen():
            if message["type"] == "pmessage":
                told.add((message["channel"], message["data"]))

    listening = asyncio.create_task(listen())
    try:
        yield told
    finally:
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening
        await subscription.aclose()


async def _read_streams(redis: Redis, told: Told, until: float) -> None:
    """What the streams hold, again and again; nobody acknowledges here, so nothing goes before it was read."""
    while asyncio.get_running_loop().time() < until:
        async for key in redis.scan_iter("aiki:{*", _type="stream"):
            entries: Any = await redis.xrevrange(key, count=500)
            told |= {(key, str(fields)) for _, fields in entries}
        await asyncio.sleep(0.2)


async def _of_the_database(on: Stage, tenants: Sequence[Tenant], marks: Mapping[str, str], told: Told) -> list[str]:
    database = await asyncpg.connect(on.stack.postgres.url)
    try:
        rows = {name: await database.fetch(query) for name, query in OWNED.items()}
    finally:
        await database.close()
    owner = {row["id"].hex: row["namespace"] for row in rows["runs"]}
    breaches = [
        f"{tenant.namespace} was told of run {run}, which is of {owner[run]}"
        for tenant in tenants
        for run in tenant.seen & owner.keys()
        if owner[run] != tenant.namespace
    ]
    for name, found in rows.items():
        breaches += [
            f"{name}: run {row['id'].hex} of {row['namespace']} holds what {other} wrote"
            for row in found
            for other, mark in marks.items()
            if other != row["namespace"] and mark in row["texts"]
        ]
    return breaches + _of_redis(told, owner, marks, {tenant.namespace: tenant.named for tenant in tenants})


def _of_redis(told: Told, owner: Mapping[str, str], marks: Mapping[str, str], named: Mapping[str, set[str]]) -> list[str]:
    breaches: list[str] = []
    for key, text in told:
        matched = NAMESPACE_OF_KEY.match(key)
        namespace = (matched["stream"] or matched["channel"]) if matched else None
        breaches += [f"{key} carries a payload" for mark in marks.values() if mark in text]
        ids = {found.decode() for found in ID.findall(text.encode())} - named.get(namespace or "", set())
        breaches += [f"{key} carries run {run} of {owner[run]}" for run in ids & owner.keys() if namespace and owner[run] != namespace]
    return breaches
