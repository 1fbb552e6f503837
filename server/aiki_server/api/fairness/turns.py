"""Turns at something of which there is one: one holder at a time, and the namespaces one after the other.

However many a namespace has waiting, another one waits for at most one of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

LARGE_BYTES = 1024 * 1024
"""What is written in turns: sending it to Postgres holds the loop for a millisecond and more, and several in one transaction for that much more."""
_AT_ONCE = nullcontext()


class Turns:
    """Made by whoever owns what there is one of."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._of_namespace: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def taken(self, namespace: str) -> AsyncIterator[None]:
        """The turn of a namespace, for the length of the block."""
        async with self._of_namespace.setdefault(namespace, asyncio.Lock()), self._turn:
            yield

    def for_bytes(self, namespace: str, size: int) -> AbstractAsyncContextManager[None]:
        """The turn of a namespace at writing so many bytes; what is not large waits for nobody."""
        return self.taken(namespace) if size > LARGE_BYTES else _AT_ONCE
