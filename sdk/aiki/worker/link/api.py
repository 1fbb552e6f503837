"""The worker protocol as typed calls; every answer that carries the database's time is shown to the clock."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from json.encoder import encode_basestring as quoted
from typing import Final, TypeVar

from pydantic import BaseModel
from pydantic_core import to_json

from aiki.client.transport import Transport
from aiki.protocol import (
    Claimed,
    ClaimedRun,
    ClaimRequest,
    CommitOp,
    Committed,
    DeregisterRequest,
    Finish,
    InboxItem,
    InboxQuery,
    InboxRequest,
    InboxUpdates,
    JsonText,
    Micros,
    Registered,
    RegisterRequest,
    ReplayPage,
    ReplayRequest,
    WorkerId,
    WorkflowVersion,
)

_WRITE_OP: Final = CommitOp.__pydantic_serializer__.to_json
_WRITE_FINISH: Final = Finish.__pydantic_serializer__.to_json
PATH: Final = "/api/v1/worker/"
T = TypeVar("T")
Answer = TypeVar("Answer", bound=BaseModel)


class WorkerApi:
    """What one worker says to the server. `observe` is given the `now` of each answer when it arrives; `numbers` count its registrations."""

    def __init__(self, transport: Transport, worker: WorkerId, *, numbers: Iterator[int] | None = None) -> None:
        self.worker: Final = worker
        self._numbers = itertools.count(1) if numbers is None else numbers
        self._number = 0
        self.observe: Callable[[Micros], None] = _nobody
        self._transport = transport
        self._commit_head = b'{"worker":' + to_json(worker) + b',"ops":['

    async def register(self, request: RegisterRequest) -> Registered:
        """Enter, or come back after the server forgot this worker."""
        self._number = next(self._numbers)
        return await self._call("register", request.model_copy(update={"number": self._number}), Registered)

    async def claim(
        self, runs: Sequence[str] | None, *, limit: int, held: Sequence[str] | None, carries: Sequence[WorkflowVersion] | None
    ) -> Claimed:
        """Take runs: these, or any of what the worker carries. Never repeated here: a lost answer is recovered by the next claim, through `held`."""
        request = ClaimRequest(worker=self.worker, runs=_listed(runs), limit=limit, held=_listed(held), carries=_listed(carries))
        claimed = await self._call("claim", request, Claimed, patience_seconds=0)
        self.observe(claimed.now)
        if any(run.more for run in claimed.runs):
            whole = [await self._whole(run) if run.more else run for run in claimed.runs]
            claimed = claimed.model_copy(update={"runs": [run for run in whole if run is not None]})
        return claimed

    async def _whole(self, run: ClaimedRun) -> ClaimedRun | None:
        """A run with what was too large to come with its claim; None where it is not this worker's any more."""
        history: list[JsonText] = []
        inbox: list[InboxItem] = []
        chunk = item = 0
        while True:
            asked = ReplayRequest(worker=self.worker, run=run.id, epoch=run.epoch, chunk=chunk, item=item, inbox_seq=run.inbox_seq)
            page = await self._call("replay", asked, ReplayPage)
            self.observe(page.now)
            if page.stale:
                return None
            history += page.history
            inbox += page.inbox
            chunk, item = page.chunk, page.item
            if not page.more:
                return run.model_copy(update={"history": history, "inbox": inbox, "more": False})

    async def commit(self, ops: Sequence[bytes]) -> Committed:
        """Write the encoded ops of many runs in one request."""
        body = self._commit_head + b",".join(ops) + b"]}"
        reply = await self._transport.send("POST", PATH + "commit", body=body)
        committed = Committed.model_validate_json(reply.body)
        self.observe(committed.now)
        return committed

    async def inbox(self, runs: Sequence[InboxQuery]) -> InboxUpdates:
        """Ask what came in for runs in hand."""
        updates = await self._call("inbox", InboxRequest(worker=self.worker, runs=list(runs)), InboxUpdates)
        self.observe(updates.now)
        return updates

    async def deregister(self, *, patience_seconds: float) -> None:
        """Leave; what this worker still holds goes back to the queue."""
        body = to_json(DeregisterRequest(worker=self.worker, number=self._number))
        await self._transport.send("POST", PATH + "deregister", body=body, patience_seconds=patience_seconds)

    async def _call(self, name: str, request: BaseModel, answer: type[Answer], *, patience_seconds: float = 20.0) -> Answer:
        reply = await self._transport.send("POST", PATH + name, body=to_json(request, exclude_none=True), patience_seconds=patience_seconds)
        return answer.model_validate_json(reply.body)


def encoded(op: CommitOp) -> bytes:
    """An op as it travels; what has its default value is left out."""
    return _WRITE_OP(op, exclude_defaults=True)


def plain_op(
    run: str, epoch: int, number: int, entries: str, *, count: int, steps: int, state: str | None, release: bool, finish: Finish | None
) -> bytes:
    """What `encoded` makes of an op with these members and no others, which nearly all ops have: a fifth of the time of a model that is made to be written."""
    more = f',"state":{quoted(state)}' if state is not None else ""
    if release:
        more += ',"release":true'
    if finish is not None:
        more += f',"finish":{_WRITE_FINISH(finish, exclude_defaults=True).decode()}'
    text = f'{{"run":"{run}","epoch":{epoch},"number":{number},"entries":{quoted(entries)},"count":{count},"steps":{steps}{more}}}'
    return text.encode()


def _listed(items: Sequence[T] | None) -> list[T] | None:
    return None if items is None else list(items)


def _nobody(_now: Micros) -> None:
    """Until the worker has registered there is no clock to tell."""
