"""The operator's side of the Aiki server's HTTP API: loads, wakes, builds, drains, dead workers.

Answers are read by the wire models, but members that a newer server adds are ignored: operator and server are upgraded
one after the other. Whatever goes wrong is a `ControlError` that says what to look at.
"""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
from pydantic import BaseModel, ValidationError

from aiki.protocol import BuildInfo, PoolLoad, PoolLoads, Wakes
from aiki_operator.reporting.outage import explain
from aiki_operator.reporting.telemetry import SERVER_REQUESTS
from aiki_operator.scaling.autoscale import Demand, LoadRates
from aiki_operator.scaling.load import BuildLoad, Load, PoolWorker, RolloutTrial, UnservedKind
from aiki_operator.spec.pool import Versioning

Model = TypeVar("Model", bound=BaseModel)

TIMEOUT = aiohttp.ClientTimeout(total=5)


class ServerApiError(Exception):
    """The server did not answer as it should; `reason` is one word for conditions."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ServerApi:
    """One Aiki server."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str) -> None:
        self._session = session
        self._root = f"{url}/api/v1"
        self._headers = {"Authorization": f"Bearer {token}"}

    async def loads(self, now: float) -> dict[str, Load]:
        """All pools that the server knows, by name, with instants on the caller's clock, on which it is `now`."""
        answer = await self._read("/pools/load", PoolLoads)
        return {pool.pool: read_load(pool, now) for pool in answer.pools}

    async def wait_for_work(self, seconds: int) -> list[str]:
        """Waits until work arrives at a pool without a free slot; the pools, none at the deadline."""
        timeout = aiohttp.ClientTimeout(total=seconds + 10)
        return (await self._read(f"/pools/wake?timeout={seconds}", Wakes, timeout=timeout)).pools

    async def set_versioning(self, pool: str, versioning: str) -> None:
        """How the pool's builds share its runs."""
        await self._call("PUT", f"/pools/{_quoted(pool)}", body={"versioning": versioning})

    async def promote(self, pool: str, build: str) -> None:
        """The build takes over what it carries."""
        await self._call("POST", f"/pools/{_quoted(pool)}/builds/{_quoted(build)}/promote")

    async def share(self, pool: str, build: str, percent: int) -> None:
        """The build gets so many of a hundred new runs before it takes over."""
        await self._call("PUT", f"/pools/{_quoted(pool)}/builds/{_quoted(build)}/share", body={"percent": percent})

    async def unshare(self, pool: str, build: str) -> None:
        """The build gets no new runs any more."""
        await self._call("DELETE", f"/pools/{_quoted(pool)}/builds/{_quoted(build)}/share")

    async def forget(self, pool: str, build: str) -> bool:
        """Deletes a build at the server; False where open runs need it."""
        status = await self._call("DELETE", f"/pools/{_quoted(pool)}/builds/{_quoted(build)}", accept=(404, 409))
        return status != 409

    async def drain(self, worker: str, drain: bool) -> None:
        """Tells a worker to claim nothing more, or to claim again."""
        await self._call("POST", f"/workers/{_quoted(worker)}/drain", body={"drain": drain}, accept=(404,))

    async def worker_lost(self, worker: str) -> None:
        """The worker is dead: its runs move now."""
        await self._call("POST", f"/workers/{_quoted(worker)}/lost", accept=(404,))

    async def pod_lost(self, pod: str) -> None:
        """All workers of the pod are dead."""
        await self._call("POST", f"/pods/{_quoted(pod)}/lost", accept=(404,))

    async def _read(self, path: str, model: type[Model], *, timeout: aiohttp.ClientTimeout = TIMEOUT) -> Model:
        _, text = await self._exchange("GET", path, None, timeout=timeout)
        try:
            return model.model_validate_json(text, extra="ignore")
        except ValidationError as error:
            raise ServerApiError("ServerIncompatible", f"GET {path}: {error.error_count()} members are not as expected") from error

    async def _call(self, method: str, path: str, *, body: dict[str, Any] | None = None, accept: tuple[int, ...] = ()) -> int:
        status, _ = await self._exchange(method, path, body, timeout=TIMEOUT, accept=accept)
        return status

    async def _exchange(
        self, method: str, path: str, body: dict[str, Any] | None, *, timeout: aiohttp.ClientTimeout, accept: tuple[int, ...] = ()
    ) -> tuple[int, bytes]:
        try:
            async with self._session.request(method, self._root + path, json=body, headers=self._headers, timeout=timeout) as response:
                SERVER_REQUESTS.labels(method, str(response.status)).inc()
                text = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ServerApiError("ServerUnreachable", f"the server does not answer: {explain(error)}") from error
        if response.status >= 400 and response.status not in accept:
            reason = "TokenRefused" if response.status in (401, 403) else "ServerError"
            raise ServerApiError(reason, f"{method} {path}: the server answers {response.status}: {text[:200].decode(errors='replace')}")
        return response.status, text


def read_load(pool: PoolLoad, now: float) -> Load:
    """A reading as the plan takes it, on the caller's clock."""
    shift = now - pool.now.timestamp()
    return Load(
        versioning=Versioning(pool.versioning),
        rates=LoadRates(pool.arrivals_per_second, pool.service_seconds),
        complete=pool.stream_lag is not None,
        lag=pool.stream_lag,
        queued=pool.queued,
        running=pool.running,
        due=tuple(sorted(due.timestamp() + shift for due in pool.due_soon)),
        builds=tuple(_build(build, shift) for build in pool.builds),
        workers=tuple(
            PoolWorker(
                worker.id,
                worker.pod,
                worker.build,
                worker.active,
                worker.draining,
                age=(pool.now - worker.registered_at).total_seconds(),
                heard=(pool.now - worker.heartbeat_at).total_seconds(),
            )
            for worker in pool.workers
        ),
        oldest_queued_at=pool.oldest_queued_at,
        unserved=tuple(
            UnservedKind(one.workflow, one.version, one.build, one.runs, one.oldest_seconds, one.servable) for one in pool.unserved
        ),
        trial=None if pool.trial is None else RolloutTrial(**pool.trial.model_dump()),
        kept=pool.kept,
    )


def _build(build: BuildInfo, shift: float) -> BuildLoad:
    due = () if build.next_due_at is None else (build.next_due_at.timestamp() + shift,)
    demand = Demand(build.queued, build.running, build.busy_workers, due)
    return BuildLoad(build.name, build.promoted, build.open_runs, demand, build.promoted_at.timestamp() if build.promoted_at else 0.0)


def _quoted(name: str) -> str:
    return quote(name, safe="")
