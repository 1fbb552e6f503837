"""Reading runs: one, many, how it ended, what it did."""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager
from itertools import accumulate
from typing import Annotated

from asyncpg import Record
from fastapi import Path, Query
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from aiki.protocol import MAX_COUNT, NAME_PATTERN, RUN_ID_PATTERN, TERMINAL, Status
from aiki_server.api.context import Context, namespace_of, run_id
from aiki_server.api.fairness.heavy import is_heavy
from aiki_server.api.http.errors import not_found
from aiki_server.api.http.render import json_response, result, run_info, spliced, summary
from aiki_server.api.public.history import Lines, lines
from aiki_server.api.public.starting import unread_notice
from aiki_server.model.instants import micros
from aiki_server.model.keys import RunKey
from aiki_server.model.listings import Filter, StoredChunk, Undelivered

RunPath = Annotated[str, Path(pattern=RUN_ID_PATTERN)]
NameQuery = Annotated[str | None, Query(pattern=NAME_PATTERN)]
IdQuery = Annotated[str | None, Query(pattern=RUN_ID_PATTERN)]

LONGEST_SECONDS = 60
"""How long a result can be waited for in one request."""
_TIMEOUT = re.compile(rb"(?:timeout=(\d{1,4}(?:\.\d{1,9})?))?")

ENOUGH_BYTES = 4 * 1024 * 1024
"""No further chunk of a history, and no further event, goes into an answer that has as many."""


class Reading:
    """GET below /runs."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def get_run(self, request: Request, run: RunPath) -> Response:
        """Everything about a run."""
        async with self._listing(request):
            found = await self._context.engine.looks.run(RunKey(namespace_of(request), run_id(run)))
        return self._info(found)

    async def get_run_by_ref(self, request: Request, ref: Annotated[str, Path(pattern=NAME_PATTERN)]) -> Response:
        """Everything about the run that has this ref."""
        async with self._listing(request):
            found = await self._context.engine.looks.run_of_ref(namespace_of(request), ref)
        return self._info(found)

    async def list_runs(
        self,
        request: Request,
        *,
        status: Annotated[list[Status] | None, Query()] = None,
        workflow: NameQuery = None,
        version: NameQuery = None,
        pool: NameQuery = None,
        ref: NameQuery = None,
        parent: IdQuery = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: IdQuery = None,
    ) -> Response:
        """A page of runs, newest first. Repeat `status` for several; `next` of a page is the `cursor` of the following one.

        A page that is narrowed looks at 5,000 runs of each status, or children: it may have fewer than `limit`, or none, and a `next`.
        """
        async with self._listing(request):
            found = await self._context.engine.looks.page(
                namespace_of(request),
                statuses=[str(wanted) for wanted in dict.fromkeys(status or Status)],
                before=None if cursor is None else run_id(cursor),
                parent=None if parent is None else run_id(parent),
                wanted=Filter(workflow, version, pool, ref),
                limit=limit,
            )
        following = None if found.following is None else found.following.hex
        return json_response(to_json({"runs": [summary(run) for run in found.runs], "next": following}))

    async def get_result(
        self, request: Request, run: RunPath, timeout: Annotated[float, Query(ge=0, le=LONGEST_SECONDS)] = 30.0
    ) -> Response:
        """How the run ended: 200 as soon as it has, 202 at the deadline."""
        return await self._result(request, run, seconds=timeout)

    async def get_result_of_usual_form(self, request: Request, run: str) -> Response | None:
        """The same, where the query says no more than how long to wait; None otherwise."""
        asked = _TIMEOUT.fullmatch(request.scope["query_string"])
        seconds = float(asked[1] or 30) if asked is not None else -1.0
        return await self._result(request, run, seconds=seconds) if 0 <= seconds <= LONGEST_SECONDS else None

    async def _result(self, request: Request, run: str, *, seconds: float) -> Response:
        end = await self._context.engine.results.wait(RunKey(namespace_of(request), run_id(run)), seconds=seconds)
        if end is None:
            raise not_found("run")
        return json_response(result(end), 200 if end.status in TERMINAL else 202)

    async def get_history(
        self,
        request: Request,
        run: RunPath,
        after: Annotated[int, Query(ge=0, le=MAX_COUNT)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
    ) -> Response:
        """What the run did, from entry `after` + 1 on, and the events that no code has consumed."""
        until = min(after + limit, MAX_COUNT)

        async with self._listing(request):
            found = await self._context.engine.looks.history(
                RunKey(namespace_of(request), run_id(run)), after=after, until=until, size=ENOUGH_BYTES
            )
        if found is None:
            raise not_found("run")
        record, chunks, open_events = found
        entries = [text for chunk in chunks for text in await self._lines(chunk, after, until, namespace_of(request))]
        following = after + len(entries) if record["history_len"] > after + len(entries) and entries else None
        body = b'{"entries":[%b],"undelivered":[%b],"next":%b}'
        return json_response(body % (b",".join(entries), b",".join(map(_undelivered, open_events)), to_json(following)))

    def _listing(self, request: Request) -> AbstractAsyncContextManager[None]:
        return self._context.quotas.listing(namespace_of(request))

    async def _lines(self, chunk: StoredChunk, after: int, until: int, namespace: str) -> list[bytes]:
        asked = Lines(chunk.seq, after, until, chunk.epoch, chunk.worker, micros(chunk.at))
        if not is_heavy(chunk.entries):
            return lines(asked, chunk.entries)
        told, found = await self._context.heavy.ask("history", chunk.entries.encode(), namespace=namespace, chunk=asked._asdict())
        ends = list(accumulate(told["sizes"]))
        return [found[end - size : end] for end, size in zip(ends, told["sizes"], strict=True)]

    def _info(self, record: Record | None) -> Response:
        if record is None:
            raise not_found("run")
        place = (record["namespace"], record["pool"], record["workflow"], record["version"], record["build"])
        waiting = record["status"] == Status.QUEUED
        notice = unread_notice(place, self._context.engine.registry.readers(place)) if waiting else None
        return json_response(run_info(record, notice=notice))


def _undelivered(event: Undelivered) -> bytes:
    return spliced({"seq": event.seq, "name": event.name, "received_at": event.at}, {"payload": event.payload})
