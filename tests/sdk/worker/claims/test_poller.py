"""Rings that are on their way while a worker is interrupted reach it with its next read. L18."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from aiki import Client, Run, workflow
from aiki.worker import Worker
from aiki.worker.claims import poller
from aiki.worker.link.redis_streams import Ring
from support.waiting import until
from support.workers import SECONDS, StartWorker


def _session(worker: Worker) -> Any:
    assert worker._session is not None
    return worker._session


@pytest.mark.parametrize("how", ["interrupted", "stood back"])
async def test_ring_that_came_as_a_read_was_interrupted_is_heard(
    client: Client, start_worker: StartWorker, unique: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(poller, "ABANDONED_SECONDS", 3600.0)
    monkeypatch.setattr(poller, "CLAIM_PAUSE_SECONDS", 0.05)
    flow = workflow(unique)

    @flow.v("1.0")
    async def version(run: Run, number: int) -> int:
        return number

    worker = await start_worker(flow, pool=unique)
    streams = _session(worker)._poller._streams
    read, lost = streams.read, list[Ring]()

    async def read_and_lose(names: Sequence[str], *, count: int) -> list[Ring]:
        rings: list[Ring] = await read(names, count=count)
        if rings and not lost:
            lost.extend(rings)
            await asyncio.Event().wait()  # until it is interrupted
        return rings

    monkeypatch.setattr(streams, "read", read_and_lose)
    _session(worker)._poller.interrupt()  # a read that is under way is none of these
    run = await version.start(client, 1, pool=unique)

    async def one_is_lost() -> bool:
        return bool(lost)

    await until(one_is_lost)
    if how == "interrupted":
        _session(worker)._poller.interrupt()
    else:
        _session(worker)._poller.pause_claims(lambda: None)
    assert await run.result(SECONDS) == 1
    assert [ring.run for ring in lost] == [run.id]
