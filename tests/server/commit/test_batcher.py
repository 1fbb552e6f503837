"""Group commit: who shares a batch, and who bears an error."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from aiki_server.engine.runtime import batcher
from aiki_server.engine.runtime.batcher import Batcher, OverloadedError
from aiki_server.engine.runtime.loop import Loop
from support.waiting import until


@asynccontextmanager
async def running(apply, **options):
    made = Batcher("things", apply, **options)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_what_arrives_meanwhile_shares_the_next_batch():
    gate, batches = asyncio.Event(), []

    async def apply(items):
        batches.append(items)
        await gate.wait()
        return [item * 2 for item in items]

    async with running(apply) as made:
        first = made.put([1])
        await until(lambda: batches)
        others = [made.put([2, 3]), made.put([4])]
        gate.set()
        assert [await answer for answer in (first, *others)] == [[2], [4, 6], [8]]
    assert batches == [[1], [2, 3, 4]]


async def test_one_bad_item_fails_its_own_request_only():
    async def apply(items):
        if "bad" in items:
            raise ValueError("bad")
        return items

    async with running(apply) as made:
        answers = await asyncio.gather(made.put(["a"]), made.put(["bad"]), made.put(["b"]), return_exceptions=True)
    assert answers[0] == ["a"]
    assert isinstance(answers[1], ValueError)
    assert answers[2] == ["b"]


async def test_batches_are_bounded_but_a_request_is_never_split():
    sizes = []

    async def apply(items):
        sizes.append(len(items))
        return items

    async with running(apply, limit=5) as made:
        await asyncio.gather(*[made.put([0] * 3) for _ in range(3)], made.put([0] * 20))
    assert sizes == [3, 3, 3, 20]


async def test_whoever_went_away_is_left_out():
    seen = []

    async def apply(items):
        seen.extend(items)
        return items

    async with running(apply) as made:
        made.put(["gone"]).cancel()
        await made.put(["here"])
    assert seen == ["here"]


async def test_what_is_queued_at_the_end_is_told_so():
    async with running(lambda _: asyncio.Event().wait()) as made:
        first = made.put([1])
        await asyncio.sleep(0)
        second = made.put([2])
    for answer in (first, second):
        with pytest.raises(asyncio.CancelledError):
            await answer


async def test_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(batcher, "MAX_QUEUED", 2)

    async def never(_: list[int]) -> list[int]:
        await asyncio.Event().wait()
        return []

    made = Batcher("things", never)
    made.put([1, 2])
    with pytest.raises(OverloadedError):
        made.put([3])


async def test_a_loop_survives_its_errors(caplog):
    turns = []

    async def turn():
        turns.append(1)
        if len(turns) < 3:
            raise RuntimeError("twice")
        await asyncio.Event().wait()

    loop = Loop("x", turn, patience=5)
    task = asyncio.create_task(loop.run())
    await until(lambda: len(turns) == 3)
    assert (loop.errors, loop.healthy) == (2, True)
    assert "loop failed" in caplog.text
    task.cancel()
    await asyncio.wait([task])


async def test_what_cannot_be_repeated_fails_as_a_whole():
    batches = []

    async def apply(items):
        batches.append(items)
        raise ValueError("midway")

    async with running(apply, repeatable=False) as made:
        answers = await asyncio.gather(made.put(["a"]), made.put(["b"]), return_exceptions=True)
    assert batches == [["a", "b"]]
    assert all(isinstance(answer, ValueError) for answer in answers)
