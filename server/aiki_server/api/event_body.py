"""The body of an event, read. Pure."""

from __future__ import annotations

from aiki.protocol import EventRequest
from aiki_server.api import body


def read_event(raw: bytes) -> tuple[EventRequest, str]:
    """The event, and its payload as JSON text."""
    found = body.members(raw)
    return body.validated(EventRequest, found, payload="payload"), body.payload_text(found, "payload")
