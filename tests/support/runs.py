"""What tests ask a server about a run, and about its own work."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from redis.asyncio import Redis

from support.asgi_client import AsgiClient


async def run_of(api: AsgiClient, run: str) -> dict[str, Any]:
    """The run, as the API shows it."""
    found: dict[str, Any] = (await api.get(f"/api/v1/runs/{run}")).json()
    return found


async def status(api: AsgiClient, run: str) -> str:
    """The state of a run."""
    return str((await run_of(api, run))["status"])


async def has_status(api: AsgiClient, run: str, expected: str) -> bool:
    """Whether a run is in that state."""
    return await status(api, run) == expected


async def kinds(api: AsgiClient, run: str) -> list[str]:
    """The kinds of the entries of its history."""
    return [entry["kind"] for entry in (await api.get(f"/api/v1/runs/{run}/history")).json()["entries"]]


def child_of(run: str) -> str:
    """An id that a worker could give to a child of this run: it shares the part that says which namespace and when."""
    return run[:14] + uuid4().hex[:18]


async def rung(redis: Redis, stream: str, run: str) -> bool:
    """Whether the stream has an entry with the run."""
    entries: Any = await redis.xrange(stream)
    return run.encode() in [fields[b"r"] for _, fields in entries]


async def fast_commits(api: AsgiClient) -> float:
    """How many operations the server has committed over rows that it remembered."""
    lines = (await api.get("/metrics")).body.decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith("aiki_fast_commits_total"))
