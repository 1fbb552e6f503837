"""A worker: carries workflows for a pool, and runs their code and tasks in this process."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Final

from aiki.client import Client
from aiki.errors import ServerUnreachable
from aiki.protocol import RegisterRequest, WorkerId
from aiki.worker.link.api import WorkerApi
from aiki.worker.metrics.exposition import Family
from aiki.worker.metrics.process import process_families
from aiki.worker.process.health import health
from aiki.worker.process.session import WorkerSession
from aiki.worker.process.signals import ending_signals
from aiki.worker.registry import Carried, WorkflowRegistry

log = logging.getLogger("aiki.worker")

GRACE_SECONDS: Final = 24.0
"""With what follows it (LEAVING_SECONDS) less than the 30 s after which Kubernetes kills a pod by default."""
MAX_BLOCKING_SECONDS: Final = 2.0
"""How long workflow code may take from one await to the next."""


class Worker:
    """Works on at most `concurrency` runs at a time. `build` and `pod` are for Kubernetes (else AIKI_BUILD, AIKI_POD).

    Workflow code that takes longer than `max_blocking_seconds` from one await to the next is interrupted, and its run paused: all
    runs of the worker wait meanwhile.
    """

    def __init__(
        self,
        client: Client,
        *,
        workflows: Iterable[Carried] = (),
        pool: str = "default",
        build: str | None = None,
        pod: str | None = None,
        concurrency: int = 100,
        max_blocking_seconds: float = MAX_BLOCKING_SECONDS,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}: a worker works on one run at least")
        self.registry: Final = WorkflowRegistry(workflows)
        self.id: Final = WorkerId(_made_id())
        self._numbers: Final = itertools.count(1)
        self._client = client
        self._pool = pool
        self._build = build or os.environ.get("AIKI_BUILD") or None
        self._pod = pod or os.environ.get("AIKI_POD") or None
        self._concurrency = concurrency
        self._max_blocking_seconds = max_blocking_seconds
        self._session: WorkerSession | None = None
        self.unfit = False
        """After `run`: whether it ended by itself, because too many threads hang in tasks; a fresh process should take its place."""
        self.stuck = False
        """After `stop`: whether a `def` task still runs in a thread, which nothing can end but the end of the process."""

    async def start(self) -> None:
        """Register and begin to work, in the background, until `stop`: the program must go on meanwhile, as in `run`.

        ServerUnreachable where no server answers, ApiError where one refuses the worker.
        """
        if self._session is not None:
            raise RuntimeError("the worker has been started already")
        request = self._registration()
        api = WorkerApi(self._client.transport, self.id, numbers=self._numbers)
        sent_at = time.monotonic()
        registered = await api.register(request)
        self._session = WorkerSession(
            transport=self._client.transport,
            api=api,
            request=request,
            registered=registered,
            sent_at=sent_at,
            registry=self.registry,
            max_blocking_seconds=self._max_blocking_seconds,
        )
        self._session.start()
        self.registry.close()
        carried = [f"{version.workflow} {version.version}" for version in request.workflows]
        log.info("worker started", extra={"worker": self.id, "pool": self._pool, "build": self._build, "carries": carried})

    async def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Claim no more, let running tasks end within `grace_seconds`, hand back the rest, and leave."""
        session, self._session = self._session, None
        if session is None:
            return
        self.registry.open()
        log.info("worker stops", extra={"worker": self.id, "runs": len(session.runs), "grace_seconds": grace_seconds})
        try:
            await session.drain(grace_seconds)
        finally:
            self.stuck = await session.close()
        log.info("worker stopped", extra={"worker": self.id})

    async def run(self, grace_seconds: float | None = None) -> None:
        """Start, work until SIGTERM or SIGINT, stop; a second signal ends the grace. Closes the client.

        Without `grace_seconds`: AIKI_GRACE_SECONDS, or 24 s. All has ended five seconds after it, whoever does not answer. Ends by itself where too many
        threads hang in tasks; then `unfit` is true.
        """
        if grace_seconds is None:
            grace_seconds = float(os.environ.get("AIKI_GRACE_SECONDS", GRACE_SECONDS))
        port = os.environ.get("AIKI_HEALTH_PORT")
        with ending_signals() as signals:
            credentials = self._client.transport.credentials
            async with health(
                int(port) if port else None, ready=lambda: self._session is not None, figures=self._figures, token=lambda: credentials.token
            ):
                await self._run(signals, grace_seconds)

    async def _run(self, signals: asyncio.Queue[int], grace_seconds: float) -> None:
        try:
            if await self._started_or_told(signals):
                await self._until_told_or_unfit(signals)
            await self._stop_or_hasten(signals, grace_seconds)
        finally:
            await self.stop(grace_seconds=0)
            await self._client.close()

    async def _started_or_told(self, signals: asyncio.Queue[int]) -> bool:
        """Start, however long it takes until there is a server; False where a signal came first."""
        starting = asyncio.ensure_future(self._start_patiently())
        told = asyncio.ensure_future(signals.get())
        try:
            await asyncio.wait((starting, told), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
            return starting.done() and not told.done()
        finally:
            starting.cancel()
            told.cancel()
            await asyncio.wait((starting, told))

    async def _until_told_or_unfit(self, signals: asyncio.Queue[int]) -> None:
        assert self._session is not None
        told = asyncio.ensure_future(signals.get())
        unfit = asyncio.ensure_future(self._session.unfit.wait())
        try:
            await asyncio.wait((told, unfit), return_when=asyncio.FIRST_COMPLETED)
            self.unfit = unfit.done() and not told.done()
        finally:
            told.cancel()
            unfit.cancel()
            await asyncio.wait((told, unfit))

    async def _start_patiently(self) -> None:
        while True:
            try:
                return await self.start()
            except ServerUnreachable as error:
                log.warning("no server yet", extra={"worker": self.id, "error": error})

    async def _stop_or_hasten(self, signals: asyncio.Queue[int], grace_seconds: float) -> None:
        session = self._session
        stopping = asyncio.ensure_future(self.stop(grace_seconds))
        again = asyncio.ensure_future(signals.get())
        try:
            await asyncio.wait((stopping, again), return_when=asyncio.FIRST_COMPLETED)
            if session is not None:
                session.hasten()
            await stopping
        finally:
            again.cancel()
            await asyncio.wait((again,))

    def _figures(self) -> Iterator[Family]:
        """Those of the process, and while the worker works its own."""
        yield from process_families()
        if self._session is not None:
            yield from self._session.figures.families()

    def _registration(self) -> RegisterRequest:
        workflows = self.registry.versions()
        if not workflows:
            raise ValueError("the worker carries no workflow: Worker(client, workflows=[...]), or worker.registry.add(...)")
        return RegisterRequest(
            worker=self.id,
            pool=self._pool,
            build=self._build,
            pod=self._pod,
            concurrency=self._concurrency,
            workflows=workflows,
            events=self.registry.events(),
        )


def _made_id() -> str:
    """A name that people recognize, and that no other worker has."""
    host = re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname()).strip("-._")[:100] or "worker"
    return f"{host}-{os.getpid()}-{os.urandom(4).hex()}"
