"""One connection of HTTP/1.1, as uvicorn serves it, with an end to everything that its peer may leave without one.

What a peer sends before it has shown a token costs memory, and what it does not send costs a descriptor. So a head has a size and a deadline,
a body a deadline (its size is the handler's concern), requests that are sent before the last answer was read are few, and an answer
that nobody reads is given up. `Doors` counts the connections: when there are too many, the one goes that has been there longest without
a request that carried a valid token, so that those who hold none only get in each other's way.
"""

from __future__ import annotations

import asyncio
import http
import logging
import time
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

log = logging.getLogger(__name__)

CONNECTION = "aiki.connection"
"""Where a request's connection is in the ASGI scope."""
MAX_HEAD_BYTES = 16 * 1024
MAX_URL_BYTES = 8 * 1024
MAX_HEADERS = 64
MAX_PIPELINED = 16
HEAD_SECONDS = 10.0
BODY_SECONDS = 60.0
READ_SECONDS = 60.0
"""What a peer gets to take an answer in, before its connection is dropped."""
MAX_STRANGERS = 1_000
"""Connections on which no valid token was shown yet."""
_ONCE = frozenset({b"host", b"authorization"})
"""Whoever stands before the server may have taken the other one of two."""
_LOOKED_AT = frozenset({*_ONCE, b"transfer-encoding", b"expect"})
SAY_SECONDS = 10.0
"""Refusals are counted one by one and logged once in so long: a line each would fill the disk."""


class _Refused(Exception):
    """The peer sends what no server would take; `status` says so."""

    def __init__(self, status: http.HTTPStatus) -> None:
        self.status = status


class Doors:
    """All connections of a server. Made by the composition root."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.open: set[Connection] = set()
        self.strangers: dict[Connection, None] = {}
        """Oldest first."""
        self.turned_away = 0
        """Connections that were closed because there were too many."""
        self.refused = 0
        """Connections that were closed for what they sent, or did not send or read in time."""
        self._said_at = -SAY_SECONDS

    def enter(self, connection: Connection) -> bool:
        """Whether there is room for it; a stranger that has been there for longer may have to go."""
        if len(self.open) >= self.most or len(self.strangers) >= MAX_STRANGERS:
            self.turned_away += 1
            self._say("too many connections", open=len(self.open), strangers=len(self.strangers), most=self.most)
            if not self.strangers:
                return False
            oldest = next(iter(self.strangers))
            self.leave(oldest)
            oldest.drop()
        self.open.add(connection)
        self.strangers[connection] = None
        return True

    def leave(self, connection: Connection) -> None:
        """It is gone."""
        self.open.discard(connection)
        self.strangers.pop(connection, None)

    def refuse(self, reason: str) -> None:
        """One was closed for what it did."""
        self.refused += 1
        self._say("connection refused", reason=reason)

    def sweep(self, now: float) -> None:
        """Close what has passed a deadline; to be called about once a second."""
        for connection in list(self.open):
            if now > connection.deadline:
                connection.expire()

    def _say(self, event: str, **fields: Any) -> None:
        now = time.monotonic()
        if now - self._said_at >= SAY_SECONDS:
            self._said_at = now
            log.warning(event, extra={**fields, "turned_away": self.turned_away, "refused": self.refused})


class Connection(HttpToolsProtocol):
    """Made by uvicorn for every connection; `deadline` is when it is to be closed if nothing happens before."""

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._doors: Doors = config.app.doors  # type: ignore[union-attr]  # the app is an Edge
        self._head_bytes = 0
        self._header_bytes = 0
        self._in_head = True
        self._read_by = float("inf")
        self._sent_by = float("inf")
        self._proven = False
        self._let_in = False

    @property
    def deadline(self) -> float:
        """By the loop's clock: the earlier one of its peer's sending and reading."""
        return min(self._sent_by, self._read_by)

    @property
    def answering(self) -> bool:
        """Whether a request is being answered."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def proven(self) -> None:
        """A request on it carried a valid token."""
        if not self._proven:
            self._proven = True
            self._doors.strangers.pop(self, None)

    def drop(self) -> None:
        """Close it at once; what was not written yet is lost."""
        if not self.transport.is_closing():
            self.transport.abort()

    def expire(self) -> None:
        """The deadline has passed."""
        self._doors.refuse("its answer was not read in time" if self._read_by < self._sent_by else "its request did not come in time")
        if self._in_head and self._head_bytes and self._read_by == float("inf"):
            self._answer(http.HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.drop()

    # ---- what uvicorn and the transport call

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if not self._doors.enter(self):
            self.transport = transport
            self._answer(http.HTTPStatus.SERVICE_UNAVAILABLE)
            return
        super().connection_made(transport)
        self._let_in = True
        self._sent_by = self.loop.time() + HEAD_SECONDS

    def connection_lost(self, exc: Exception | None) -> None:
        self._doors.leave(self)
        self._sent_by = self._read_by = float("inf")
        if self._let_in:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        if self._in_head and not self._head_bytes:
            self._sent_by = self.loop.time() + HEAD_SECONDS
        try:
            if self._in_head:
                self._head_bytes += len(data)
            self.parser.feed_data(data)
            if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
                raise _Refused(http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        except _Refused as refusal:
            self._refuse(refusal)
        except httptools.HttpParserUpgrade:
            return  # an upgrade that we do not make: the request is answered as it is
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, _Refused) else _Refused(http.HTTPStatus.BAD_REQUEST))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_by = self.loop.time() + READ_SECONDS

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read_by = float("inf")

    # ---- what the parser calls

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _Refused(http.HTTPStatus.TOO_MANY_REQUESTS)
        super().on_message_begin()
        self._header_bytes = 0
        self.scope[CONNECTION] = self  # type: ignore[literal-required]

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            raise _Refused(http.HTTPStatus.REQUEST_URI_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _LOOKED_AT:
            self._look_at(name, value)
        elif self._in_head:  # what uvicorn does: six times for each request, so without a call
            self.headers.append((name, value))
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            raise _Refused(http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def _look_at(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer, which whoever stands before the server has not looked at: it counts in bytes, and says nothing
        if name in _ONCE and any(known == name for known, _ in self.headers):
            raise _Refused(http.HTTPStatus.BAD_REQUEST)
        if name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            raise _Refused(http.HTTPStatus.NOT_IMPLEMENTED)  # a coding that nobody here undoes
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_head = False
        self._head_bytes = 0
        self._sent_by = self.loop.time() + BODY_SECONDS

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True
        self._sent_by = float("inf")

    # ---- inside

    def _refuse(self, refusal: _Refused) -> None:
        self._doors.refuse(refusal.status.phrase)
        self._answer(refusal.status)

    def _answer(self, status: http.HTTPStatus) -> None:
        """Say what is wrong, unless that would end up in the middle of another answer, and close."""
        if not self.answering:
            head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: text/plain\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(head.encode())
            self.transport.close()
        else:
            self.drop()
