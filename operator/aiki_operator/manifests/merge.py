"""A user's pod template over ours: maps merge, lists of named things merge by name, everything else is replaced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEYS = ("mountPath", "name")
"""What tells the items of a list apart, as in Kubernetes' own strategic merge: a volume may be mounted at two paths."""


def merge(ours: Any, theirs: Any) -> Any:
    """`theirs` over `ours`, neither changed; a null in `theirs` removes the member."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        merged = {name: merge(ours[name], value) if name in ours else value for name, value in theirs.items() if value is not None}
        return {**{name: value for name, value in ours.items() if name not in theirs}, **merged}
    if isinstance(ours, list) and isinstance(theirs, list) and (key := key_of(ours + theirs)):
        return _merge_lists(ours, theirs, key)
    return theirs


def key_of(items: list[Any]) -> str | None:
    """The member that names every one of the items, if there is one."""
    return next(
        (key for key in KEYS if items and all(isinstance(item, Mapping) and isinstance(item.get(key), str) for item in items)), None
    )


def _merge_lists(ours: list[Any], theirs: list[Any], key: str) -> list[Any]:
    over = {item[key]: item for item in theirs}
    kept = [merge(item, over.pop(item[key])) if item[key] in over else item for item in ours]
    return [*kept, *over.values()]
