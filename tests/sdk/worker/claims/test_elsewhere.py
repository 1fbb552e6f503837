"""A run that blocked its worker is tried again elsewhere first, whether it is rung for or polled for."""

from __future__ import annotations

from collections import defaultdict
from contextvars import ContextVar
from pathlib import Path
from typing import Final

from aiki import Run, workflow
from aiki.client import Client
from aiki.worker import Worker
from aiki.worker.claims.poller import CLAIM_PAUSE_SECONDS, POLL_SECONDS
from support.server import ServerProcess
from support.workers import StartWorker

WHO: Final[ContextVar[str]] = ContextVar("WHO")
MAX_BLOCKING_SECONDS: Final = 0.2


class Slow:
    """A workflow whose code never settles where it is tried first, and ends everywhere else; `tried` has who tried it."""

    def __init__(self, name: str) -> None:
        self.workflow = flow = workflow(name)
        self.tried: defaultdict[str, list[str]] = defaultdict(list)

        @flow.v("1")
        async def code(run: Run) -> str:
            tried = self.tried[run.id]
            tried.append(WHO.get())
            while tried.count(WHO.get()) == len(tried):
                pass
            return WHO.get()

        self.code = code


async def start_two(start_worker: StartWorker, slow: Slow, client: Client) -> list[Worker]:
    workers = []
    for name in ("one", "two"):
        token = WHO.set(name)
        workers.append(await start_worker(slow.workflow, client=client, max_blocking_seconds=MAX_BLOCKING_SECONDS))
        WHO.reset(token)
    return workers


async def all_went_elsewhere(slow: Slow, client: Client) -> None:
    for _ in range(2):
        run = await slow.code.start(client)
        await run.result(timeout=20)
        assert len(slow.tried[run.id]) == 2, slow.tried


async def test_run_that_blocked_its_worker_goes_to_another_one(client: Client, start_worker: StartWorker, unique: str) -> None:
    slow = Slow(unique)
    await start_two(start_worker, slow, client)
    await all_went_elsewhere(slow, client)


async def test_run_that_blocked_its_worker_goes_to_another_one_without_redis(
    own_database: str, start_worker: StartWorker, unique: str, tmp_path: Path
) -> None:
    server = ServerProcess(own_database, None, log=tmp_path / "server.log")
    server.start()
    try:
        async with Client(server.url) as client:
            slow = Slow(unique)
            workers = await start_two(start_worker, slow, client)
            await all_went_elsewhere(slow, client)
            for worker in workers:
                await worker.stop(grace_seconds=0)
    finally:
        server.stop()


async def test_only_worker_tries_it_again_itself(client: Client, start_worker: StartWorker, unique: str) -> None:
    tries: list[str] = []
    alone = workflow(unique)

    @alone.v("1")
    async def code(run: Run) -> int:
        tries.append(run.id)
        while len(tries) < 2:
            pass
        return len(tries)

    await start_worker(alone, max_blocking_seconds=MAX_BLOCKING_SECONDS)
    assert await (await code.start(client)).result(timeout=20) == 2


def test_others_poll_within_the_time_for_which_it_stands_back() -> None:
    assert POLL_SECONDS < CLAIM_PAUSE_SECONDS
