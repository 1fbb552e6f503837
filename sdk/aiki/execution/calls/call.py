"""The calls of a run: what the code asked for, from its reservation until its end is handed back.

One class a kind. A call knows its address and label and how an end reaches the code; who runs it, and when, is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol

from aiki.context.received import Received, TimedOut
from aiki.errors import ChildCancelled, ChildFailed, PayloadError, StepFailed, TaskFailed
from aiki.execution.loop.loop import DurableTimer, WorkflowLoop
from aiki.execution.loop.pending import Pending
from aiki.protocol import ChildStart, ErrorInfo
from aiki.values.codec import Codec
from aiki.values.duration import spoken
from aiki.values.retry import Retry
from aiki.values.signature import Arguments

CANCELLED: Final = "Cancelled"
"""The error type that stands for a child's cancellation in the history."""


class PayloadMisfit(Exception):
    """What came for a call, or was recorded of it, is not what its annotation says; nothing was handed over."""


class Task(Protocol):
    """What a call needs to know of a task's definition."""

    @property
    def name(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def retry(self) -> Retry: ...
    @property
    def result(self) -> Codec[Any]: ...


class Call:
    """`open` until its end was handed back or the code gave it up. `due` is when a timer, or the patience of a wait, runs out.

    `reserved`: the history has its reservation.
    """

    is_task: ClassVar[bool] = False
    is_child: ClassVar[bool] = False

    __slots__ = ("address", "due", "number", "on_cancel", "open", "reserved")

    def __init__(self, address: str) -> None:
        self.address: Final = address
        self.number: int
        self.due: int | None = None
        self.open = True
        self.reserved = False
        self.on_cancel: Callable[[Call], None] | None = None

    def label(self) -> str:
        """The call as people read it."""
        raise NotImplementedError

    def succeed(self, parsed: Any) -> None:
        """Hands back a recorded value. PayloadMisfit if the annotation has another one."""
        raise NotImplementedError

    def fail(self, error: ErrorInfo) -> None:
        """Hands back a recorded failure."""
        raise NotImplementedError

    def cancel(self) -> None:
        """The code gave the call up."""
        if self.open and self.on_cancel is not None:
            self.on_cancel(self)


class LoopTimer(Call):
    """A timer of asyncio: `asyncio.sleep`, `asyncio.timeout`, `call_later`."""

    __slots__ = ("delay", "handle", "loop")

    def __init__(self, address: str, handle: DurableTimer, loop: WorkflowLoop, *, delay: int) -> None:
        super().__init__(address)
        self.handle = handle
        self.loop = loop
        self.delay = delay

    def label(self) -> str:
        return f"timer({spoken(self.delay)})"

    def succeed(self, parsed: Any) -> None:  # noqa: ARG002  a timer brings nothing
        self.loop.fire(self.handle)


class FutureCall(Call):
    """A call that the code awaits."""

    __slots__ = ("codec", "future")

    failure: ClassVar[type[StepFailed]] = StepFailed

    def __init__(self, address: str, codec: Codec[Any]) -> None:
        super().__init__(address)
        self.codec = codec
        self.future: Pending[Any]

    def succeed(self, parsed: Any) -> None:
        self._succeed(self.codec.decode, parsed)

    def succeed_text(self, text: str) -> None:
        """Hands back a value that came as JSON text. PayloadMisfit if the annotation has another one."""
        self._succeed(self.codec.decode_text, text)

    def _succeed(self, decode: Callable[[Any], Any], written: Any) -> None:
        try:
            value = decode(written)
        except PayloadError as error:
            raise PayloadMisfit(f"what {self.label()} brought does not fit {self.expected()}: {error}") from error
        self.hand_over(value)

    def expected(self) -> str:
        """What would have fitted, as messages say it."""
        return f"its annotation {self.codec.annotation!r}"

    def hand_over(self, value: Any) -> None:
        """The code goes on with this value."""
        self.future.set_result(value)

    def fail(self, error: ErrorInfo) -> None:
        self.future.set_exception(self.failure(self.label(), error))

    @property
    def child_id(self) -> str:
        """The run id of the child, where the call is one."""
        raise NotImplementedError


class Sleep(FutureCall):
    """`run.sleep` and `run.sleep_until`."""

    __slots__ = ("text",)

    def __init__(self, address: str, codec: Codec[Any], text: str) -> None:
        super().__init__(address, codec)
        self.text = text

    def label(self) -> str:
        return self.text


class Wait(FutureCall):
    """`run.wait`: `known` is the newest inbox item that was there before the code first asked.

    `limited`: the code gave a timeout, so it is told whether the event came, and not the bare payload.
    """

    __slots__ = ("event", "known", "limited")

    def __init__(self, address: str, codec: Codec[Any], event: str, *, limited: bool) -> None:
        super().__init__(address, codec)
        self.event = event
        self.known = 0
        self.limited = limited

    def succeed(self, parsed: Any) -> None:
        self._succeed(self.codec.decode_strange, parsed)

    def expected(self) -> str:
        no_payload = self.codec.scalar is type(None)
        return "its annotation None, which takes an event without payload only" if no_payload else super().expected()

    def hand_over(self, value: Any) -> None:
        self.future.set_result(Received(value) if self.limited else value)

    def expire(self) -> None:
        """No event came in time."""
        self.future.set_result(TimedOut())

    def label(self) -> str:
        return f"wait({self.event})"


class ChildCall(FutureCall):
    """A child workflow. `start` is what creates it; its id is the recorded one, once there is one. `cancel_requested`: the history says that it is to be cancelled."""

    __slots__ = ("cancel_requested", "id", "start", "text")

    is_child = True
    failure = ChildFailed

    def __init__(self, address: str, codec: Codec[Any], start: ChildStart, *, text: str) -> None:
        super().__init__(address, codec)
        self.start = start
        self.text = text
        self.id: str
        self.cancel_requested = False

    def label(self) -> str:
        return f"{self.start.workflow}({self.text})"

    def fail(self, error: ErrorInfo) -> None:
        failure = ChildCancelled if error.type == CANCELLED else ChildFailed
        self.future.set_exception(failure(self.label(), error))

    @property
    def child_id(self) -> str:
        return self.id


class TaskCall(FutureCall):
    """A task. `attempt` counts those that were recorded as failed; `running` is one that the worker has taken.

    A call whose end is recorded has no `arguments`: it runs no more.
    """

    __slots__ = ("arguments", "attempt", "label_text", "not_before", "running", "task", "texts")

    is_task = True
    failure = TaskFailed

    def __init__(self, address: str, task: Task, texts: dict[str, str]) -> None:
        super().__init__(address, task.result)
        self.task = task
        self.texts = texts
        self.arguments: Arguments
        self.attempt = 0
        self.not_before: int | None = None
        self.running = False
        self.label_text: str | None = None

    def label(self) -> str:
        if self.label_text is None:
            self.label_text = f"{self.task.name}({', '.join([f'{name}={text}' for name, text in self.texts.items()])})"
        return self.label_text
