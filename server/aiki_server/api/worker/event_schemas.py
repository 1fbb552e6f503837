"""What a worker says of the events of its versions: taken as far as it can be heeded, for a worker has to register whatever it says of events.

Left aside is what is no schema, what is of a version that the worker does not carry, and what is beyond the bound of a registration: payloads of
those events are accepted, as if nothing had been said of them. The log says so.
"""

from __future__ import annotations

import logging

from aiki.protocol import MAX_EVENT_SCHEMAS_TOGETHER, RegisterRequest
from aiki_server.engine.workers.event_schemas import digest_of
from aiki_server.model.payload_schema import SchemaError, read

log = logging.getLogger(__name__)

Told = tuple[str, str, str, str, str]
"""Workflow, version, event, and the digest and the text of a schema."""


def event_schemas_of(wanted: RegisterRequest, *, namespace: str) -> list[Told]:
    """The schemas of a registration."""
    carried = {(entry.workflow, entry.version) for entry in wanted.workflows}
    told: list[Told] = []
    left = ""
    room = MAX_EVENT_SCHEMAS_TOGETHER
    digests: dict[str, str | None] = {}
    for event in wanted.events:
        text = event.payload_schema
        room -= len(text)
        if text not in digests:
            digests[text] = _digest(text)
        digest = digests[text]
        if digest is None or room < 0 or (event.workflow, event.version) not in carried:
            left = event.event
            continue
        told.append((event.workflow, event.version, event.event, digest, text))
    if left:
        extra = {"namespace": namespace, "pool": wanted.pool, "left_aside": len(wanted.events) - len(told), "event": left}
        log.warning("schemas of events cannot be heeded: these payloads are not checked before their runs are there", extra=extra)
    return told


def _digest(text: str) -> str | None:
    """None where the text holds no schema."""
    try:
        read(text)
    except SchemaError:
        return None
    return digest_of(text)
