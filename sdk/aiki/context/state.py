"""`run.state`: a small dictionary that people can read over HTTP while the run sleeps.

Workflow code writes it, replay writes it again; it is stored whole with the commit in which it changed. What is assigned is checked at that
line. What was assigned and is changed in place is seen when it is to be stored, which is no line of the author's, so the error names the key.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from aiki.errors import PayloadError
from aiki.values.codec import ANY, dumps, loads


class State(MutableMapping[str, Any]):
    """JSON values by name. They are written to JSON, all of them, when one is assigned, so an error names the line."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._stored = "{}"

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if type(key) is not str:
            raise PayloadError(f"run.state[{key!r}]: a key is a str, because the state is read as JSON")
        written = loads(ANY.encode(value))
        dumps(self._values | {key: written})
        self._values[key] = written

    def __delitem__(self, key: str) -> None:
        del self._values[key]

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of the key, which is `default` if there was none: what is kept, so that changing it in place changes the state."""
        if key not in self._values:
            self[key] = default
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"State({self._values!r})"

    def change(self) -> str | None:
        """The text of the whole if it is not what was last said to be stored. PayloadError if it was changed to what JSON does not hold."""
        if not self._values and self._stored == "{}":
            return None
        try:
            text = dumps(self._values)
        except PayloadError as error:
            raise PayloadError(self._refused(str(error))) from error
        if text == self._stored:
            return None
        for key, value in loads(text).items():
            if value != self._values[key]:
                self._check(key)
        return text

    def stored(self, text: str) -> None:
        """Remember that `text` is on its way to the store."""
        self._stored = text

    def _check(self, key: str) -> None:
        try:
            ANY.encode(self._values[key])
        except PayloadError as error:
            raise PayloadError(_changed(key, error)) from error

    def _refused(self, reason: str) -> str:
        """Which key it is; of several that are too much together, all of them."""
        for key in self._values:
            try:
                self._check(key)
            except PayloadError as error:
                return str(error)
        return f"run.state was changed in place, and is more than can be stored: {reason}"


def _changed(key: str, error: PayloadError) -> str:
    return (
        f"run.state[{key!r}] was changed in place after it was assigned, to what JSON does not hold: {error}. "
        f"Put only JSON types into it, or assign it anew, run.state[{key!r}] = …, which is checked at that line"
    )
