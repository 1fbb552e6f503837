"""Long answers hold nobody up: others run between their slices, and nothing is left out."""

from __future__ import annotations

import asyncio

from aiki_server.api.http.slices import ENTRIES_A_SLICE, sliced


async def test_others_run_after_each_slice() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    items = range(3 * ENTRIES_A_SLICE)
    assert [item async for item in sliced(items, weighs=lambda _: 1)] == list(items)
    assert turns == 3
    turns = 0
    assert [item async for item in sliced([1, 2], weighs=lambda _: ENTRIES_A_SLICE)] == [1, 2]
    assert turns == 2
    beside.cancel()
