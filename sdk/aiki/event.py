"""Events: what comes to a run from outside, by name and with a typed payload."""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar, overload

from aiki.codec import Codec
from aiki.names import checked_name

T = TypeVar("T")


class Event(Generic[T]):
    """A named kind of message: `Event("email_verified", dict)`. Sent with `handle.send(event, payload)`, awaited with `run.wait(event)`."""

    __slots__ = ("codec", "name")

    @overload
    def __init__(self, name: str, payload: type[T]) -> None: ...
    @overload
    def __init__(self: Event[Any], name: str, payload: object = Any) -> None: ...
    def __init__(self, name: str, payload: Any = Any) -> None:
        self.name: Final = checked_name("event", name)
        self.codec: Final[Codec[T]] = Codec(payload)

    def __repr__(self) -> str:
        return f"Event({self.name!r})"
