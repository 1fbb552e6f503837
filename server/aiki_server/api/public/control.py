"""What people and services do to a run: events, cancel, pause, resume, retry."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from aiki.protocol import MAX_OPEN_EVENT_BYTES, MAX_OPEN_EVENTS, CancelRequest, EventRequest, OrderRequest
from aiki_server.api.context import Context, namespace_of, run_id
from aiki_server.api.fairness.heavy import is_heavy, texts_of
from aiki_server.api.http import body
from aiki_server.api.http.errors import ApiError, not_found
from aiki_server.api.http.render import json_response, row_summary
from aiki_server.api.public.event_body import read_event
from aiki_server.api.public.reading import RunPath
from aiki_server.engine.workers.event_schemas import Version, held_against
from aiki_server.model import ops
from aiki_server.model.instants import instant
from aiki_server.model.keys import RunKey
from aiki_server.model.payload_schema import Misfit

LARGE_EVENT = 2 * 1024
Misfits = Mapping[Version, Misfit]


class Control:
    """POST below /runs/{id}."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def send_event(self, request: Request, run: RunPath) -> Response:
        """Send an event; 201 once it is stored. With an `id`, repeating it changes nothing (200)."""
        wanted_run = run_id(run)
        event, payload, misfits = await self._event(await body.read(request), namespace_of(request))
        await self._room_for(wanted_run, namespace_of(request), payload)
        # An event without an id gets one that no client can choose: repeating our own transaction must not store it twice.
        event_id = event.id or f"~{secrets.token_hex(8)}"
        op = ops.Deliver(wanted_run, namespace_of(request), event.name, payload, event_id, misfits or None)
        async with self._context.writing.for_bytes(op.namespace, len(payload)):
            answer = await self._context.engine.submit(op)
        if isinstance(answer, ops.Accepted):
            created = "true" if answer.created else "false"
            return json_response(f'{{"seq":{answer.seq},"created":{created}}}'.encode(), 201 if answer.created else 200)
        raise _unfit(event.name, answer) if isinstance(answer, ops.Unfit) else _refused(answer)

    async def cancel_run(self, request: Request, run: RunPath) -> Response:
        """Ask a run to end. A run that never began is cancelled at once; another one gets to clean up first, unless `force` says otherwise."""
        wanted_run = run_id(run)
        wanted = await _cancel_request(request)
        text = None if wanted.reason is None else json.dumps(wanted.reason)
        return await self._change(ops.Cancel(wanted_run, namespace_of(request), text, force=wanted.force))

    async def pause_run(self, request: Request, run: RunPath) -> Response:
        """Let a run rest. Tasks that run now end first."""
        return await self._change(ops.Pause(run_id(run), namespace_of(request), await _order_id(request)))

    async def resume_run(self, request: Request, run: RunPath) -> Response:
        """Let a paused run go on."""
        return await self._change(ops.Resume(run_id(run), namespace_of(request), await _order_id(request)))

    async def retry_run(self, request: Request, run: RunPath) -> Response:
        """Let a run go on that an error stopped, or that waits for its next attempt."""
        return await self._change(ops.Retry(run_id(run), namespace_of(request), await _order_id(request)))

    async def _room_for(self, run: UUID, namespace: str, payload: str) -> None:
        """Whether a run takes an event of this size. Small ones are bounded by their number."""
        if len(payload) < LARGE_EVENT:
            return
        async with self._context.quotas.listing(namespace):
            size = await self._context.engine.looks.open_event_bytes(RunKey(namespace, run))
        if size + len(payload) > MAX_OPEN_EVENT_BYTES:
            raise ApiError(429, f"The run has {size:,} bytes of events that it has not consumed.", headers={"Retry-After": "10"})

    async def _event(self, raw: bytes, namespace: str) -> tuple[EventRequest, str, Misfits]:
        """An event, its payload as text, and the versions that do not take it, as far as workers have said what they take."""
        known = self._context.engine.registry.event_schemas
        if not is_heavy(raw):
            event, payload, value = read_event(raw)
            if not known.knows(namespace, event.name):
                return event, payload, {}
            return event, payload, known.misfits(namespace, event.name, held_against(await known.read(namespace, event.name), value))
        heavy = self._context.heavy
        told, found = await heavy.ask("event", raw, namespace=namespace)
        (payload,) = texts_of(told["places"], told["sizes"], raw, found)
        event = EventRequest.model_validate(told["event"])
        if not (schemas := await known.read(namespace, event.name)):
            return event, payload, {}
        told, _ = await heavy.ask("fit", payload.encode(), namespace=namespace, schemas={name: one.text for name, one in schemas.items()})
        wrong = {name: Misfit(tuple(place), *what) for name, (place, *what) in told["wrong"].items()}
        return event, payload, known.misfits(namespace, event.name, wrong)

    async def _change(self, op: ops.Op) -> Response:
        answer = await self._context.engine.submit(op)
        if isinstance(answer, ops.Changed):
            return json_response(row_summary(answer.row, updated_at=instant(self._context.engine.clock.now())))
        raise _refused(answer)


async def _cancel_request(request: Request) -> CancelRequest:
    if body.is_empty(request):
        return CancelRequest()
    found = body.members(await body.read(request, limit=body.SHORT_BYTES))
    return body.validated(CancelRequest, found)


async def _order_id(request: Request) -> str | None:
    if body.is_empty(request):
        return None
    found = body.members(await body.read(request, limit=body.SHORT_BYTES))
    return body.validated(OrderRequest, found).id


def _unfit(event: str, answer: ops.Unfit) -> ApiError:
    detail = f"Event {event} of {answer.workflow} {answer.version} does not take this payload: {answer.misfit}. Send it with one that fits."
    errors = [{"loc": ["payload", *answer.misfit.place], "msg": str(answer.misfit), "type": "payload_misfit"}]
    return ApiError(422, detail, errors, kind="payload-misfit")


def _refused(answer: ops.Answer) -> ApiError:
    match answer:
        case ops.Missing():
            return not_found("run")
        case ops.Conflict(detail):
            return ApiError(409, detail)
        case ops.Full():
            return ApiError(429, f"The run has {MAX_OPEN_EVENTS:,} events that it has not consumed.", headers={"Retry-After": "10"})
        case _:
            raise TypeError(f"{answer} is no answer to this")
