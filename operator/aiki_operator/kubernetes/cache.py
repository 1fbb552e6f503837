"""What is in the cluster, as the watches last said: custom resources, workloads and pods, found by owner.

Every object has a resource version, and an older one never replaces a newer one: so the answer to our own write, a
watch and a listing can arrive in any order. `relist` heals whatever a watch has missed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from aiki_operator.names import POOL_KIND, POOL_LABEL, SERVER_KIND, SERVER_LABEL

Json = Mapping[str, Any]


class Key(NamedTuple):
    """Identifies an object."""

    kind: str
    namespace: str
    name: str


def key_of(body: Json) -> Key:
    """The key of an object."""
    return Key(body["kind"], body["metadata"].get("namespace", ""), body["metadata"]["name"])


def owner_of(body: Json) -> Key | None:
    """The custom resource that an object of ours was made for, by its labels."""
    meta = body["metadata"]
    labels = meta.get("labels") or {}
    for kind, label in ((POOL_KIND, POOL_LABEL), (SERVER_KIND, SERVER_LABEL)):
        if label in labels:
            return Key(kind, meta.get("namespace", ""), labels[label])
    return None


class ClusterCache:
    """The objects."""

    def __init__(self) -> None:
        self._objects: dict[Key, Json] = {}
        self._owned: defaultdict[Key, dict[Key, Json]] = defaultdict(dict)

    def put(self, body: Json) -> bool:
        """Keeps an object unless a newer one is known; says whether anything changed."""
        key = key_of(body)
        known = self._objects.get(key)
        if known is not None and version_of(known) >= version_of(body):
            return False
        self._objects[key] = body
        if (owner := owner_of(body)) is not None:
            self._owned[owner][key] = body
        return True

    def drop(self, key: Key) -> None:
        """Forgets an object that is gone."""
        body = self._objects.pop(key, None)
        if body is not None and (owner := owner_of(body)) is not None:
            self._owned[owner].pop(key, None)

    def __len__(self) -> int:
        return len(self._objects)

    def relist(self, kind: str, items: Iterable[Json], version: int, *, namespace: str | None) -> None:
        """Takes a complete listing of a namespace, or of all: what it lacks is gone, unless it is younger than the listing."""
        listed = {key_of(item): item for item in items}
        for item in listed.values():
            self.put(item)
        here = [key for key in self._objects if key.kind == kind and namespace in (None, key.namespace) and key not in listed]
        for key in here:
            if version_of(self._objects[key]) <= version:
                self.drop(key)

    def get(self, key: Key) -> Json | None:
        """An object."""
        return self._objects.get(key)

    def all(self, kind: str) -> list[Json]:
        """All objects of a kind."""
        return [body for key, body in self._objects.items() if key.kind == kind]

    def owned(self, owner: Key, kind: str) -> list[Json]:
        """The objects of a kind that were made for a custom resource."""
        return [body for key, body in self._owned.get(owner, {}).items() if key.kind == kind]


def differs_in_status_only(known: Json | None, body: Json) -> bool:
    """Whether nobody has to look at a custom resource again: all that was written since is its status, and that we write ourselves."""
    return known is not None and _asked(known) == _asked(body)


def _asked(body: Json) -> tuple[Any, Json]:
    """What people ask for with an object."""
    meta = {name: value for name, value in body["metadata"].items() if name not in ("resourceVersion", "managedFields")}
    return body.get("spec"), meta


def version_of(body: Json) -> int:
    """The resource version, which only grows."""
    return int(body["metadata"].get("resourceVersion", 0))
