"""Answers to a worker that are late, or lost, lose and repeat nothing."""

from __future__ import annotations

import asyncio
import json

from aiki import (
    Client,
    Event,
    Run,
    ServerUnreachable,
    task,
    workflow,
)
from aiki.client.transport import Reply
from support.link import Ask, Link
from support.waiting import until
from support.workers import SECONDS, StartWorker


def granted_any(reply: Reply) -> bool:
    """Whether the answer to a claim grants a run."""
    return bool(json.loads(reply.body)["runs"])


async def test_lost_answer_to_a_claim_loses_no_run_whose_park_is_not_answered_yet(
    client: Client, link: Link, start_worker: StartWorker, unique: str
) -> None:
    flow, go = workflow(unique), Event("go", int)
    parked, lost, asked_again = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @flow.v("1.0")
    async def version(run: Run) -> int:
        return await run.wait(go)

    async def late(_: bytes, ask: Ask) -> Reply:
        answer = await ask()
        parked.set()
        await asked_again.wait()
        return answer

    async def losing_one(_: bytes, ask: Ask) -> Reply:
        claimed = await ask()
        if lost.is_set():
            asked_again.set()
        elif parked.is_set() and granted_any(claimed):
            lost.set()
            raise ServerUnreachable("the answer was lost")
        return claimed

    link.on("commit", late)
    link.on("claim", losing_one)
    await start_worker(flow)
    handle = await version.start(client)
    await parked.wait()
    await handle.send(go, 3)
    assert await handle.result(SECONDS) == 3


async def test_answer_to_a_claim_from_before_the_worker_registered_again_starts_nothing(
    client: Client, link: Link, start_worker: StartWorker, unique: str
) -> None:
    """S5 S6: what it grants was given to others when the lease lapsed."""
    flow = workflow(unique)
    granted, arrives = asyncio.Event(), asyncio.Event()
    started: list[int] = []

    @task
    async def step() -> None:
        started.append(1)

    @flow.v("1.0")
    async def version(run: Run) -> None:
        await step.start(run)

    async def late(_: bytes, ask: Ask) -> Reply:
        claimed = await ask()
        if granted_any(claimed) and not granted.is_set():
            granted.set()
            await arrives.wait()
        return claimed

    link.on("claim", late)
    slow = await start_worker(flow)
    handle = await version.start(client)
    await granted.wait()
    link.exchanges.clear()
    await client.transport.send("POST", f"/api/v1/workers/{slow.id}/lost")
    await until(lambda: link.heard("register"), "the worker to hear with a heartbeat that nobody knows it")
    other = await start_worker(flow)
    await handle.result(SECONDS)
    await other.stop()
    arrives.set()
    await (await version.start(client)).result(SECONDS)
    assert len(started) == 2


async def test_run_that_a_lost_claim_is_granted_late_is_found(client: Client, link: Link, start_worker: StartWorker, unique: str) -> None:
    """L22: the request lay in a frozen server, say, and is carried out after the claim that asked what the lost one had granted."""
    flow = workflow(unique)
    lost, late = asyncio.Event(), asyncio.Event()

    @flow.v("1.0")
    async def version(run: Run) -> int:
        return 1

    async def claimed(body: bytes, ask: Ask) -> Reply:
        names_runs = bool(json.loads(body).get("runs"))
        if names_runs and not lost.is_set():
            lost.set()
            raise ServerUnreachable("the request lies somewhere")
        if names_runs and late.is_set():
            late.clear()
            await ask()
        return await ask()

    link.on("claim", claimed)
    await start_worker(flow)
    first = await version.start(client)
    assert await first.result(SECONDS) == 1
    late.set()
    second = await version.start(client)
    assert await second.result(SECONDS) == 1
