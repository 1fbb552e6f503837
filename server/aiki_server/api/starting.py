"""Starting runs, one or many."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from aiki.protocol import MAX_BATCH, Conflict, StartRequest
from aiki_server.api import body
from aiki_server.api.context import Context, namespace_of
from aiki_server.api.errors import ApiError
from aiki_server.api.render import json_response
from aiki_server.api.strict_json import InvalidJsonError, Member, read_array, read_members, read_object, read_value, text_of
from aiki_server.engine.serving import Place
from aiki_server.engine.starts import RefTaken, StartAnswer
from aiki_server.store.rows import NewRun

_BATCH = {"runs": read_array(lambda text, index: read_members(text, index) if text[index : index + 1] == "{" else read_value(text, index))}


class Starting:
    """POST /runs and /runs:batch."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def start_run(self, request: Request) -> Response:
        """Start a run. With a `ref` that is taken by an equal start, answers with that run (200)."""
        found = body.members(await body.read(request))
        wanted = body.validated(StartRequest, found, payload="input")
        run, place = self._new_run(namespace_of(request), wanted, found)
        (answer,) = await self._context.engine.starts.batcher.put([run])
        status, text = _started(wanted, answer, place)
        return json_response(text.encode(), status)

    async def start_runs(self, request: Request) -> Response:
        """Start up to 1,000 runs, all or none of them. Refs work as in single starts; the first that is refused refuses the request."""
        asked = _batch(await body.read(request))
        wanted = [body.validated(StartRequest, found, payload="input") for found in asked]
        namespace = namespace_of(request)
        made = [self._new_run(namespace, start, found) for start, found in zip(wanted, asked, strict=True)]
        rejects = [start.on_conflict == Conflict.REJECT for start in wanted]
        answers = await self._context.engine.starts.all_or_none([run for run, _ in made], rejects=rejects)
        texts = [_started(start, answer, place)[1] for start, answer, (_, place) in zip(wanted, answers, made, strict=True)]
        return json_response(f'{{"runs":[{",".join(texts)}]}}'.encode(), 201)

    def _new_run(self, namespace: str, wanted: StartRequest, found: dict[str, Member]) -> tuple[NewRun, Place]:
        payload = body.payload_text(found, "input")
        start_at = body.instant_of(found, "start_at", wanted.start_at)
        place = self._context.engine.registry.serving.place(namespace, wanted.workflow, wanted.version, wanted.pool)
        later = start_at is not None and self._context.engine.clock.is_ahead(start_at)
        digest = _digest(wanted, found, start_at) if wanted.ref is not None else None
        status = "scheduled" if later else "queued"
        run = NewRun(
            self._context.engine.run_ids.new(),
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
        )
        return run, place


def _batch(raw: bytes) -> list[dict[str, Member]]:
    try:
        found = read_object(text_of(raw), _BATCH)
    except InvalidJsonError as error:
        raise body.malformed(error) from None
    runs = found["runs"].value if found.keys() == {"runs"} else None
    if not isinstance(runs, list) or not 1 <= len(runs) <= MAX_BATCH or not all(isinstance(run, dict) for run in runs):
        raise ApiError(422, f"The body has one member `runs`: a list of 1 to {MAX_BATCH:,} starts.")
    return runs


def _digest(wanted: StartRequest, found: Mapping[str, Member], start_at: datetime | None) -> str:
    """What makes two starts the same: equal values, however they are spelled."""
    value: Any = found["input"].value if "input" in found else None
    told = [wanted.workflow, wanted.version, wanted.pool, start_at.isoformat() if start_at else None, value]
    return sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


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


def _name(name: str | None) -> str:
    return "null" if name is None else f'"{name}"'
