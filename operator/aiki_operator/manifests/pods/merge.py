"""A user's pod template over ours: maps merge, lists of named things merge by name, everything else is replaced.

Where Kubernetes takes one of several members only (a value or a reference, one kind of probe, one kind of volume), the user's
takes the place of ours. Tolerations add up: a pod that tolerates more is still one that leaves a dead node early.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEYS = ("mountPath", "name")
"""What tells the items of a list apart, as in Kubernetes' own strategic merge: a volume may be mounted at two paths."""


EXCLUSIVE = (frozenset({"value", "valueFrom"}), frozenset({"exec", "httpGet", "tcpSocket", "grpc", "sleep"}))
"""Members of which an object may have one."""
SOLE = frozenset({"volumes", "env"})
"""Lists of things that are one thing or another: the user's of a name replaces ours."""


def merge(ours: Any, theirs: Any) -> Any:
    """`theirs` over `ours`, neither changed; a null in `theirs` removes the member."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        merged = {name: _member(name, ours[name], value) if name in ours else value for name, value in theirs.items() if value is not None}
        instead = {name for group in EXCLUSIVE if group & merged.keys() for name in group}
        return {**{name: value for name, value in ours.items() if name not in theirs and name not in instead}, **merged}
    if isinstance(ours, list) and isinstance(theirs, list) and (key := key_of(ours + theirs)):
        return _merge_lists(ours, theirs, key)
    return theirs


def _member(name: str, ours: Any, theirs: Any) -> Any:
    if name == "tolerations" and isinstance(ours, list) and isinstance(theirs, list):
        return [*theirs, *(one for one in ours if not any(_tolerates(other, one) for other in theirs))]
    if name in SOLE and isinstance(ours, list) and isinstance(theirs, list) and (key := key_of(ours + theirs)):
        return list({**{item[key]: item for item in ours}, **{item[key]: item for item in theirs}}.values())
    return merge(ours, theirs)


def _tolerates(theirs: Any, ours: Mapping[str, Any]) -> bool:
    """Whether the user has said it already for this key and effect."""
    return isinstance(theirs, Mapping) and all(theirs.get(name) == ours.get(name) for name in ("key", "effect"))


def key_of(items: list[Any]) -> str | None:
    """The member that names every one of the items, if there is one."""
    return next(
        (key for key in KEYS if items and all(isinstance(item, Mapping) and isinstance(item.get(key), str) for item in items)), None
    )


def _merge_lists(ours: list[Any], theirs: list[Any], key: str) -> list[Any]:
    over = {item[key]: item for item in theirs}
    kept = [merge(item, over.pop(item[key])) if item[key] in over else item for item in ours]
    return [*kept, *over.values()]
