"""Which payloads the events of a namespace take, as far as its workers have said: what an event is held against before it is stored.

A worker registers, for each version that it carries, the schemas of the events that its code names. A run may go to any build that carries its
version, so a payload is refused only if every build has said what the event takes and it fits none of that; whatever is not known is accepted,
and the run finds out. Schemas are read when a payload first needs them, and so many are kept.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from aiki_server.model.keys import EventKey, SchemaKey
from aiki_server.model.payload_schema import Misfit, PayloadSchema, Steps, read
from aiki_server.model.workers import Registration
from aiki_server.store.connections import Pool
from aiki_server.store.queries import event_schemas
from aiki_server.store.queries.event_schemas import EventSchema

Version = tuple[str, str]
MOST_READ: Final = 512
"""Schemas that a server keeps in the form in which it checks them: some 20 MB, if all are as large as they may be."""
MOST_OF_AN_EVENT: Final = 16
"""Different schemas of one event in a namespace. One with more is not checked: each payload would be held against all of them."""


class Read(NamedTuple):
    """A schema as it was sent, and as payloads are held against it."""

    text: str
    schema: PayloadSchema


class Takes(NamedTuple):
    """What an event takes: for each combination of schemas the versions that have it, and by the digest of each schema a row that has it."""

    versions: Mapping[frozenset[str], list[Version]]
    schemas: Mapping[str, EventSchema]


def digest_of(text: str) -> str:
    """By which a schema is known."""
    return hashlib.sha256(text.encode()).hexdigest()


def known(entries: Iterable[Registration], rows: Iterable[EventSchema]) -> dict[str, Takes]:
    """By event, what it takes: only of versions of which every build that carries them has said so."""
    carriers: dict[Version, set[tuple[str, str]]] = {}
    for entry in entries:
        carriers.setdefault((entry.workflow, entry.version), set()).add((entry.pool, entry.build))
    said: dict[tuple[str, Version], tuple[set[tuple[str, str]], set[str]]] = {}
    schemas: dict[str, dict[str, EventSchema]] = {}
    for row in rows:
        places, digests = said.setdefault((row.event, (row.workflow, row.version)), (set(), set()))
        places.add((row.pool, row.build))
        digests.add(row.digest)
        schemas.setdefault(row.event, {})[row.digest] = row
    found: dict[str, Takes] = {}
    for (event, version), (places, digests) in said.items():
        if carriers.get(version, set()) <= places and len(schemas[event]) <= MOST_OF_AN_EVENT:
            takes = found.setdefault(event, Takes({}, schemas[event]))
            takes.versions.setdefault(frozenset(digests), []).append(version)  # type: ignore[attr-defined]  # it is a dict while it is made
    return found


class EventSchemas:
    """Of all namespaces of a server. One per engine; `replace` is told what the registry has read."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._takes: dict[EventKey, Takes] = {}
        self._read: OrderedDict[SchemaKey, Read] = OrderedDict()

    def replace(self, takes: Mapping[str, Mapping[str, Takes]]) -> None:
        """From now on, this is what events take, by namespace and event."""
        self._takes = {EventKey(namespace, event): found for namespace, events in takes.items() for event, found in events.items()}

    def knows(self, namespace: str, event: str) -> bool:
        """Whether a payload of such an event is to be held against anything."""
        return EventKey(namespace, event) in self._takes

    async def read(self, namespace: str, event: str) -> dict[str, Read]:
        """By digest, the schemas of an event."""
        takes = self._takes.get(EventKey(namespace, event))
        if takes is None:
            return {}
        missing = [row for digest, row in takes.schemas.items() if SchemaKey(namespace, digest) not in self._read]
        if missing:
            async with self._pool.acquire() as db:
                texts = await event_schemas.texts(db, missing)
            for digest, text in texts.items():
                self._read[SchemaKey(namespace, digest)] = Read(text, read(text))
        found: dict[str, Read] = {}
        for digest in takes.schemas:
            if (one := self._read.get(key := SchemaKey(namespace, digest))) is not None:
                self._read.move_to_end(key)
                found[digest] = one
        while len(self._read) > MOST_READ:
            self._read.popitem(last=False)
        return found

    def misfits(self, namespace: str, event: str, wrong: Mapping[str, Misfit | None]) -> dict[Version, Misfit]:
        """The versions that do not take a payload; `wrong` has by digest what is wrong with it."""
        takes = self._takes.get(EventKey(namespace, event))
        found: dict[Version, Misfit] = {}
        if takes is None or all(misfit is None for misfit in wrong.values()):
            return found
        for digests, versions in takes.versions.items():
            reasons = [reason for digest in sorted(digests) if (reason := wrong.get(digest)) is not None]
            if len(reasons) == len(digests):
                found |= dict.fromkeys(versions, max(reasons, key=lambda reason: len(reason.place)))
        return found


def held_against(schemas: Mapping[str, Read], payload: Any) -> dict[str, Misfit | None]:
    """By digest, what is wrong with a payload."""
    steps = Steps()
    return {digest: one.schema.misfit(payload, steps) for digest, one in schemas.items()}
