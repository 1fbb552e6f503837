"""Long answers made in slices, so that nobody waits for all of one: others have their turn at the loop between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
ENTRIES_A_SLICE = 1_000
"""Some five milliseconds."""


async def sliced(items: Iterable[Item], *, weighs: Callable[[Item], int]) -> AsyncIterator[Item]:
    """The items; others have their turn whenever those since then weigh a slice. `weighs` says how many entries an item has."""
    entries = 0
    for item in items:
        yield item
        entries += weighs(item)
        if entries >= ENTRIES_A_SLICE:
            entries = 0
            await asyncio.sleep(0)
