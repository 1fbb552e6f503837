"""The hostile tenant, in a process of its own: one attack, over 32 connections that stay open.

It sends no more requests a second than a namespace may by default, has one processor only, and gives way to everybody else on that, so that what its
neighbour feels is the server. Started as `python -m security.attackers ATTACK URL TOKEN`; each line of its input is a number of seconds for which it
attacks, and each line of its output says with how many requests it was answered then, and how.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import aiohttp

AT_ONCE = 32
REQUESTS_A_SECOND = 400
BIG = "x" * (2 * 1024 * 1024 - 2)
DENSE = json.dumps({"workflow": "flow", "input": [{}] * 300_000}).encode()
ANSWER_SECONDS = 20.0


class Attacker:
    """Sends requests, and counts what they were answered with."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.answers: Counter[int] = Counter()
        self._session = session
        self._url = url

    async def lists(self) -> None:
        """Pages of runs, and of runs that are not there, looked for among all."""
        await self._send("GET", "/api/v1/runs?limit=1000")
        await self._send("GET", f"/api/v1/runs?limit=1000&workflow=nothing-{secrets.token_hex(4)}")

    async def metrics(self) -> None:
        """Figures, again and again."""
        await self._send("GET", "/metrics")

    async def large_events(self) -> None:
        """Events of 2 MiB to runs of its own, more than any may have that nobody has consumed."""
        answer = await self._send("POST", "/api/v1/runs", {"workflow": "flow"})
        for _ in range(8):
            if "id" in answer:
                await self._send("POST", f"/api/v1/runs/{answer['id']}/events", {"name": "go", "payload": BIG})

    async def registrations(self) -> None:
        """Workers that never were, each with many workflows."""
        versions = [{"workflow": f"w{secrets.token_hex(4)}", "version": "1"} for _ in range(50)]
        body = {"worker": secrets.token_hex(6), "pool": "p", "concurrency": 1, "workflows": versions}
        await self._send("POST", "/api/v1/worker/register", body)

    async def unknown_workers(self) -> None:
        """Claims of workers that nobody registered."""
        await self._send("POST", "/api/v1/worker/claim", {"worker": secrets.token_hex(6), "limit": 1000})

    async def unknown_workflows(self) -> None:
        """Runs that nobody will ever serve, a thousand a request."""
        body = {"runs": [{"workflow": f"w{secrets.token_hex(6)}"} for _ in range(1_000)]}
        await self._send("POST", "/api/v1/runs:batch", body)

    async def dense_bodies(self) -> None:
        """Inputs of very many values."""
        await self._send("POST", "/api/v1/runs", DENSE)

    async def schemas(self) -> None:
        """Payloads that are long to check, against schemas that are long to read."""
        event = f"e{secrets.token_hex(1)}"
        named = {"workflow": "checked", "version": "1"}
        schema = json.dumps({"items": {"anyOf": [{"type": "string", "pattern": "^(a+)+$"}] * 90, "$ref": "#"}})
        body = {
            "worker": "checker",
            "pool": "p",
            "concurrency": 1,
            "workflows": [named],
            "events": [{**named, "event": event, "payload_schema": schema}],
        }
        await self._send("POST", "/api/v1/worker/register", body)
        answer = await self._send("POST", "/api/v1/runs", {"workflow": "checked"})
        for payload in ([1] * 20_000, ["a" * 30 + "!"] * 500):
            if "id" in answer:
                await self._send("POST", f"/api/v1/runs/{answer['id']}/events", {"name": event, "payload": payload})

    async def _send(self, method: str, path: str, body: Mapping[str, object] | bytes | None = None) -> dict[str, str]:
        data = json.dumps(body).encode() if isinstance(body, Mapping) else body
        try:
            async with self._session.request(method, self._url + path, data=data) as answer:
                self.answers[answer.status] += 1
                raw = await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            self.answers[0] += 1
            return {}
        if answer.status >= 300 or not raw.startswith(b"{"):
            return {}
        found: dict[str, str] = json.loads(raw)
        return found


ATTACKS = ("lists", "metrics", "large_events", "registrations", "unknown_workers", "unknown_workflows", "dense_bodies", "schemas")


async def attack(name: str, url: str, token: str, seconds: float) -> Counter[int]:
    """One attack, for so long; how often it was answered with which status, 0 for not at all."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=AT_ONCE), timeout=timeout) as session:
        attacker = Attacker(session, url)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(_again_and_again(getattr(attacker, name)) for _ in range(AT_ONCE)))
        return attacker.answers


async def _again_and_again(once: Callable[[], Awaitable[None]]) -> None:
    clock = asyncio.get_running_loop().time
    while True:
        next_at = clock() + AT_ONCE / REQUESTS_A_SECOND
        await once()
        await asyncio.sleep(next_at - clock())


if __name__ == "__main__":
    os.nice(15)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(asyncio.run(attack(sys.argv[1], sys.argv[2], sys.argv[3], float(line)))), flush=True)
