"""Events: what comes to a run from outside, by name and with a typed payload.

`Event("paid", Payment)` takes what fits `Payment`; `Event("poke", None)` has no payload; `Event("note")` takes any JSON.
"""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar, overload

from aiki.errors import PayloadError
from aiki.values.codec import Codec
from aiki.values.names import checked_name, stable_hash
from aiki.values.twice import Origin, origin_of_caller, refuse_second

T = TypeVar("T")


class Event(Generic[T]):
    """A named kind of message: `Event("email_verified", dict)`. Sent with `handle.send(event, payload)`, awaited with `run.wait(event)`.

    `payload` is the type of what is sent with it. Without one, any JSON fits. With `None` the event has no payload: a request without one, or with
    null, fits, and nothing else does.
    """

    __slots__ = ("codec", "name", "origin")

    @overload
    def __init__(self: Event[None], name: str, payload: None) -> None: ...
    @overload
    def __init__(self, name: str, payload: type[T]) -> None: ...
    @overload
    def __init__(self: Event[Any], name: str, payload: object = Any) -> None: ...
    def __init__(self, name: str, payload: Any = Any) -> None:
        self.name: Final = checked_name("event", name)
        self.codec: Final[Codec[T]] = Codec(payload)
        self.origin: Final = origin_of_caller()
        refuse_second(self.called, self.origin, self._origin_of_another)

    @property
    def called(self) -> str:
        """What messages call it."""
        return f"event {self.name}"

    @property
    def accepts(self) -> str:
        """What fits it, as messages say it."""
        if self.codec.scalar is type(None):
            return "no payload, which is null"
        return "any JSON" if self.codec.annotation is Any else f"a payload of {self.codec.annotation!r}"

    def encode(self, payload: Any) -> str:
        """The payload as the JSON text that is sent. PayloadError, which names the event, if it does not fit."""
        try:
            text = self.codec.encode(payload)
            self.codec.decode_text(text)
            return text
        except PayloadError as error:
            raise PayloadError(f"{self.called} takes {self.accepts}: {error}") from error

    def same(self, other: Event[Any]) -> bool:
        """Whether the other one has this name and this payload."""
        return self.name == other.name and bool(self.codec.annotation == other.codec.annotation)

    def _origin_of_another(self, value: object) -> Origin | None:
        return value.origin if isinstance(value, Event) and value.name == self.name and not self.same(value) else None

    def __hash__(self) -> int:
        return stable_hash("event", self.name)

    def __repr__(self) -> str:
        return f"Event({self.name!r})"
