"""What `run.wait(event, timeout=…)` answers: `Received`, with the payload, or `TimedOut`.

A payload may be anything that JSON holds, so no payload can stand for "no event came": `{}`, `0`, `""` and null are sent like any
other. Whether the event came is therefore an answer of its own, which is true if and only if it came:

    answer = await run.wait(approved, timeout=timedelta(days=3))
    if not answer:
        return "nobody approved it"
    return f"approved by {answer.payload}"

A type checker lets code read `answer.payload` only where it has looked whether the event came: `if answer:`, or a `match` with
`case Received(payload):`. mypy and pyright understand both. `answer.received` says the same as a plain bool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Received(Generic[T_co]):
    """The event came, with this payload. Always true, whatever the payload is."""

    payload: T_co
    received: ClassVar[Literal[True]] = True

    def __bool__(self) -> Literal[True]:
        return True


@dataclass(frozen=True, slots=True)
class TimedOut:
    """No event came in time. Always false; it has no payload."""

    received: ClassVar[Literal[False]] = False

    def __bool__(self) -> Literal[False]:
        return False

    if not TYPE_CHECKING:  # so that a type checker refuses what is an error here

        @property
        def payload(self) -> Any:
            """An error that says what to do."""
            raise AttributeError(
                "no event came before the timeout, so there is no payload: look first whether one came, as in `if answer:`"
            )
