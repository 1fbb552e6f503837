"""A run that ends every worker that takes it: here a worker that claims it and is reported as lost, again and again.

It speaks the protocol by hand, for a real worker would take its other runs with it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from aiki import ApiError, Client
from aiki.protocol import MAX_DELIVERIES
from faults.soak.patience import insist

WORKER = "poisoner"
POOL = "poison"
WORKFLOW = "poison"


@dataclass(slots=True)
class Poison:
    """What became of it: how often it was granted, and every answer that nobody should get."""

    run: str = ""
    grants: int = 0
    faults: list[str] = field(default_factory=list)

    async def spread(self, client: Client) -> None:
        """Start the run, and take it until it has ended."""
        self.run = (await insist(lambda: client.start(WORKFLOW, None, version="1.0", pool=POOL, ref="poison"))).id
        while (about := await insist(client.handle(self.run).refresh)).finished_at is None:
            await self._take(client)
            if self.grants > MAX_DELIVERIES:
                self.faults.append(f"S9 S33 {self.run} was delivered {self.grants} times without progress")
                return
        if about.status != "failed" or about.error is None or about.error.type != "poisoned":
            self.faults.append(f"S33 {self.run} killed its workers, and ended as {about.status}: {about.error}")

    async def _take(self, client: Client) -> None:
        carried = [{"workflow": WORKFLOW, "version": "1.0"}]
        await self._post(client, "worker/register", {"worker": WORKER, "pool": POOL, "concurrency": 1, "workflows": carried})
        answer = await self._post(client, "worker/claim", {"worker": WORKER, "runs": [self.run]})
        self.grants += len(answer.get("runs", ()))
        await self._post(client, f"workers/{WORKER}/lost", None)

    async def _post(self, client: Client, path: str, value: Any) -> dict[str, Any]:
        """The answer; nothing where the worker was lost before (404, 409). What was answered into the void may have been carried out."""
        body = None if value is None else json.dumps(value).encode()
        try:
            reply = await insist(lambda: client.transport.send("POST", f"/api/v1/{path}", body=body))
        except ApiError as error:
            if error.status not in {404, 409}:
                raise
            return {}
        found: dict[str, Any] = json.loads(reply.body) if reply.body else {}
        return found
