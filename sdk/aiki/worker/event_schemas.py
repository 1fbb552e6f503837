"""What a worker tells the server of the events that its workflows wait for, so that a payload that fits none is refused where it is sent.

Found as tasks and events of one name are (`reach`), without running the code: an event that is made while a run goes on is not seen here, and is
looked at when the run comes to it. What is too large to be told is left out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from aiki.definitions.event import Event
from aiki.definitions.reach import reached
from aiki.definitions.workflow import VersionDefinition
from aiki.protocol import MAX_EVENT_SCHEMA, MAX_EVENT_SCHEMAS, MAX_EVENT_SCHEMAS_TOGETHER, EventSchema
from aiki.shared.redaction import shown
from aiki.values.payload_schema import schema_text

log = logging.getLogger("aiki.worker")


def event_schemas(versions: Iterable[VersionDefinition[Any, Any]]) -> list[EventSchema]:
    """What is known of the events of these versions, within the limits of a registration."""
    found: list[EventSchema] = []
    texts: dict[Event[Any], str | None] = {}
    room = MAX_EVENT_SCHEMAS_TOGETHER
    for version in versions:
        for event in sorted(_events_of(version), key=lambda event: event.name):
            if event not in texts:
                texts[event] = _text(event)
            text = texts[event]
            if text is None or len(text) > min(room, MAX_EVENT_SCHEMA) or len(found) == MAX_EVENT_SCHEMAS:
                continue
            room -= len(text)
            found.append(EventSchema(workflow=version.workflow, version=version.version, event=event.name, payload_schema=text))
    return found


def _events_of(version: VersionDefinition[Any, Any]) -> list[Event[Any]]:
    return [named for named in reached(version) if isinstance(named, Event)]


def _text(event: Event[Any]) -> str | None:
    try:
        return schema_text(event.codec)
    except Exception as error:
        extra = {"event": event.name}
        log.warning("payload of an event cannot be described: it is not checked before a run has it", extra=extra, exc_info=shown(error))
        return None
