"""The server, with a probe in its event loop: `python probed.py FILE` serves, and adds a line to FILE for every time that the loop was held.

Held is counted in processor time of the loop's thread from one turn of the probe to the next, a millisecond later: what a busy machine adds by
giving the processor to others is not the server's doing.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from pathlib import Path

from aiki_server import main

HELD_SECONDS = 0.05
TURN_SECONDS = 0.001


class ProbedLoop(main.ServerLoop):
    """Serves, and watches its own loop."""

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        probe = asyncio.create_task(_probe(Path(sys.argv[1])), name="probe")
        try:
            await super().serve(sockets)
        finally:
            probe.cancel()


async def _probe(told: Path) -> None:
    longest = 0.0
    await asyncio.sleep(1.0)  # the start of a process is nobody's request
    while True:
        before = time.thread_time()
        await asyncio.sleep(TURN_SECONDS)
        held = time.thread_time() - before
        if held > HELD_SECONDS or held > longest:
            longest = max(held, longest)
            with told.open("a") as lines:
                lines.write(f"{held:.4f}\n")


if __name__ == "__main__":
    main.ServerLoop = ProbedLoop  # type: ignore[misc]
    sys.exit(main.main(["serve"]))
