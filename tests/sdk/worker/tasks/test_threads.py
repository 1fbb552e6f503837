"""The threads of `def` tasks: what waits for one, what happens to those that are lost, and when the worker gives up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from aiki import Client, Retry, Run, RunFailed, task, workflow
from aiki.protocol import Status
from aiki.worker import Worker
from aiki.worker.process import session as session_module
from aiki.worker.tasks.threads import NotBegun, Threads
from support.server import ServerProcess
from support.waiting import until
from support.workers import SECONDS, StartWorker


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What hangs goes on when it is set, at the end of the test at the latest."""
    event = threading.Event()
    yield event
    event.set()


@asynccontextmanager
async def threads(places: int, spare: int, changed: Callable[[], None] = lambda: None) -> AsyncIterator[Threads]:
    made = Threads(places, spare=spare, on_change=changed)
    yield made
    made.close()


async def call(made: Threads, function: Callable[[], object]) -> object:
    await made.place()
    return await made.run("t", function)


async def lose(made: Threads, release: threading.Event, meanwhile: Callable[[], object] = lambda: None) -> None:
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang() -> None:
        loop.call_soon_threadsafe(began.set)
        release.wait()

    hanging = asyncio.ensure_future(call(made, hang))
    await asyncio.wait_for(began.wait(), SECONDS)
    meanwhile()
    await asyncio.sleep(0)
    hanging.cancel()
    await asyncio.wait((hanging,))


async def test_lost_thread_is_replaced_and_counted(release: threading.Event) -> None:
    async with threads(1, spare=2) as made:
        for lost in (1, 2):
            await lose(made, release)
            assert (made.lost(), made.exhausted) == ({"t": lost}, False)
            assert await asyncio.wait_for(call(made, lambda: 7), SECONDS) == 7


async def test_beyond_the_bound_nobody_waits_until_threads_come_back(release: threading.Event) -> None:
    changes: list[bool] = []
    async with threads(2, spare=1, changed=lambda: changes.append(made.exhausted)) as made:
        await lose(made, release)
        busy = asyncio.ensure_future(call(made, release.wait))
        await lose(made, release)
        assert changes == [True]
        with pytest.raises(NotBegun):
            await asyncio.wait_for(call(made, lambda: 7), SECONDS)
        release.set()
        await asyncio.wait_for(busy, SECONDS)

        async def back() -> bool:
            return not made.busy

        await until(back)
        assert changes == [True, False]
        both = threading.Barrier(2, timeout=SECONDS)
        await asyncio.wait_for(asyncio.gather(call(made, both.wait), call(made, both.wait)), SECONDS)


async def test_whoever_waits_for_a_thread_is_told_that_there_is_none_to_come(release: threading.Event) -> None:
    async with threads(2, spare=0) as made:
        busy = asyncio.ensure_future(call(made, release.wait))
        waiting: list[asyncio.Future[object]] = []
        await lose(made, release, lambda: waiting.append(asyncio.ensure_future(call(made, lambda: 7))))
        with pytest.raises(NotBegun):
            await asyncio.wait_for(waiting[0], SECONDS)
        release.set()
        await busy


async def test_place_that_comes_with_a_cancellation_goes_to_the_next() -> None:
    async with threads(1, spare=0) as made:
        await made.place()
        first, second = asyncio.ensure_future(made.place()), asyncio.ensure_future(made.place())
        await asyncio.sleep(0)
        made._release()
        first.cancel()
        await asyncio.wait((first,))
        await asyncio.wait_for(second, SECONDS)


async def test_wait_for_a_thread_is_inside_the_timeout(
    client: Client, start_worker: StartWorker, unique: str, release: threading.Event
) -> None:
    flow = workflow(unique)

    @task
    def busy() -> None:
        release.wait()

    @task(timeout=0.2, retry=Retry.never())
    def late() -> None: ...

    @flow.v("1.0")
    async def version(run: Run) -> None:
        holding = busy.start(run)
        try:
            await late.start(run)
        finally:
            holding.cancel()

    await start_worker(flow, concurrency=1)
    with pytest.raises(RunFailed, match=r"waited 0\.2 s, which is its timeout, for a thread"):
        await (await version.start(client)).result(SECONDS)


async def test_hung_tasks_leave_threads_for_others(
    client: Client, start_worker: StartWorker, unique: str, release: threading.Event
) -> None:
    flow = workflow(unique)

    @task(timeout=0.1, retry=Retry.fixed(max_attempts=3, delay=0.01))
    def hang() -> None:
        release.wait()

    @task
    def fine() -> int:
        return 7

    @flow.v("1.0")
    async def version(run: Run, hangs: bool) -> int:
        if hangs:
            await hang.start(run)
        return await fine.start(run)

    await start_worker(flow, concurrency=2)
    for _ in range(3):
        with pytest.raises(RunFailed, match="TaskTimeout"):
            await (await version.start(client, True)).result(SECONDS)
    assert await (await version.start(client, False)).result(SECONDS) == 7


async def test_async_task_that_swallows_its_timeout_is_over_nevertheless(
    client: Client, start_worker: StartWorker, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiki.worker.tasks.runner.CANCEL_SECONDS", 0.1)
    flow = workflow(unique)
    end = asyncio.Event()

    @task(timeout=0.1, retry=Retry.never())
    async def stubborn() -> None:
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue

    @flow.v("1.0")
    async def version(run: Run) -> None:
        await stubborn.start(run)

    await start_worker(flow)
    with pytest.raises(RunFailed, match="TaskTimeout"):
        await (await version.start(client)).result(SECONDS)
    end.set()


@pytest.fixture
def few_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    """One lost thread is replaced, a second is not."""
    monkeypatch.setattr(session_module, "Threads", lambda places, *, on_change: Threads(places, on_change=on_change, spare=1))


class Hanging:
    """Runs that lose a thread each, and runs that need one."""

    def __init__(self, name: str, release: threading.Event) -> None:
        self.flow = workflow(name)

        @task(timeout=0.1, retry=Retry.never())
        def hang() -> None:
            release.wait()

        @task
        def fine() -> int:
            return 7

        @self.flow.v("1.0")
        async def version(run: Run, hangs: bool) -> int:
            if hangs:
                await hang.start(run)
            return await fine.start(run)

        self.version = version

    async def lose(self, client: Client, count: int) -> None:
        for _ in range(count):
            with pytest.raises(RunFailed):
                await (await self.version.start(client, True)).result(SECONDS)


@pytest.mark.usefixtures("few_spare")
async def test_worker_without_threads_hands_back_and_goes_on_when_they_return(
    client: Client, start_worker: StartWorker, unique: str, release: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    hanging = Hanging(unique, release)
    worker = await start_worker(hanging.flow, concurrency=2)
    await hanging.lose(client, 2)
    handle = await hanging.version.start(client, False)
    assert worker._session is not None
    assert worker._session.unfit.is_set()
    (said,) = [vars(record)["threads_lost"] for record in caplog.records if "gives its runs back" in record.message]
    assert said == {"hang": 2}

    async def queued() -> bool:
        return (await handle.refresh()).status is Status.QUEUED

    await until(queued)
    release.set()
    assert await handle.result(SECONDS) == 7


@pytest.mark.usefixtures("few_spare")
async def test_worker_process_without_threads_ends_so_that_a_fresh_one_takes_its_place(
    client: Client, server: ServerProcess, unique: str, release: threading.Event
) -> None:
    hanging = Hanging(unique, release)
    worker = Worker(Client(server.url), workflows=[hanging.flow], concurrency=2)
    running: Awaitable[None] = asyncio.ensure_future(worker.run(grace_seconds=1))
    await hanging.lose(client, 2)
    await asyncio.wait_for(running, SECONDS)
    assert (worker.unfit, worker.stuck) == (True, True)
