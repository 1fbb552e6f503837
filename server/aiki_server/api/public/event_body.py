"""The body of an event, read. Pure."""

from __future__ import annotations

from typing import Any

from aiki.protocol import EventRequest
from aiki_server.api.http import body


def read_event(raw: bytes) -> tuple[EventRequest, str, Any]:
    """The event, and its payload as JSON text and as what it says."""
    found = body.members(raw)
    payload = found.get("payload")
    value = None if payload is None else payload.value
    return body.validated(EventRequest, found, payload="payload"), body.payload_text(found, "payload"), value
