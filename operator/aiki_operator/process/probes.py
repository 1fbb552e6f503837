"""HTTP for the kubelet and Prometheus: /livez, /readyz, /metrics.

Alive means that a turn, or while standing by a look at the Lease, ended lately; ready means that the process would act
if it had to: it stands by, or it leads and has listed what is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

SILENT_SECONDS = 60.0


async def serve(port: int, *, last_beat: Callable[[], float], ready: Callable[[], bool]) -> web.AppRunner:
    """Starts the server; the caller cleans it up."""

    async def livez(request: web.Request) -> web.Response:
        silent = time.monotonic() - last_beat()
        return web.Response(status=200 if silent < SILENT_SECONDS else 503, text=f"last turn ended {silent:.1f} s ago\n")

    async def readyz(request: web.Request) -> web.Response:
        return web.Response(status=200 if ready() else 503, text="ready\n" if ready() else "not ready\n")

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, None, port).start()
    return runner
