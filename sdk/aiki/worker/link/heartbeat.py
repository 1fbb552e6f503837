"""Keeps the worker's lease from a thread of its own: a blocked event loop must not look like a dead worker.

A plain, synchronous HTTP connection, because the loop's is of no use to a thread that must not depend on the loop. The same thread runs the
watchdog, once a second.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final
from urllib.parse import urlsplit

from pydantic import ValidationError

from aiki.client.credentials import Credentials
from aiki.protocol import Heartbeat, HeartbeatRequest, WorkerId
from aiki.worker.link.clock import DatabaseClockEstimate
from aiki.worker.link.lease import WorkerLease

log = logging.getLogger("aiki.worker")

TICK_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 3.0


class HeartbeatThread(threading.Thread):
    """Beats until `stop`. `deliver` gets the answers, `watch` is called every tick; both in this thread."""

    def __init__(
        self,
        *,
        url: str,
        credentials: Credentials,
        worker: WorkerId,
        interval_seconds: float,
        lease: WorkerLease,
        clock: DatabaseClockEstimate,
        active: Callable[[], int],
        deliver: Callable[[Heartbeat], None],
        watch: Callable[[], None],
    ) -> None:
        super().__init__(name=f"aiki-heartbeat-{worker}", daemon=True)
        self._url = urlsplit(url)
        self._credentials = credentials
        self._worker = worker
        self._interval_seconds = interval_seconds
        self._lease = lease
        self._clock = clock
        self._active = active
        self._deliver = deliver
        self._watch = watch
        self._ended = threading.Event()
        self._connection: HTTPConnection | None = None
        self._failures = 0
        self.answered = 0
        self.unanswered = 0
        self.lapsed = 0
        """How often the worker had to register again."""
        self.answered_at = time.monotonic()
        """When the last heartbeat that was answered was sent; at first, when the worker had registered."""

    def stop(self) -> None:
        """Ask it to end; it does within a tick, or when the request under way is answered or timed out."""
        self._ended.set()

    def run(self) -> None:
        """Tick until told to stop."""
        tick = tick_seconds(self._interval_seconds)
        next_beat = time.monotonic() + self._interval_seconds
        while not self._ended.wait(tick):
            self._watch()
            if time.monotonic() >= next_beat - tick / 2:
                # Not before the next full interval after an answer, and at once after a failure.
                answered = self._beat()
                next_beat = time.monotonic() + (self._interval_seconds if answered else tick)
        self._disconnect()

    def _beat(self) -> bool:
        sent_at = time.monotonic()
        try:
            heartbeat = self._exchange()
        except (OSError, HTTPException, ValidationError, _NotAnswered) as error:
            self._disconnect()
            self._failures += 1
            self.unanswered += 1
            log.warning("heartbeat unanswered", extra={"worker": self._worker, "failures": self._failures, "error": error})
            return False
        if self._failures:
            log.info("heartbeat answered again", extra={"worker": self._worker, "failures": self._failures})
            self._failures = 0
        self.answered += 1
        self.answered_at = sent_at
        self._clock.observe(heartbeat.now)
        if heartbeat.known:
            self._lease.renewed(sent_at)
        self._deliver(heartbeat)
        return True

    def _exchange(self) -> Heartbeat:
        body = HeartbeatRequest(worker=self._worker, active=self._active()).model_dump_json()
        reused = self._connection is not None
        try:
            status, data = self._request(body)
        except (OSError, HTTPException):
            if not reused:
                raise
            # The server closes connections that were idle for about as long as we were.
            self._disconnect()
            status, data = self._request(body)
        if status == HTTPStatus.UNAUTHORIZED and self._credentials.refused():
            status, data = self._request(body)
        if status != HTTPStatus.OK:
            raise _NotAnswered(f"{status}: {_detail(data)}")
        return Heartbeat.model_validate_json(data)

    def _request(self, body: str) -> tuple[int, bytes]:
        if self._connection is None:
            kind = HTTPSConnection if self._url.scheme == "https" else HTTPConnection
            self._connection = kind(self._url.hostname or "localhost", self._url.port, timeout=ANSWER_SECONDS)
        token = self._credentials.token
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._connection.request("POST", f"{self._url.path.rstrip('/')}/api/v1/worker/heartbeat", body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def tick_seconds(interval_seconds: float) -> float:
    """From one look to the next."""
    return min(TICK_SECONDS, interval_seconds / 2)


class _NotAnswered(Exception):
    """The server said something else than an answer."""


def _detail(data: bytes) -> str:
    try:
        return str(json.loads(data)["detail"])
    except (ValueError, KeyError, TypeError):
        return data[:200].decode("utf-8", "replace")
