"""The good tenant, in a process of its own: it starts a run, and another when that is answered, until its input ends.

Started as `python -m security.good URL TOKEN`. Says for each start when it was asked for (the monotonic clock of the machine), how many milliseconds it
took, and the id of the run; nothing instead of the id where it was not started.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import aiohttp

ANSWER_SECONDS = 30.0


async def starting(url: str, token: str, output: int) -> None:
    """Start runs one after the other, for ever."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS)) as session:
        while True:
            began = time.monotonic()
            run = ""
            try:
                async with session.post(f"{url}/api/v1/runs", data=b'{"workflow":"flow","input":1}') as answer:
                    raw = await answer.read()
                    run = json.loads(raw)["id"] if answer.status == 201 else ""
            except (aiohttp.ClientError, TimeoutError):
                pass  # not started, as is said
            line = f"{began} {1000 * (time.monotonic() - began)} {run}\n"
            os.write(output, line.encode())


async def _until_told() -> None:
    working = asyncio.create_task(starting(sys.argv[1], sys.argv[2], sys.stdout.fileno()))
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait([working, ended], return_when=asyncio.FIRST_COMPLETED)
    working.cancel()


if __name__ == "__main__":
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # attackers have the other end
    asyncio.run(_until_told())
