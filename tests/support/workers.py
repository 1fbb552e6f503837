"""A worker in this process and a client, both speaking to the real server over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from aiki.client import Client, RunHandle
from aiki.protocol import ErrorInfo, Status
from aiki.worker import Worker
from support.server import ServerProcess

SECONDS = 10.0

StartWorker = Callable[..., Awaitable[Worker]]


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[Client]:
    """A client of the shared server."""
    async with Client(server.url) as client:
        yield client


@pytest.fixture
async def start_worker(client: Client) -> AsyncIterator[StartWorker]:
    """Starts workers, and stops those that the test did not."""
    workers: list[Worker] = []

    async def start(*workflows: Any, **options: Any) -> Worker:
        worker = Worker(options.pop("client", client), workflows=workflows, **options)
        workers.append(worker)
        await worker.start()
        return worker

    yield start
    for worker in workers:
        await worker.stop(grace_seconds=0)


async def error_of_paused(handle: RunHandle[Any]) -> ErrorInfo | None:
    """With what a run has stopped, once it has."""
    info = await handle.refresh()
    return info.error if info.status is Status.PAUSED else None


async def has_status(handle: RunHandle[Any], status: Status) -> bool:
    """Whether a run is in that state."""
    return (await handle.refresh()).status is status
