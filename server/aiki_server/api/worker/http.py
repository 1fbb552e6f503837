"""The worker protocol: register, heartbeat, claim, replay, commit, inbox, deregister."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from aiki.protocol import (
    MAX_COMMIT_BYTES,
    MAX_COUNT,
    ChildStart,
    ClaimRequest,
    CommitOp,
    DeregisterRequest,
    HeartbeatRequest,
    InboxRequest,
    RegisterRequest,
    ReplayRequest,
)
from aiki_server.api.context import Context, namespace_of
from aiki_server.api.fairness.heavy import is_heavy
from aiki_server.api.http import body
from aiki_server.api.http.errors import ApiError
from aiki_server.api.http.render import hex_of, inbox_item, json_response
from aiki_server.api.worker.checks import waits_text
from aiki_server.api.worker.commit_body import read_commit, refusals
from aiki_server.api.worker.event_schemas import event_schemas_of
from aiki_server.engine.dispatch.claims import Claim, Claimed
from aiki_server.engine.dispatch.routing import Version
from aiki_server.engine.redis.stream_names import inbox_channel
from aiki_server.engine.watch.outcomes import OTHER
from aiki_server.engine.workers.registry import Serves
from aiki_server.engine.workers.sessions import Asked, Here, ReplayPage
from aiki_server.model import ops
from aiki_server.model.instants import instant, micros
from aiki_server.model.keys import WorkerKey
from aiki_server.model.run_ids import run_id_of
from aiki_server.model.workers import Carrier, WorkerRow

_OK = b'{"outcome":"ok","inbox":[],"detail":null}'
_PARKED = b'{"outcome":"parked","inbox":[],"detail":null}'
_STALE = b'{"outcome":"stale","inbox":[],"detail":null}'


class Worker:
    """POST below /worker."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def register(self, request: Request) -> Response:
        """A worker is here, with what it carries."""
        wanted = await body.listed(request, RegisterRequest, members=4 * body.MOST_LISTED_MEMBERS)  # schemas are text, and no members
        engine, namespace = self._context.engine, namespace_of(request)
        schemas = event_schemas_of(wanted, namespace=namespace)
        versions = [(entry.workflow, entry.version) for entry in wanted.workflows]
        self._context.quotas.room_for_worker(engine, namespace, wanted.worker, versions, pool=wanted.pool, build=wanted.build)
        async with self._context.quotas.bulk(namespace):
            serves = await engine.sessions.register(
                WorkerKey(namespace, wanted.worker),
                Here(wanted.pool, wanted.build, wanted.pod, wanted.concurrency, versions, wanted.number, schemas),
            )
        settings = engine.settings
        answer = {
            "now": engine.clock.now(),
            "lease_seconds": settings.lease_seconds,
            "heartbeat_seconds": settings.heartbeat_seconds,
            "redis_url": engine.redis_users.url(namespace),
            "inbox_channel": inbox_channel(namespace, wanted.worker),
            "assignment": self._assignment(serves),
        }
        return json_response(to_json(answer))

    async def heartbeat(self, request: Request) -> Response:
        """A worker lives. `known` false: its lease lapsed, its runs are others' now."""
        wanted = await body.short(request, HeartbeatRequest)
        engine, namespace = self._context.engine, namespace_of(request)
        beat = await engine.sessions.heartbeat(WorkerKey(namespace, wanted.worker), active=min(wanted.active, MAX_COUNT))
        answer = {
            "now": engine.clock.now(),
            "known": beat.known,
            "assignment": self._assignment(beat.serves),
            "inbox_pending": [run.hex for run in beat.pending],
            "redis_url": engine.redis_users.url(namespace),
        }
        return json_response(to_json(answer))

    async def claim(self, request: Request) -> Response:
        """Queued runs become the worker's."""
        wanted = await body.listed(request, ClaimRequest)
        engine, namespace = self._context.engine, namespace_of(request)
        known = await self._carrier(namespace, wanted.worker)
        if known is None:
            raise self._unknown()
        carrier, row = known
        named = None if wanted.runs is None else tuple(map(run_id_of, wanted.runs))
        if named is None and wanted.carries is not None:
            carrier = carrier._replace(versions=carrier.versions & {(entry.workflow, entry.version) for entry in wanted.carries})
        if named is None:
            any_run, own = engine.registry.serving.claimable(namespace, row.pool, row.build, carrier.versions)
            nothing = frozenset[Version]()
            carrier = carrier._replace(versions=nothing) if row.draining else carrier._replace(versions=any_run, own=own)
        held = None if wanted.held is None else tuple(map(run_id_of, wanted.held))
        (given,) = await engine.claims.batcher.put([Claim(WorkerKey(namespace, wanted.worker), carrier, named, wanted.limit, held)])
        if not given.known:
            engine.registry.forget(namespace, [wanted.worker])
            raise self._unknown()
        if named is None and held is None and engine.circuit.usable:
            engine.polled += len(given.runs)
        answer: dict[str, Any] = {"now": engine.clock.now(), "runs": list(map(_claimed, given.runs))}
        if given.remaining:
            answer["remaining"] = [run.hex for run in given.remaining]
        if given.more:
            answer["more"] = True
        return json_response(to_json(answer))

    async def replay(self, request: Request) -> Response:
        """What comes with a run that the worker holds, a page at a time."""
        wanted = await body.short(request, ReplayRequest)
        engine, run = self._context.engine, run_id_of(wanted.run)
        found = await engine.sessions.replay(
            WorkerKey(namespace_of(request), wanted.worker),
            run,
            epoch=min(max(wanted.epoch, -1), MAX_COUNT),
            chunk=min(wanted.chunk, MAX_COUNT),
            item=min(wanted.item, MAX_COUNT),
            inbox_seq=min(wanted.inbox_seq, MAX_COUNT),
        )
        chunks, items, more = found or ReplayPage([], [], more=False)
        answer = {
            "now": engine.clock.now(), "stale": found is None, "history": [text for _, text in chunks], "inbox": list(map(inbox_item, items)),
            "chunk": chunks[-1][0] if chunks else wanted.chunk, "item": items[-1].seq if items else wanted.item, "more": more,
        }  # fmt: skip
        return json_response(to_json(answer))

    async def commit(self, request: Request) -> Response:
        """Write what runs have to say; each op is answered for itself."""
        raw = await body.read(request, limit=MAX_COMMIT_BYTES)
        engine, namespace = self._context.engine, namespace_of(request)
        if is_heavy(raw):
            told, _ = await self._context.heavy.ask("commit", raw, namespace=namespace)
            wanted, refused = read_commit(raw), told["refusals"]
        else:
            wanted = read_commit(raw)
            refused = refusals(wanted)
        if any(op.children for op in wanted.ops):
            await engine.registry.carrier(namespace, wanted.worker)  # known from now on, where it has registered at another server
        checked = [self._op(namespace, wanted.worker, op) for op, why in zip(wanted.ops, refused, strict=True) if why is None]
        if not checked:
            answered = []
        else:
            async with self._context.writing.for_bytes(namespace, len(raw)):
                answered = await engine.lanes.submit(checked)
        for answer in answered:
            if isinstance(answer, ops.InboxPending):
                engine.outcomes.handed_over(namespace, self._pool(namespace, wanted.worker), answer.items, now=instant(engine.clock.now()))
        answers = iter(answered)
        written = b",".join(_answer(next(answers) if why is None else ops.Refused(why)) for why in refused)
        return json_response(b'{"now":%d,"answers":[%b]}' % (engine.clock.now(), written))

    async def inbox(self, request: Request) -> Response:
        """What came in for runs since the worker last heard."""
        wanted = await body.listed(request, InboxRequest)
        engine, namespace = self._context.engine, namespace_of(request)
        asked = {
            run_id_of(query.run): Asked(min(max(query.epoch, -1), MAX_COUNT), min(max(query.inbox_seen, 0), MAX_COUNT))
            for query in wanted.runs
        }
        held, found, more = await engine.sessions.inbox(WorkerKey(namespace, wanted.worker), asked)
        now = instant(engine.clock.now())
        pool = self._pool(namespace, wanted.worker)
        for run, items in found.items():
            engine.outcomes.handed_over(namespace, pool, [item for item in items if item.seq > held[run].inbox_acked_seq], now=now)
        runs = [
            {
                "run": run.hex,
                "stale": not held[run].still,
                "pause": held[run].still and held[run].pause,
                "inbox": list(map(inbox_item, found.get(run, ()))),
            }
            for run in asked
        ]
        return json_response(to_json({"now": engine.clock.now(), "runs": runs} | ({"more": True} if more else {})))

    async def deregister(self, request: Request) -> Response:
        """A worker ends in order; what it still holds goes back to the queue."""
        wanted = await body.short(request, DeregisterRequest)
        engine, namespace = self._context.engine, namespace_of(request)
        await engine.sessions.deregister(WorkerKey(namespace, wanted.worker), until=wanted.number or None)
        return Response(status_code=204)

    def _assignment(self, serves: Serves) -> dict[str, Any]:
        circuit = self._context.engine.circuit
        return {"streams": serves.streams, "drain": serves.drain, "poll": not circuit.usable}

    def _pool(self, namespace: str, worker: str) -> str:
        """Under which name the figures have it. A worker that registered elsewhere a moment ago is not known here yet."""
        known = self._context.engine.registry.workers.get(WorkerKey(namespace, worker))
        return OTHER if known is None else known.pool

    async def _carrier(self, namespace: str, worker: str) -> tuple[Carrier, WorkerRow] | None:
        """What a worker may claim. One that is not known is looked for in the database, and that a few at a time for a namespace."""
        known = self._context.engine.registry
        if WorkerKey(namespace, worker) in known.workers:
            return await known.carrier(namespace, worker)
        async with self._context.quotas.listing(namespace):
            return await known.carrier(namespace, worker)

    def _unknown(self) -> ApiError:
        text, current = "The worker is not known (any more): register it.", self._context.engine.incarnations.current
        if current is not None and current.number > 1:
            text += f" The database was last restored at {current.begun_at:%Y-%m-%d %H:%M:%S} UTC; what it did not hold then is no more."
        return ApiError(409, text, kind="unknown-worker")

    def _op(self, namespace: str, worker: str, op: CommitOp) -> ops.Commit:
        children = tuple(self._child(namespace, worker, child) for child in op.children)
        cancel_children = (
            tuple(map(run_id_of, op.cancel_children)) if op.finish is None else ()
        )  # the end of a run reaches all its children
        return ops.Commit(
            run_id_of(op.run), namespace, worker, op, children, "[]" if op.park is None else waits_text(op.park), cancel_children
        )

    def _child(self, namespace: str, worker: str, child: ChildStart) -> ops.Child:
        registry = self._context.engine.registry
        parents = registry.workers.get(WorkerKey(namespace, worker))  # who commits for a run is of its pool
        prefer = parents.pool if parents is not None else None
        id_ = run_id_of(child.id)
        place = registry.serving.place(namespace, child.workflow, child.version, child.pool, run=id_, prefer=prefer)
        return ops.Child(id_, child.workflow, place.version, place.pool, place.build, child.input, child.on_parent_close, place.trial)


def _claimed(claimed: Claimed) -> dict[str, Any]:
    row = claimed.row
    found = {
        "id": row.id.hex, "workflow": row.workflow, "version": row.version, "epoch": row.epoch, "deliveries": row.deliveries,
        "parent": hex_of(row.parent), "created_at": micros(row.created_at), "claimed_at": micros(row.claimed_at or row.created_at), "input": claimed.input, "history": claimed.history,
        "inbox": list(map(inbox_item, claimed.inbox)), "inbox_seq": row.inbox_seq, "pause": row.pause_requested,
    }  # fmt: skip
    return found | {"more": True} if claimed.more else found


def _answer(answer: ops.Answer) -> bytes:
    match answer:
        case ops.Written(parked):
            return _PARKED if parked else _OK
        case ops.Stale():
            return _STALE
        case ops.InboxPending(_, items, pause):
            return to_json({"outcome": "inbox_pending", "inbox": list(map(inbox_item, items)), "pause": pause, "detail": None})
        case ops.Refused(detail):
            return to_json({"outcome": "refused", "inbox": [], "detail": detail})
        case _:
            raise TypeError(f"{answer} is no answer to a commit")
