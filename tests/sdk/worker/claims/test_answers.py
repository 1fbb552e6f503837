"""A worker with a server whose answers are bounded: whatever an answer had no room for, the worker takes with a later one."""

from __future__ import annotations

import asyncio

import asyncpg

from aiki import Client, Event, Run, workflow
from aiki.protocol import MAX_ANSWER_BYTES, MAX_PAYLOAD_BYTES
from aiki_server.local.postgres import Postgres
from support.workers import StartWorker

SECONDS = 60.0
LARGE = "x" * (MAX_PAYLOAD_BYTES - 2)
MANY = 2 * MAX_ANSWER_BYTES // MAX_PAYLOAD_BYTES


async def test_runs_with_large_inputs_are_all_carried_out(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @flow.v("1.0")
    async def version(_: Run, text: str) -> int:
        return len(text)

    handles = [await version.start(client, LARGE) for _ in range(MANY)]
    await start_worker(flow)
    assert await asyncio.gather(*(handle.result(SECONDS) for handle in handles)) == [len(LARGE)] * MANY


async def test_a_run_with_more_events_than_an_answer_holds_reads_each_once(
    client: Client, start_worker: StartWorker, unique: str, postgres: Postgres
) -> None:
    flow = workflow(unique)

    @flow.v("1.0")
    async def version(run: Run) -> list[int]:
        return [int((await run.wait(Event("go", str)))[:4]) for _ in range(MANY)]

    handle = await version.start(client)
    for number in range(MANY - 1):
        await handle.send("go", f"{number:04}{LARGE[4:]}")
    await start_worker(flow)
    await handle.send("go", f"{MANY - 1:04}")
    assert await handle.result(SECONDS) == list(range(MANY))
    db = await asyncpg.connect(postgres.url)
    try:
        assert await db.fetchval("select count(*) from inbox where run_id = $1 and not consumed", handle.id) == 0
    finally:
        await db.close()
