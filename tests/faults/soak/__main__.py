"""The soak: random workflows under random faults for some minutes, then the question whether everything that was promised holds.

Two tenants, a pool whose runs are pinned to builds, a run that ends every worker that takes it, and at last a server that deletes what has ended.
`python -m faults.soak --minutes 5 --seed 1 --break worker,server,redis,postgres,network`. Ends with 1 where something does not hold, and then
leaves its folder behind: logs, trace, and the data of Postgres.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
from redis import Redis

from aiki import ApiError, Client
from faults.soak.breaker import KINDS, Breaker
from faults.soak.load import Load
from faults.soak.patience import insist
from faults.soak.records import Recorded, recorded
from faults.soak.stage import BUILDS, MAIN, PINNED, TENANTS, Stage, stage
from faults.soak.verdict import violations
from support.waiting import until

END_SECONDS = 90.0
"""L40: every run ends within this after the last repair; no plan holds more than 40 s of waiting."""
QUIET_SECONDS = 20.0
MOST_ENTRIES = 5
MOST_MB = 400
LOOSE_ENDS = {
    "S29 rows in child_cancellations": "select count(*) from child_cancellations",
    "S29 parents whose children were not told": "select count(*) from runs where closes_children",
    "L40 runs that have not ended": "select count(*) from runs where finished_at is null and workflow <> 'keeper'",
}
ORPHANS = {
    "S38 chunks of history without a run": "select count(*) from history h where not exists (select from runs where id = h.run_id)",
    "S38 inbox items without a run": "select count(*) from inbox i where not exists (select from runs where id = i.run_id)",
    "S38 runs that ended and were not deleted": "select count(*) from runs where finished_at is not null",
}
LOST_CONNECTIONS = (
    "ConnectionDoesNotExistError",
    "ConnectionResetError",
    "BrokenPipeError",
    "ConnectionRefusedError",
    "AdminShutdownError",
)
"""What asyncpg says, through asyncio, of a Postgres that was killed while it closed a connection to it."""


def main() -> int:
    """Soak, and report."""
    chosen = _arguments()
    home = Path(tempfile.mkdtemp(prefix="aiki-soak-"))
    home.chmod(0o755)
    found = _soak(home, chosen)
    for violation in found[:50]:
        print("VIOLATION", violation)
    if found:
        print(f"failed: {len(found)} violations with seed {chosen.seed}; everything is in {home}")
    else:
        print(f"passed: no violations with seed {chosen.seed}")
    if not found:
        shutil.rmtree(home)
    return 1 if found else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="soak", description="Random workflows under random faults, and whether everything holds afterwards."
    )
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--break", dest="kinds", default=",".join(KINDS), help="what to break, of: %(default)s; none for nothing")
    parser.add_argument("--rate", type=float, default=8, help="runs a second")
    return parser.parse_args()


def _soak(home: Path, chosen: argparse.Namespace) -> list[str]:
    random = Random(chosen.seed)
    with stage(home) as on:
        keepers = asyncio.run(_prepared(on.url))
        loads = [
            Load(on.url, tenant, pools=pools, random=Random(random.random()), per_second=chosen.rate / len(TENANTS))
            for tenant, pools in (("left", (MAIN, MAIN, PINNED)), ("right", (MAIN,)))
        ]
        breaker = Breaker(on, kinds=[kind for kind in chosen.kinds.split(",") if kind in KINDS], random=random)
        for load in loads:
            load.start()
        breaker.run(chosen.minutes * 30)
        asyncio.run(_promoted(on.url, BUILDS[1]))
        breaker.run(chosen.minutes * 30)
        for load in loads:
            load.close_admission()
        healed_at = time.monotonic()
        ended = [load.ended(max(0.0, healed_at + END_SECONDS - time.monotonic())) for load in loads]
        errands = [one for load in loads for one in load.errands]
        print(f"{len(errands)} errands, the last ended {time.monotonic() - healed_at:.0f} s after the last repair")
        for part in on.parts:
            part.see_off()
        loose = asyncio.run(_loose_ends(on))
        runs = asyncio.run(recorded(on.postgres.url, home / "trace.jsonl"))
        found = [fault for load in loads for fault in (*load.faults, *load.poison.faults)]
        found += [*loose, *(death for part in on.parts for death in part.deaths), *_errors(on)]
        found += [] if all(ended) else ["L40 errands have not ended"]
        found += violations(errands, runs)
        found += asyncio.run(_unreadable(on.url, runs))
        _figures(on, breaker, runs)
        found += asyncio.run(_retired(on, keepers))
    return found


async def _prepared(url: str) -> dict[str, str]:
    """Pins a pool, and starts of each tenant a run that nobody ever takes: their ids, by tenant."""
    keepers: dict[str, str] = {}
    for tenant, token in TENANTS.items():
        async with Client(url, token) as client:
            keepers[tenant] = await _kept(client)
    await _promoted(url, BUILDS[0])
    return keepers


async def _kept(client: Client) -> str:
    body = json.dumps({"versioning": "Pinned"}).encode()
    await insist(lambda: client.transport.send("PUT", f"/api/v1/pools/{PINNED}", body=body))
    return (await insist(lambda: client.start("keeper", ref="keeper"))).id


async def _promoted(url: str, build: str) -> None:
    """Lets a build take over, as soon as one of its workers is there."""
    async with Client(url, TENANTS["left"]) as client:

        async def promoted() -> bool:
            try:
                await insist(lambda: client.transport.send("POST", f"/api/v1/pools/{PINNED}/builds/{build}/promote"))
            except ApiError as error:
                if error.status != 404:
                    raise
                return False
            return True

        await until(promoted, seconds=END_SECONDS, every=0.1)


async def _retired(on: Stage, keepers: dict[str, str]) -> list[str]:
    """S38: what has ended goes with all that belongs to it, and nothing else goes."""
    on.retiring.start()
    deadline = time.monotonic() + QUIET_SECONDS
    while (found := await _counted(on, ORPHANS)) and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
    for tenant, keeper in keepers.items():
        async with Client(on.url, TENANTS[tenant]) as client:
            about = await insist(client.handle(keeper).refresh)
            if about.status != "queued":
                found.append(f"S1 S38 the run that nobody took is {about.status}")
    return found


async def _loose_ends(on: Stage) -> list[str]:
    """What should be gone after a moment of quiet."""
    deadline = time.monotonic() + QUIET_SECONDS
    while (found := [*await _counted(on, LOOSE_ENDS), *_left_in_streams(on)]) and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
    return found + [f"S41 {part.size()}" for part in on.parts if part.megabytes > MOST_MB]


async def _counted(on: Stage, queries: Mapping[str, str]) -> list[str]:
    """What these queries find, where it is anything."""
    database = await asyncpg.connect(on.postgres.url)
    try:
        counts = {what: await database.fetchval(query) for what, query in queries.items()}
    finally:
        await database.close()
    return [f"{count} {what}" for what, count in counts.items() if count]


def _left_in_streams(on: Stage) -> list[str]:
    with Redis.from_url(on.valkey.url, decode_responses=True) as redis:
        streams = [str(key) for key in redis.scan_iter("aiki:{*", _type="stream")]
        lengths = {stream: redis.xlen(stream) for stream in streams}
    return [f"S41 {length} entries in {stream}" for stream, length in lengths.items() if length > MOST_ENTRIES]


async def _unreadable(url: str, runs: dict[str, Recorded]) -> list[str]:
    """S25: the events that nobody took can be read."""
    found: list[str] = []
    for tenant, token in TENANTS.items():
        async with Client(url, token) as client:
            for run in (run for run in runs.values() if run.namespace == tenant):
                left = [
                    (item["seq"], json.loads(item["payload"])) for item in run.inbox if item["kind"] == "event" and not item["consumed"]
                ]
                if left:
                    page = await insist(client.handle(run.id).history)
                    if [(event.seq, event.payload) for event in page.undelivered] != left:
                        found.append(f"S25 undelivered are {left}, readable {page.undelivered}: {run}")
    return found


def _errors(on: Stage) -> list[str]:
    """What servers and workers had not expected. A loop that fails while Postgres is away is expected, and so is a connection lost with it."""
    lines = [json.loads(line) for part in on.parts for line in part.log.read_text().splitlines() if line.startswith("{")]
    errors = Counter(str(line["event"]) for line in lines if line["level"] in {"error", "critical"} and not _lost_with_postgres(line))
    return [f"{count} times in the logs: {event}" for event, count in errors.items() if event != "loop failed"]


def _lost_with_postgres(line: dict[str, Any]) -> bool:
    trace = str(line.get("traceback", ""))
    return line["logger"] == "asyncio" and "asyncpg" in trace and any(name in trace for name in LOST_CONNECTIONS)


def _figures(on: Stage, breaker: Breaker, runs: dict[str, Recorded]) -> None:
    statuses = {status: sum(run.status == status for run in runs.values()) for status in ("completed", "cancelled", "failed")}
    print(f"{len(runs)} runs: {statuses}; {sum(len(run.trace) for run in runs.values())} lines of trace")
    print(f"{breaker.counts.total()} faults: {dict(breaker.counts)}")
    print(f"{on.postgres.log.read_text().count('deadlock detected')} deadlocks")
    for part in on.parts:
        print(part.size())


if __name__ == "__main__":
    sys.exit(main())
