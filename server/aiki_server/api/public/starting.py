"""Starting runs, one or many."""

from __future__ import annotations

import json
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from aiki.protocol import Conflict, StartRequest, Status
from aiki_server.api.context import Context, namespace_of
from aiki_server.api.fairness.heavy import is_heavy, texts_of
from aiki_server.api.http import body
from aiki_server.api.http.errors import ApiError
from aiki_server.api.http.render import json_response
from aiki_server.api.public.start_body import ReadStart, read_start, read_starts
from aiki_server.engine.commit.after_commit import Place as RunPlace
from aiki_server.engine.dispatch.routing import Place
from aiki_server.engine.start.starts import RefTaken, StartAnswer
from aiki_server.engine.workers.registry import Readers
from aiki_server.model.rows import NewRun


class Starting:
    """POST /runs and /runs:batch."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def start_run(self, request: Request) -> Response:
        """Start a run. With a `ref` that is taken by an equal start, answers with that run (200)."""
        namespace, raw = namespace_of(request), await body.read(request)
        asked = (await self._heavy("start", raw, namespace))[0] if is_heavy(raw) else read_start(raw)
        await self._context.quotas.room_for_runs(self._context.engine, namespace, 1)
        run, place = self._new_run(namespace, asked)
        async with self._context.writing.for_bytes(namespace, len(raw)):
            (answer,) = await self._context.engine.starts.batcher.put([run])
        status, text = _started(asked.wanted, answer, place)
        return json_response(text.encode(), status)

    async def start_runs(self, request: Request) -> Response:
        """Start up to 1,000 runs, all or none of them. Refs work as in single starts; the first that is refused refuses the request."""
        namespace, raw = namespace_of(request), await body.read(request)
        asked = await self._heavy("batch", raw, namespace) if is_heavy(raw) else read_starts(raw)
        await self._context.quotas.room_for_runs(self._context.engine, namespace, len(asked))
        made = [self._new_run(namespace, start) for start in asked]
        rejects = [start.wanted.on_conflict == Conflict.REJECT for start in asked]
        async with self._context.quotas.bulk(namespace):
            answers = await self._context.engine.starts.all_or_none([run for run, _ in made], rejects=rejects)
        texts = [_started(start.wanted, answer, place)[1] for start, answer, (_, place) in zip(asked, answers, made, strict=True)]
        return json_response(f'{{"runs":[{",".join(texts)}]}}'.encode(), 201)

    async def _heavy(self, job: str, raw: bytes, namespace: str) -> list[ReadStart]:
        told, found = await self._context.heavy.ask(job, raw, namespace=namespace)
        starts: list[ReadStart] = []
        for one, input_ in zip(told["starts"], texts_of(told["places"], told["sizes"], raw, found), strict=True):
            start_at = None if one["start_at"] is None else datetime.fromisoformat(one["start_at"])
            starts.append(ReadStart(StartRequest.model_validate(one["wanted"]), start_at, input_, one["digest"]))
        return starts

    def _new_run(self, namespace: str, asked: ReadStart) -> tuple[NewRun, Place]:
        wanted, start_at, payload, digest = asked
        run_id = self._context.engine.run_ids.new()
        place = self._context.engine.registry.serving.place(namespace, wanted.workflow, wanted.version, wanted.pool, run=run_id)
        later = start_at is not None and self._context.engine.clock.is_ahead(start_at)
        status = Status.SCHEDULED if later else Status.QUEUED
        run = NewRun(
            run_id,
            namespace,
            wanted.workflow,
            place.version,
            place.pool,
            place.build,
            status,
            wanted.ref,
            digest,
            payload,
            start_at if later else None,
            place.trial,
        )
        return run, place


def _started(wanted: StartRequest, answer: StartAnswer, place: Place) -> tuple[int, str]:
    """The status, and a StartedRun as text: its members are names and need no escapes."""
    if isinstance(answer, RefTaken):
        raise ApiError(409, f"The ref {wanted.ref} belongs to run {answer.run.hex}, which was started with another body.", kind="ref-taken")
    if not answer.created and wanted.on_conflict == Conflict.REJECT:
        raise ApiError(409, f"The ref {wanted.ref} belongs to run {answer.id.hex}.", kind="ref-taken")
    notice = "null" if place.served or not answer.created else json.dumps(notice_of(wanted.workflow, place.version, place.pool))
    created = "true" if answer.created else "false"
    version, pool = _name(answer.version), _name(answer.pool)
    text = f'{{"id":"{answer.id.hex}","created":{created},"status":"{answer.status}","version":{version},"pool":{pool},"notice":{notice}}}'
    return (201 if answer.created else 200), text


def notice_of(workflow: str, version: str | None, pool: str | None) -> str:
    """What is said of a run that nobody can serve yet."""
    named = workflow if version is None else f"{workflow} {version}"
    where = "" if pool is None else f" in pool {pool}"
    return f"No worker has registered {named}{where} yet: the run is kept, and begins when one does."


def unread_notice(place: RunPlace, readers: Readers) -> str | None:
    """What is said of a queued run that no live worker reads."""
    _, pool, workflow, version, build = place
    if readers.live:
        return None
    if build is not None:
        return f"The run stays on build {build} of pool {pool}, which it started on, and no worker of that build is live: it goes on when one is."
    if not readers.builds:
        return notice_of(workflow, version, pool)
    if (serving := next(iter(readers.builds))) != "":
        return f"Build {serving} serves {workflow} {version} in pool {pool}, and no worker of that build is live: the run is kept, and goes on when one is."
    return f"No live worker of pool {pool} carries {workflow} {version}: the run is kept, and goes on when one does."


def _name(name: str | None) -> str:
    return "null" if name is None else f'"{name}"'
