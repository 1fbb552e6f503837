"""How a worker leaves, is told to rest, loses its lease and comes back; and how it lives without Redis. On a server with a short lease."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiki import Client, Run, RunHandle, task, task_context, workflow
from aiki.protocol import Status
from aiki.worker import Worker
from aiki.worker.process.session import LEAVING_SECONDS
from aiki.worker.process.worker import GRACE_SECONDS
from aiki_server.local.postgres import Postgres
from aiki_server.local.valkey import Valkey
from support.server import ServerProcess, running_server
from support.waiting import until
from support.workers import SECONDS


@pytest.fixture(scope="module")
def server(postgres: Postgres, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """In place of the shared one: its leases last three seconds."""
    with running_server(postgres.url, valkey.url, folder=tmp_path_factory.mktemp("short"), settings={"AIKI_LEASE_SECONDS": "3"}) as process:
        yield process


@pytest.fixture
async def plain_client(own_database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A client of a server that has no Redis."""
    with running_server(own_database, None, folder=tmp_path_factory.mktemp("plain")) as process:
        async with Client(process.url) as client:
            yield client


class Gate:
    """A workflow with one task that waits until it is let go; counts how often it began and was cancelled."""

    def __init__(self, name: str) -> None:
        self.began: list[str] = []
        self.cancelled = 0
        self.open = asyncio.Event()
        self.flow = workflow(name)

        @task
        async def hold() -> str:
            self.began.append(task_context().key)
            try:
                await self.open.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            return "held"

        @task
        async def after() -> int:
            return task_context().attempt

        @self.flow.v("1.0")
        async def version(run: Run) -> list[Any]:
            return [await hold.start(run), await after.start(run)]

        self.version = version

    async def running(self, count: int = 1) -> None:
        """Wait until so many began."""

        async def enough() -> bool:
            return len(self.began) >= count

        await until(enough)


async def _at_work(client: Client, gate: Gate) -> tuple[Worker, RunHandle[Any]]:
    """A worker that is in the middle of the task of a run, and the run."""
    worker = Worker(client, workflows=[gate.flow])
    await worker.start()
    handle = await gate.version.start(client)
    await gate.running()
    return worker, handle


async def _status(handle: RunHandle[Any]) -> Status:
    return (await handle.refresh()).status


async def test_stop_lets_running_tasks_end_and_starts_none(client: Client, unique: str) -> None:
    gate = Gate(unique)
    worker, handle = await _at_work(client, gate)
    stopping = asyncio.ensure_future(worker.stop(grace_seconds=SECONDS))
    gate.open.set()
    await stopping
    kinds = [(entry.kind, entry.data.get("by")) for entry in (await handle.history()).entries]
    assert kinds == [("began", None), ("call", None), ("done", None), ("call", None), ("queued", "released")]
    async with _working(client, gate):
        assert await handle.result(SECONDS) == ["held", 1]
    assert len(gate.began) == 1


async def test_stop_hands_back_what_outlives_the_grace_without_costing_an_attempt(client: Client, unique: str) -> None:
    gate = Gate(unique)
    worker, handle = await _at_work(client, gate)
    await worker.stop(grace_seconds=0.05)
    assert gate.cancelled == 1
    assert await _status(handle) is Status.QUEUED
    gate.open.set()
    async with _working(client, gate):
        assert await handle.result(SECONDS) == ["held", 1]
    assert not [entry for entry in (await handle.history()).entries if entry.kind == "attempt"]


async def test_worker_that_stops_does_not_get_back_what_it_releases(
    plain_client: Client, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S36: a claim for any run is under way when the worker is told to stop; what it releases meanwhile is queued."""
    gate = Gate(unique)
    worker, handle = await _at_work(plain_client, gate)
    session = worker._session
    assert session is not None
    under_way, go_on, claim = asyncio.Event(), asyncio.Event(), session._api.claim

    async def slowly(*arguments: Any, **options: Any) -> Any:
        under_way.set()
        await go_on.wait()
        return await claim(*arguments, **options)

    monkeypatch.setattr(session._api, "claim", slowly)
    await asyncio.wait_for(under_way.wait(), SECONDS)
    stopping = asyncio.ensure_future(worker.stop(grace_seconds=SECONDS))
    gate.open.set()

    async def done() -> bool:
        return "done" in [entry.kind for entry in (await handle.history()).entries]

    await until(done)
    go_on.set()
    await stopping
    kinds = [(entry.kind, entry.data.get("by")) for entry in (await handle.history()).entries]
    assert kinds.count(("queued", "released")) == 1
    assert {entry.epoch for entry in (await handle.history()).entries if entry.worker} == {1}


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
async def test_stop_ends_soon_after_its_grace_though_the_server_is_away(
    own_database: str, valkey: Valkey, tmp_path: Path, unique: str, how: signal.Signals
) -> None:
    """Kubernetes kills a pod 30 s after its SIGTERM, and with the defaults the worker has to have ended by then."""
    assert GRACE_SECONDS + LEAVING_SECONDS < 30
    server = ServerProcess(own_database, valkey.url, log=tmp_path / "server.log")
    server.start()
    gate = Gate(unique)
    async with Client(server.url) as client:
        worker = Worker(client, workflows=[gate.flow])
        await worker.start()
        await gate.version.start(client)
        await gate.running()
        assert server.pid is not None
        pid = server.pid
        os.kill(pid, how)
        gate.open.set()
        await asyncio.wait_for(worker.stop(grace_seconds=1), 1 + LEAVING_SECONDS + 5)
    if how is signal.SIGSTOP:
        os.kill(pid, signal.SIGCONT)
    server.stop()


async def test_idle_worker_does_not_wait_for_a_claim_that_nobody_answers(
    plain_client: Client, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to wait for, whatever the grace is."""
    worker = Worker(plain_client, workflows=[Gate(unique).flow])
    await worker.start()
    session = worker._session
    assert session is not None
    under_way = asyncio.Event()

    async def unanswered(*arguments: Any, **options: Any) -> Any:
        under_way.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(session._api, "claim", unanswered)
    await asyncio.wait_for(under_way.wait(), SECONDS)
    await asyncio.wait_for(worker.stop(grace_seconds=600), 60)


async def test_stop_waits_for_no_task_whose_result_nobody_can_take(own_database: str, valkey: Valkey, tmp_path: Path, unique: str) -> None:
    """A namespace that is deleted takes the server with it: its workers end soon, whatever their grace is."""
    server = ServerProcess(own_database, valkey.url, log=tmp_path / "server.log", settings={"AIKI_LEASE_SECONDS": "3"})
    server.start()
    gate = Gate(unique)
    async with Client(server.url) as client:
        worker = Worker(client, workflows=[gate.flow])
        await worker.start()
        await gate.version.start(client)
        await gate.running()
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await asyncio.wait_for(worker.stop(grace_seconds=600), 60)
    assert gate.cancelled == 1
    server.stop()


def test_program_that_ends_with_its_worker_at_work_says_so(server: ServerProcess, unique: str) -> None:
    program = f"""
import asyncio
from aiki import Client, Run, workflow
from aiki.worker import Worker
from aiki.worker.process.session import LEAVING_SECONDS
from aiki.worker.process.worker import GRACE_SECONDS
flow = workflow({unique!r})
@flow.v("1.0")
async def version(run: Run) -> None: ...
asyncio.run(Worker(Client({server.url!r}), workflows=[flow]).start())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "the program ends while its worker works: `await worker.run()`" in ended.stderr


@pytest.mark.parametrize("how", ["attempt", "stray"])
def test_process_ends_though_a_task_swallows_its_cancellation(server: ServerProcess, unique: str, how: str) -> None:
    """What stops is the process, not only the worker in it: else a pod stays until it is killed."""
    program = f"""
import asyncio, os, signal
from aiki import Client, Run, task, workflow
from aiki.worker import Worker
from aiki.worker.process.process import run
flow = workflow({unique!r})
kept = []
async def go_on() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass
@task
async def stubborn() -> None:
    if {how!r} == "attempt":
        await go_on()
    kept.append(asyncio.create_task(go_on()))
@flow.v("1.0")
async def version(run: Run) -> None:
    await stubborn.start(run)
def make() -> Worker:
    client = Client({server.url!r})
    kept.append(asyncio.ensure_future(version.start(client)))
    return Worker(client, workflows=[flow])
run(make, grace_seconds=1)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "a task swallows its cancellation: the process ends without it" in ended.stderr


async def test_workflow_that_is_added_after_the_start_is_refused(client: Client, unique: str) -> None:
    gate, late = Gate(unique), Gate(f"{unique}-late")
    worker = Worker(client, workflows=[gate.flow])
    await worker.start()
    with pytest.raises(RuntimeError, match="added to a worker that has started"):
        worker.registry.add(late.flow)
    await worker.stop()
    worker.registry.add(late.flow)
    late.open.set()
    await worker.start()
    assert await (await late.version.start(client)).result(SECONDS) == ["held", 1]
    await worker.stop()


async def test_stopped_worker_is_gone_at_once_and_may_be_started_again(client: Client, unique: str) -> None:
    gate = Gate(unique)
    gate.open.set()
    worker = Worker(client, workflows=[gate.flow])
    for _ in range(2):
        await worker.start()
        assert await (await gate.version.start(client)).result(SECONDS) == ["held", 1]
        await worker.stop()
        await worker.stop()
    listed = await client.transport.send("GET", "/api/v1/workers")
    assert worker.id.encode() not in listed.body


async def test_draining_worker_claims_nothing_and_ends_what_it_has(client: Client, unique: str) -> None:
    gate = Gate(unique)
    async with _working(client, gate, pool=unique) as worker:
        first = await gate.version.start(client)
        await gate.running()
        await _drain(client, worker, on=True)
        second = await gate.version.start(client)
        gate.open.set()
        assert await first.result(SECONDS) == ["held", 1]
        assert await _status(second) is Status.QUEUED
        await _drain(client, worker, on=False)
        assert await second.result(SECONDS) == ["held", 1]


async def test_worker_that_was_declared_lost_drops_its_runs_and_comes_back(client: Client, unique: str) -> None:
    gate = Gate(unique)
    async with _working(client, gate) as worker:
        handle = await gate.version.start(client)
        await gate.running()
        await client.transport.send("POST", f"/api/v1/workers/{worker.id}/lost")
        await gate.running(2)
        assert gate.cancelled == 1
        gate.open.set()
        assert await handle.result(SECONDS) == ["held", 1]
    epochs = {entry.epoch for entry in (await handle.history()).entries if entry.worker}
    assert len(epochs) == 1, "what the first activation had to say was refused"


async def test_run_goes_on_on_a_worker_without_redis(plain_client: Client, unique: str) -> None:
    gate = Gate(unique)
    gate.open.set()
    async with _working(plain_client, gate):
        handles = [await gate.version.start(plain_client) for _ in range(5)]
        assert [await handle.result(SECONDS) for handle in handles] == [["held", 1]] * 5


@pytest.mark.parametrize("redis", [True, False])
async def test_workers_of_one_pool_may_carry_different_workflows(client: Client, plain_client: Client, unique: str, redis: bool) -> None:
    one, other = Gate(f"{unique}-one"), Gate(f"{unique}-other")
    one.open.set()
    other.open.set()
    chosen = client if redis else plain_client
    async with _working(chosen, one), _working(chosen, other):
        handles = [await gate.version.start(chosen) for _ in range(5) for gate in (one, other)]
        assert [await handle.result(SECONDS) for handle in handles] == [["held", 1]] * 10
    for handle in handles:
        assert "queued" not in [entry.kind for entry in (await handle.history()).entries]


async def test_run_ends_with_the_signal(client: Client, server: ServerProcess, unique: str) -> None:
    gate = Gate(unique)
    gate.open.set()
    running = asyncio.ensure_future(Worker(Client(server.url), workflows=[gate.flow]).run(grace_seconds=1))
    assert await (await gate.version.start(client)).result(SECONDS) == ["held", 1]
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, SECONDS)


async def test_second_signal_ends_the_grace(client: Client, server: ServerProcess, unique: str) -> None:
    gate = Gate(unique)
    running = asyncio.ensure_future(Worker(Client(server.url), workflows=[gate.flow]).run(grace_seconds=600))
    handle = await gate.version.start(client)
    await gate.running()
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.wait_for(running, SECONDS)
    assert await _status(handle) is Status.QUEUED


async def test_worker_waits_for_a_server_until_the_signal(unique: str) -> None:
    gate = Gate(unique)
    tried = asyncio.Event()

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        tried.set()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as nobody:
        port = nobody.sockets[0].getsockname()[1]
        running = asyncio.ensure_future(Worker(Client(f"http://127.0.0.1:{port}"), workflows=[gate.flow]).run())
        await asyncio.wait_for(tried.wait(), SECONDS)
        assert not running.done()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, SECONDS)


def _working(client: Client, gate: Gate, **options: Any) -> Any:
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def working() -> AsyncIterator[Worker]:
        worker = Worker(client, workflows=[gate.flow], **options)
        await worker.start()
        try:
            yield worker
        finally:
            await worker.stop(grace_seconds=0)

    return working()


async def _drain(client: Client, worker: Worker, *, on: bool) -> None:
    body = b'{"drain":true}' if on else b'{"drain":false}'
    await client.transport.send("POST", f"/api/v1/workers/{worker.id}/drain", body=body)
    session = worker._session
    assert session is not None

    async def told() -> bool:
        return session._poller._assignment.drain is on

    await until(told)
