"""A worker that speaks the protocol and runs no code: the test says what it commits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from support.asgi_client import AsgiClient, Reply

TERMINAL = {"completed": "completed", "failed": "failed_run", "cancelled": "cancelled"}


class FakeWorker:
    """Keeps the epoch and the commit number of each run it claimed."""

    def __init__(self, api: AsgiClient, name: str, *, pool: str = "main", build: str | None = None, concurrency: int = 10) -> None:
        self.api = api
        self.name = name
        self.epochs: dict[str, int] = {}
        self.numbers: dict[str, int] = {}
        self._pool = pool
        self._build = build
        self._concurrency = concurrency

    async def register(self, *versions: tuple[str, str], pod: str | None = None) -> FakeWorker:
        carried = [{"workflow": workflow, "version": version} for workflow, version in versions or [("flow", "1.0")]]
        body = {
            "worker": self.name,
            "pool": self._pool,
            "build": self._build,
            "pod": pod,
            "concurrency": self._concurrency,
            "workflows": carried,
        }
        reply = await self.api.post("/api/v1/worker/register", body)
        assert reply.status == 200, reply.body
        self.registered = reply.json()
        return self

    async def heartbeat(self, *, active: int = 0) -> dict[str, Any]:
        return (await self.api.post("/api/v1/worker/heartbeat", {"worker": self.name, "active": active})).json()

    async def claim(self, *runs: str, **more: Any) -> list[dict[str, Any]]:
        """The runs that it got; without ids, any."""
        reply = await self.api.post("/api/v1/worker/claim", {"worker": self.name, "runs": list(runs) or None, **more})
        assert reply.status == 200, reply.body
        claimed = reply.json()["runs"]
        for run in claimed:
            self.epochs[run["id"]], self.numbers[run["id"]] = run["epoch"], 0
        return claimed

    async def inbox(self, run: str, *, inbox_seen: int) -> dict[str, Any]:
        """What came in for a run after `inbox_seen`."""
        body = {"worker": self.name, "runs": [{"run": run, "epoch": self.epochs[run], "inbox_seen": inbox_seen}]}
        return (await self.api.post("/api/v1/worker/inbox", body)).json()["runs"][0]

    async def start_and_claim(self, value: Any = None, **start: Any) -> str:
        """The id of a run that is now this worker's."""
        reply = await self.api.post("/api/v1/runs", {"workflow": "flow", "input": value, **start})
        assert reply.status == 201, reply.body
        run = reply.json()["id"]
        assert [claimed["id"] for claimed in await self.claim(run)] == [run]
        return run

    def op(self, run: str, *entries: dict[str, Any], **members: Any) -> dict[str, Any]:
        """The next commit of a run."""
        self.numbers[run] = self.numbers.get(run, 0) + 1
        op = {
            "run": run,
            "epoch": self.epochs.get(run, 1),
            "number": self.numbers[run],
            "entries": json.dumps(entries),
            "count": len(entries),
        }
        return op | members

    def finishing(self, run: str, output: Any = None, *, status: str = "completed", **members: Any) -> dict[str, Any]:
        """The commit that ends a run."""
        error = None if status == "completed" else {"type": "E", "message": "m"}
        finish = {"status": status, "output": json.dumps(output) if status == "completed" else None, "error": error}
        return self.op(run, {"k": TERMINAL[status], "at": 1}, finish=finish, **members)

    def parking(self, run: str, *entries: dict[str, Any], waits: Sequence[dict[str, Any]] = (), **park: Any) -> dict[str, Any]:
        """The commit that gives a run back until something happens."""
        return self.op(run, *entries, park={"inbox_seen": 0, "due_at": None, "events": [], "children": False, "waits": list(waits)} | park)

    async def send(self, *ops: dict[str, Any]) -> Reply:
        return await self.api.post("/api/v1/worker/commit", {"worker": self.name, "ops": list(ops)})

    async def commit(self, *ops: dict[str, Any]) -> list[dict[str, Any]]:
        """The answers to these ops."""
        reply = await self.send(*ops)
        assert reply.status == 200, reply.body
        return reply.json()["answers"]

    async def outcome(self, op: dict[str, Any]) -> str:
        """The outcome of one op."""
        return (await self.commit(op))[0]["outcome"]

    async def finish(self, run: str, output: Any = None, **members: Any) -> None:
        assert await self.outcome(self.finishing(run, output, **members)) == "ok"
