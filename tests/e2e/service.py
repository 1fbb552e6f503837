"""A service that uses Aiki over HTTP: starts runs, waits for results, looks at histories."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

import aiohttp

from e2e.kube import Kube, time_until
from support.waiting import until

Json = dict[str, Any]


class Service:
    """The public API of one AikiServer, by its Service."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str) -> None:
        self._session = session
        self._url = f"{url}/api/v1"
        self._headers = {"Authorization": f"Bearer {token}"}

    async def call(self, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
        """A request; status and answer."""
        async with self._session.request(method, self._url + path, json=body, headers=self._headers) as response:
            return response.status, await response.json(content_type=None) or {}

    def with_token(self, token: str) -> Service:
        """The same server, seen by somebody with another token."""
        return Service(self._session, self._url.removesuffix("/api/v1"), token)

    async def start(self, workflow: str, inputs: list[Any], **more: Any) -> list[str]:
        """Starts runs, in one request; their ids."""
        status, answer = await self.call("POST", "/runs:batch", {"runs": [{"workflow": workflow, "input": one, **more} for one in inputs]})
        assert status == 201, answer
        return [run["id"] for run in answer["runs"]]

    async def run(self, run: str) -> Json:
        """A run."""
        return (await self.call("GET", f"/runs/{run}"))[1]

    async def runs(self, ids: list[str]) -> list[Json]:
        """Runs."""
        return await _gather([self.run(one) for one in ids])

    async def history(self, run: str) -> list[Json]:
        """A run's history."""
        entries: list[Json] = (await self.call("GET", f"/runs/{run}/history"))[1]["entries"]
        return entries

    async def load(self, pool: str) -> Json:
        """What the autoscaler sees; empty where the server does not know the pool."""
        _, answer = await self.call("GET", "/pools/load")
        return next((one for one in answer["pools"] if one["pool"] == pool), {})

    async def finished(self, ids: list[str], seconds: float) -> list[Json]:
        """Waits until all runs have ended, well; the runs."""
        left = set(ids)
        ended: dict[str, Json] = {}

        async def none_left() -> bool:
            for run in await self.runs(sorted(left)[:50]):
                if run["status"] in ("completed", "failed", "cancelled"):
                    ended[run["id"]] = run
                    left.discard(run["id"])
            return not left

        await time_until(f"{len(ids)} runs have ended", none_left, seconds, every=0.2)
        bad = [run for run in ended.values() if run["status"] != "completed"]
        assert not bad, bad[:3]
        return [ended[one] for one in ids]

    async def interrupted(self, ids: list[str]) -> list[str]:
        """The runs that some worker had to give back or lost, or that failed an attempt."""
        histories = await _gather([self.history(one) for one in ids])
        return [one for one, history in zip(ids, histories, strict=True) if any(_is_interruption(entry) for entry in history)]


def _is_interruption(entry: Json) -> bool:
    return entry["kind"] == "attempt" or (entry["kind"] == "queued" and entry["data"].get("by") in ("lost", "released"))


async def _gather(calls: list[Any]) -> list[Any]:
    limit = asyncio.Semaphore(16)

    async def one(call: Any) -> Any:
        async with limit:
            return await call

    return list(await asyncio.gather(*map(one, calls)))


@asynccontextmanager
async def reach(kube: Kube, server: str = "aiki") -> AsyncIterator[Service]:
    """The server from here: by its Service's address where this machine reaches it, else by a port that kubectl forwards."""
    secret = await kube.get("Secret", f"{server}-worker")
    service = await kube.get("Service", server)
    assert secret is not None
    assert service is not None
    token = base64.b64decode(secret["data"]["AIKI_TOKEN"]).decode()
    url = f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"
    connector = aiohttp.TCPConnector(limit=64)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=70)) as session:
        if await answers(session, url):
            yield Service(session, url, token)
            return
        forward = await asyncio.create_subprocess_exec(
            "kubectl", "--namespace", kube.namespace, "port-forward", f"service/{server}", "18080:http", env=kube.site.env,
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            await time_until("the forwarded port answers", lambda: answers(session, "http://127.0.0.1:18080"), 20)
            yield Service(session, "http://127.0.0.1:18080", token)
        finally:
            forward.terminate()
            await forward.wait()


async def answers(session: aiohttp.ClientSession, url: str) -> bool:
    """Whether a server lives there."""
    try:
        async with session.get(f"{url}/livez", timeout=aiohttp.ClientTimeout(total=2)) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


@dataclass(slots=True)
class Load:
    """Starts at a steady rate, each with a connection's usual fate; what became of them."""

    ids: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    repeats: int = 0

    async def goes_on(self, starts: int) -> None:
        """Wait until so many more starts have been made."""
        before = len(self.ids)
        await until(lambda: len(self.ids) >= before + starts, f"{starts} more starts", seconds=60)


@asynccontextmanager
async def steady(
    service: Service, workflow: str, value: Any, *, per_second: float, patient: bool = False, pool: str | None = None
) -> AsyncIterator[Load]:
    """Starts runs while the block lasts. `patient` repeats a start that failed, with the same key, as a careful service does."""
    load, stop = Load(), asyncio.Event()

    async def start(number: int) -> None:
        body = {"workflow": workflow, "input": value, "pool": pool, "ref": f"steady-{token_hex(4)}-{number}"}
        began = time.monotonic()
        while True:
            try:
                status, answer = await service.call("POST", "/runs", body)
                failure = None if status in (200, 201) else f"{status}: {answer}"
            except (aiohttp.ClientError, TimeoutError) as error:
                failure = repr(error)
            if failure is None:
                load.ids.append(answer["id"])
                break
            load.failures.append(failure)
            if not patient:
                break
            load.repeats += 1
            await asyncio.sleep(0.5)
        load.slowest = max(load.slowest, time.monotonic() - began)

    async def pump(group: asyncio.TaskGroup) -> None:
        number = 0
        while not stop.is_set():
            group.create_task(start(number))
            number += 1
            await asyncio.sleep(1 / per_second)

    async with asyncio.TaskGroup() as group:
        group.create_task(pump(group))
        try:
            yield load
        finally:
            stop.set()
