"""`run.state`: a small dictionary that people can read over HTTP while the run sleeps.

Workflow code writes it, replay writes it again; it is stored whole with the commit in which it changed.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from aiki.codec import ANY, dumps, loads


class State(MutableMapping[str, Any]):
    """JSON values by name. They are written to JSON, all of them, when one is assigned, so an error names the line."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._stored = "{}"

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        written = loads(ANY.encode(value))
        dumps(self._values | {key: written})
        self._values[key] = written

    def __delitem__(self, key: str) -> None:
        del self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"State({self._values!r})"

    def change(self) -> str | None:
        """The text of the whole if it is not what was last stored; it then counts as stored."""
        if not self._values and self._stored == "{}":
            return None
        text = dumps(self._values)
        if text == self._stored:
            return None
        self._stored = text
        return text
