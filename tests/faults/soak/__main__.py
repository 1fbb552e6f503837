"""The soak: random workflows under random faults for some minutes, then the question whether everything that was promised holds.

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
from pathlib import Path
from random import Random

import asyncpg
from redis import Redis

from aiki import Client
from faults.soak.breaker import KINDS, Breaker
from faults.soak.load import Load, insist
from faults.soak.records import Recorded, recorded
from faults.soak.stage import Stage, stage
from faults.soak.verdict import violations

END_SECONDS = 90.0
"""L40: every run ends within this after the last repair; no plan holds more than 40 s of waiting."""
QUIET_SECONDS = 20.0
MOST_ENTRIES = 5
MOST_MB = 400
LOOSE_ENDS = {
    "S29 rows in given_up": "select count(*) from given_up",
    "S29 parents whose children were not told": "select count(*) from runs where closes_children",
    "L40 runs that have not ended": "select count(*) from runs where finished_at is null",
}


def main() -> int:
    """Soak, and report."""
    chosen = _arguments()
    home = Path(tempfile.mkdtemp(prefix="aiki-soak-"))
    home.chmod(0o755)
    found = _soak(home, chosen)
    for violation in found[:50]:
        print("VIOLATION", violation)
    print(f"seed {chosen.seed}: {len(found)} violations" + (f"; everything is in {home}" if found else ""))
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
        load = Load(on.url, random=Random(random.random()), per_second=chosen.rate)
        breaker = Breaker(on, kinds=[kind for kind in chosen.kinds.split(",") if kind in KINDS], random=random)
        load.start()
        breaker.run(chosen.minutes * 60)
        load.close_admission()
        healed_at = time.monotonic()
        ended = load.ended(END_SECONDS)
        print(f"{len(load.errands)} errands, the last ended {time.monotonic() - healed_at:.0f} s after the last repair")
        for part in on.parts:
            part.see_off()
        loose = asyncio.run(_loose_ends(on))
        runs = asyncio.run(recorded(on.postgres.url, home / "trace.jsonl"))
        found = [*load.faults, *loose, *(death for part in on.parts for death in part.deaths), *_errors(on)]
        found += [] if ended else ["L40 errands have not ended"]
        found += violations(load.errands, runs)
        found += asyncio.run(_unreadable(on.url, runs))
        _figures(on, breaker, runs)
    return found


async def _loose_ends(on: Stage) -> list[str]:
    """What should be gone after a moment of quiet."""
    deadline = time.monotonic() + QUIET_SECONDS
    while (found := [*await _left_in_tables(on), *_left_in_streams(on)]) and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
    return found + [f"S41 {part.size()}" for part in on.parts if part.megabytes > MOST_MB]


async def _left_in_tables(on: Stage) -> list[str]:
    database = await asyncpg.connect(on.postgres.url)
    try:
        counts = {what: await database.fetchval(query) for what, query in LOOSE_ENDS.items()}
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
    async with Client(url) as client:
        for run in runs.values():
            left = [(item["seq"], json.loads(item["payload"])) for item in run.inbox if item["kind"] == "event" and not item["consumed"]]
            if left:
                handle = client.handle(run.id)
                page = await insist(handle.history)
                if [(event.seq, event.payload) for event in page.undelivered] != left:
                    found.append(f"S25 undelivered are {left}, readable {page.undelivered}: {run}")
    return found


def _errors(on: Stage) -> list[str]:
    """What servers and workers had not expected. A loop that fails while Postgres is away is expected."""
    lines = [json.loads(line) for part in on.parts for line in part.log.read_text().splitlines() if line.startswith("{")]
    errors = Counter(str(line["event"]) for line in lines if line["level"] in {"error", "critical"})
    return [f"{count} times in the logs: {event}" for event, count in errors.items() if event != "loop failed"]


def _figures(on: Stage, breaker: Breaker, runs: dict[str, Recorded]) -> None:
    statuses = {status: sum(run.status == status for run in runs.values()) for status in ("completed", "cancelled", "failed")}
    print(f"{len(runs)} runs: {statuses}; {sum(len(run.trace) for run in runs.values())} lines of trace")
    print(f"{breaker.counts.total()} faults: {dict(breaker.counts)}")
    print(f"{on.postgres.log.read_text().count('deadlock detected')} deadlocks")
    for part in on.parts:
        print(part.size())


if __name__ == "__main__":
    sys.exit(main())
