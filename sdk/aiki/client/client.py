"""The client of a service: starts runs, finds them, and gives handles to talk to them.

Every start carries a `ref`: the caller's, or one made here, so that a start whose answer was lost can be sent again and still makes one run (S3).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, Self, TypeVar, overload
from urllib.parse import quote

from aiki.client.body import batches, made_id, read, with_payload
from aiki.client.handle import RunHandle
from aiki.client.transport import Transport
from aiki.definitions.workflow import OnConflict, VersionDefinition, WorkflowDefinition
from aiki.protocol import DEFAULT_URL, RunInfo, RunList, RunSummary, StartedBatch, StartedRun, Status
from aiki.values.codec import ANY, Codec

O = TypeVar("O")  # noqa: E741  the output of a workflow


@dataclass(frozen=True, slots=True)
class Start(Generic[O]):
    """One run of a `start_many`; the fields are the arguments of `Client.start`."""

    workflow: VersionDefinition[Any, O] | WorkflowDefinition | str
    input: Any = None
    version: str | None = None
    ref: str | None = None
    on_conflict: OnConflict = "existing"
    pool: str | None = None
    start_at: datetime | None = None


class Client:
    """A server, by its URL (else AIKI_URL) and token (else AIKI_TOKEN). `async with` it, or `close` it at the end."""

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        self.transport: Final = Transport(url or os.environ.get("AIKI_URL") or DEFAULT_URL, token or os.environ.get("AIKI_TOKEN"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self.transport.close()

    @overload
    async def start(
        self,
        workflow: VersionDefinition[Any, O],
        input: Any = None,
        *,
        ref: str | None = None,
        on_conflict: OnConflict = "existing",
        pool: str | None = None,
        start_at: datetime | None = None,
    ) -> RunHandle[O]: ...
    @overload
    async def start(
        self,
        workflow: WorkflowDefinition | str,
        input: Any = None,
        *,
        version: str | None = None,
        ref: str | None = None,
        on_conflict: OnConflict = "existing",
        pool: str | None = None,
        start_at: datetime | None = None,
    ) -> RunHandle[Any]: ...
    async def start(
        self,
        workflow: VersionDefinition[Any, Any] | WorkflowDefinition | str,
        input: Any = None,
        *,
        version: str | None = None,
        ref: str | None = None,
        on_conflict: OnConflict = "existing",
        pool: str | None = None,
        start_at: datetime | None = None,
    ) -> RunHandle[Any]:
        """Start a run. `ref` names it for good: a start with a `ref` that exists answers with that run, or raises with `on_conflict="reject"`.

        Without `version` the highest registered one runs; without `pool` the pool that carries it.
        """
        start = Start(workflow, input, version, ref, on_conflict, pool, start_at)
        reply = await self.transport.send("POST", "/api/v1/runs", body=_request(start))
        return self._started(start, read(StartedRun, reply.body))

    async def start_many(self, starts: Sequence[Start[O]]) -> list[RunHandle[O]]:
        """Start many runs, in as few requests as the limits allow; the handles are in the order of `starts`.

        Not all or nothing: where a request is refused, those before it have started runs.
        """
        handles: list[RunHandle[O]] = []
        for batch in batches([_request(start) for start in starts]):
            reply = await self.transport.send("POST", "/api/v1/runs:batch", body=b'{"runs":[' + b",".join(batch) + b"]}")
            answers = read(StartedBatch, reply.body).runs
            handles += [self._started(start, answer) for start, answer in zip(starts[len(handles) :], answers, strict=False)]
        return handles

    @overload
    def handle(self, run_id: str) -> RunHandle[Any]: ...
    @overload
    def handle(self, run_id: str, workflow: VersionDefinition[Any, O]) -> RunHandle[O]: ...
    def handle(self, run_id: str, workflow: VersionDefinition[Any, Any] | None = None) -> RunHandle[Any]:
        """The handle of a run that is known by its id; `workflow` says how its result reads."""
        return RunHandle(self.transport, run_id, _output(workflow))

    async def by_ref(self, ref: str, workflow: VersionDefinition[Any, Any] | None = None) -> RunHandle[Any]:
        """The handle of the run that was started with this `ref`."""
        reply = await self.transport.send("GET", f"/api/v1/runs/by-ref/{quote(ref, safe='')}")
        return RunHandle(self.transport, read(RunInfo, reply.body).id, _output(workflow))

    async def runs(
        self,
        *,
        status: Status | str | Collection[Status | str] | None = None,
        workflow: str | None = None,
        version: str | None = None,
        pool: str | None = None,
        ref: str | None = None,
        parent: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> RunList:
        """One page of runs, newest first; its `next` is the `cursor` of the following one. `status` is one state, or several.

        A page that filters narrow looks at some thousand runs at most. So it may have fewer than `limit`, or none, while `next` is set:
        go on until it is None, or let `all_runs` do that.
        """
        statuses = [status] if isinstance(status, str) else list(status or ())
        given = {
            "workflow": workflow,
            "version": version,
            "pool": pool,
            "ref": ref,
            "parent": parent,
            "limit": limit,
            "cursor": cursor,
        }
        params = [("status", str(one)) for one in statuses]
        params += [(name, str(value)) for name, value in given.items() if value is not None]
        reply = await self.transport.send("GET", "/api/v1/runs", params=params)
        return read(RunList, reply.body)

    async def all_runs(self, **filters: Any) -> AsyncIterator[RunSummary]:
        """Every run that the filters of `runs` let through, newest first, page after page."""
        cursor: str | None = None
        while True:
            page = await self.runs(**filters, cursor=cursor)
            for run in page.runs:
                yield run
            cursor = page.next
            if cursor is None:
                return

    async def ready(self) -> bool:
        """Whether the server says that it is ready. Raises ServerUnreachable where nobody answers."""
        return (await self.transport.send("GET", "/readyz", patience_seconds=0)).status == 200

    def _started(self, start: Start[O], answer: StartedRun) -> RunHandle[O]:
        return RunHandle(self.transport, answer.id, _output(start.workflow), created=answer.created, notice=answer.notice)


def _request(start: Start[Any]) -> bytes:
    """A StartRequest, without what is not given."""
    definition = start.workflow
    request: dict[str, Any] = {"workflow": definition, "ref": start.ref or made_id(), "on_conflict": start.on_conflict}
    version = start.version
    codec: Codec[Any] = ANY
    given = start.input
    if isinstance(definition, VersionDefinition):
        request["workflow"], version, codec = definition.workflow, definition.version, definition.input
        given = definition.given(given)
    elif isinstance(definition, WorkflowDefinition):
        request["workflow"] = definition.name
    if version is not None:
        request["version"] = version
    if start.pool is not None:
        request["pool"] = start.pool
    if start.start_at is not None:
        if start.start_at.tzinfo is None:
            raise ValueError(f"start_at={start.start_at!r}: an instant needs a time zone")
        request["start_at"] = start.start_at.isoformat()
    return with_payload(request, "input", codec.encode(given))


def _output(workflow: object) -> Codec[Any]:
    return workflow.output if isinstance(workflow, VersionDefinition) else ANY
