"""Postgres is the only truth, and it may crash: what was acknowledged is in its log."""

from __future__ import annotations

import asyncio
import urllib.request

import pytest

from aiki import Client
from faults import checks
from faults.installation import Installation
from support.server import ServerProcess
from support.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(90)]

RUNS = 30


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_postgres_restarted_under_load(installation: Installation, client: Client, unique: str, how: str) -> None:
    """S1 S5 S7 S12-S15 S34 L40: no acknowledgement is lost, by a crash or by a restart; nobody is declared dead meanwhile."""
    installation.worker()
    handles = await checks.started(client, "steps", [20] * RUNS, prefix=unique)
    for part in range(1, 3):

        async def further(goal: int = part * RUNS * 4) -> bool:
            return len(installation.trace()) >= goal

        await until(further, seconds=20)
        # In this thread, not in another: Postgres ends with the thread that started it.
        (installation.postgres.kill if how == "kill" else installation.postgres.stop)()
        installation.postgres.start()
    await checks.everything(installation, handles, checks.each(handles, [f"s{number}" for number in range(20)]))


def refused(server: ServerProcess) -> bool:
    """Whether the server has answered a start with 503."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return any(line.startswith("aiki_http_requests_total") and "/runs" in line and '"5xx"' in line for line in lines)


async def test_starts_while_postgres_is_away_converge(installation: Installation, client: Client, unique: str) -> None:
    """S1 S2 S3: starts that found no database are made once it is there, each once."""
    installation.worker()
    installation.postgres.kill()
    starting = asyncio.ensure_future(checks.started(client, "steps", [2] * 5, prefix=unique))
    await until(lambda: asyncio.to_thread(refused, installation.server), seconds=20)
    installation.postgres.start()
    handles = await starting
    await checks.everything(installation, handles, checks.each(handles, ["s0", "s1"]))
    assert len([run async for run in client.all_runs(workflow="steps") if run.ref in handles]) == 5
