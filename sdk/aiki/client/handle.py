"""A run, seen from outside: wait for its result, send it events, steer it."""

from __future__ import annotations

import asyncio
import logging
import time
from math import inf
from typing import Any, Final, Generic, TypeVar, assert_never, overload

from aiki.client.body import made_id, read, with_payload
from aiki.client.transport import PATIENCE_SECONDS, Transport
from aiki.definitions.event import Event
from aiki.errors import ResultTimeout, RunCancelled, RunFailed, ServerUnreachable
from aiki.protocol import EventAccepted, History, RunInfo, RunResult, RunSummary, Status
from aiki.values.codec import ANY, Codec, dumps

O = TypeVar("O")  # noqa: E741  the output of the run's workflow
T = TypeVar("T")

log = logging.getLogger("aiki.client")

POLL_SECONDS: Final = 30.0
LATE_SECONDS: Final = 2.0
"""How much later than asked for an answer may come."""


class RunHandle(Generic[O]):
    """A run by its id. `created` is False where the start found a run with its `ref`; `notice` is what the server had to say about it."""

    def __init__(
        self, transport: Transport, run_id: str, output: Codec[O], *, created: bool | None = None, notice: str | None = None
    ) -> None:
        self.id: Final = run_id
        self.created: Final = created
        self.notice: Final = notice
        self._transport: Final = transport
        self._output: Final = output
        self._path: Final = f"/api/v1/runs/{run_id}"

    async def result(self, timeout: float | None = None) -> O:
        """Wait for the end and return the output; RunFailed, RunCancelled, or ResultTimeout after `timeout` seconds.

        An outage of the server does not end the wait: without a timeout it lasts as long as the run and the outage do.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            answer = await self._answer(deadline, timeout)
            if answer is None:
                continue
            match answer.status:
                case Status.COMPLETED:
                    return self._output.decode(answer.output)
                case Status.FAILED:
                    assert answer.error is not None
                    raise RunFailed(self.id, answer.error)
                case Status.CANCELLED:
                    raise RunCancelled(self.id, answer.error)
                case Status.SCHEDULED | Status.QUEUED | Status.RUNNING | Status.WAITING | Status.PAUSED:
                    if deadline is not None and time.monotonic() >= deadline:
                        raise ResultTimeout(
                            f"run {self.id} is {answer.status} after {timeout} s; it goes on: ask again, or look at its waits with info()"
                        )
                case _:
                    assert_never(answer.status)

    async def _answer(self, deadline: float | None, timeout: float | None) -> RunResult | None:
        """What the server says of the result; None where nobody answered and there is no deadline."""
        left = inf if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            async with asyncio.timeout(None if deadline is None else left + LATE_SECONDS):
                return await self._poll(min(POLL_SECONDS, left), patience_seconds=min(PATIENCE_SECONDS, left))
        except (ServerUnreachable, TimeoutError) as error:
            if deadline is None or time.monotonic() < deadline:
                log.warning(
                    "no answer from the server: the result is waited for nevertheless", extra={"run_id": self.id, "error": str(error)}
                )
                return None
            raise ResultTimeout(
                f"the server did not say within {timeout} s how run {self.id} ended, and gives no answer: {error}"
            ) from error

    @overload
    async def send(self, event: Event[T], payload: T, *, id: str | None = None) -> EventAccepted: ...
    @overload
    async def send(self, event: Event[None], payload: None = None, *, id: str | None = None) -> EventAccepted: ...
    @overload
    async def send(self, event: str, payload: Any = None, *, id: str | None = None) -> EventAccepted: ...
    async def send(self, event: Event[Any] | str, payload: Any = None, *, id: str | None = None) -> EventAccepted:
        """Send an event; once accepted it is kept until the run waits for it. `id` makes sending it again do nothing.

        PayloadError if the payload does not fit the event; ApiError (422) if the server knows that no code of the run's version takes it.
        """
        name, text = (event, ANY.encode(payload)) if isinstance(event, str) else (event.name, event.encode(payload))
        # An id always: so that a request whose answer was lost can be repeated.
        body = with_payload({"name": name, "id": id or made_id()}, "payload", text)
        reply = await self._transport.send("POST", f"{self._path}/events", body=body)
        return read(EventAccepted, reply.body)

    async def cancel(self, reason: str | None = None, *, force: bool = False) -> RunSummary:
        """Ask the run to end: `CancelledError` at its next await, with the reason.

        With `force` the server ends it at once, without telling its code: nothing is cleaned up or compensated.
        """
        return await self._steer("cancel", dumps({"reason": reason} | ({"force": True} if force else {})).encode())

    async def pause(self) -> RunSummary:
        """Start nothing new in this run until `resume`."""
        return await self._steer("pause", _order())

    async def resume(self) -> RunSummary:
        """Let a paused run go on."""
        return await self._steer("resume", _order())

    async def retry(self) -> RunSummary:
        """Let a run that was stopped by an error, or waits for a retry, go on now."""
        return await self._steer("retry", _order())

    async def refresh(self) -> RunInfo:
        """The run as it is now."""
        return read(RunInfo, (await self._transport.send("GET", self._path)).body)

    async def history(self, *, after: int = 0, limit: int = 1_000) -> History:
        """Entries of the history behind number `after`, and the events that nobody took."""
        params = {"after": str(after), "limit": str(limit)}
        return read(History, (await self._transport.send("GET", f"{self._path}/history", params=params)).body)

    async def _poll(self, seconds: float, *, patience_seconds: float) -> RunResult:
        # A server may hold it for less than asked; it never holds it longer.
        reply = await self._transport.send(
            "GET",
            f"{self._path}/result",
            params={"timeout": f"{seconds:.3f}"},
            wait_seconds=max(seconds, 0.001),
            patience_seconds=patience_seconds,
        )
        return read(RunResult, reply.body)

    async def _steer(self, verb: str, body: bytes | None = None) -> RunSummary:
        return read(RunSummary, (await self._transport.send("POST", f"{self._path}/{verb}", body=body)).body)

    def __repr__(self) -> str:
        return f"<run {self.id}>"


def _order() -> bytes:
    # An id always: so that a repetition that arrives late does not undo what was ordered since.
    return dumps({"id": made_id()}).encode()
