"""Workflows and their versions.

A version is one function that never changes its meaning for runs that are under way; a changed one is a new version. Definitions
are values without I/O: `start` goes to the run or the client that it is given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from datetime import datetime
from inspect import Parameter, iscoroutinefunction, signature
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Protocol, TypeVar, overload

from aiki.context.run import Run
from aiki.definitions.event import Event
from aiki.definitions.task import TaskDefinition
from aiki.errors import PayloadError
from aiki.values.codec import Codec
from aiki.values.fresh import fresh
from aiki.values.names import checked_name, place_of, stable_hash
from aiki.values.signature import type_hints
from aiki.values.twice import Origin, origin_of, refuse, refuse_second

if TYPE_CHECKING:
    from aiki.client import Client, RunHandle
    from aiki.execution.loop.pending import Child

I = TypeVar("I")  # noqa: E741  the input
O = TypeVar("O")  # noqa: E741  the output

Close = Literal["cancel", "abandon"]
"""What becomes of an open child when its parent ends, or stops waiting for it."""
OnConflict = Literal["existing", "reject"]
"""What a start does if another run has its `ref`: answer with that run, or raise ApiError (409)."""


class VersionDefinition(Generic[I, O]):
    """One version of a workflow. `fn` takes the run and at most one input."""

    def __init__(self, workflow: str, version: str, fn: Callable[..., Coroutine[Any, Any, O]], *, removed: Iterable[Removed]) -> None:
        if not iscoroutinefunction(fn):
            raise TypeError(
                f"{fn.__qualname__} ({place_of(fn)}) is no `async def`: a workflow is a coroutine function of the run and one input"
            )
        self.workflow: Final = workflow
        self.version: Final = checked_name("version", version)
        self._hash: Final = stable_hash("version", f"{workflow}@{version}")
        self.fn: Final = fn
        self.origin: Final = origin_of(fn)
        self.place: Final = self.origin.place
        self.removed: Final = tuple(prefix for call in removed for prefix in _address_prefixes(call))
        parameters = list(signature(fn).parameters.values())
        if not 1 <= len(parameters) <= 2:
            raise TypeError(
                f"{fn.__qualname__} ({self.place}) takes {len(parameters)} parameters: a workflow takes the run and at most one input"
            )
        self._input_name: Final = parameters[1].name if len(parameters) == 2 else None
        self._default: Final = parameters[1].default if len(parameters) == 2 else None
        self._codecs: tuple[Codec[I], Codec[O]] | None = None
        self.__doc__ = fn.__doc__
        self.__name__ = fn.__name__
        self.__qualname__ = fn.__qualname__
        self.__module__ = fn.__module__
        self.__wrapped__ = fn
        refuse_second(self.called, self.origin, self._origin_of_another)

    @overload
    def start(
        self: VersionDefinition[None, O], target: Run, /, *, pool: str | None = None, on_parent_close: Close = "cancel"
    ) -> Child[O]: ...
    @overload
    def start(self, target: Run, input: I, /, *, pool: str | None = None, on_parent_close: Close = "cancel") -> Child[O]: ...
    @overload
    def start(
        self: VersionDefinition[None, O],
        target: Client,
        /,
        *,
        ref: str | None = None,
        on_conflict: OnConflict = "existing",
        pool: str | None = None,
        start_at: datetime | None = None,
    ) -> Awaitable[RunHandle[O]]: ...
    @overload
    def start(
        self,
        target: Client,
        input: I,
        /,
        *,
        ref: str | None = None,
        on_conflict: OnConflict = "existing",
        pool: str | None = None,
        start_at: datetime | None = None,
    ) -> Awaitable[RunHandle[O]]: ...
    def start(
        self, target: Any, input: Any = None, /, *, on_parent_close: Close | None = None, pool: str | None = None, **options: Any
    ) -> Any:
        """Starts a run: in a workflow a child (await the answer for its result), with a client a run of its own (await for its handle)."""
        if isinstance(target, Run):
            return target.calls.child(self, input, on_parent_close=_checked_child(self, on_parent_close, pool, options), pool=pool)
        if on_parent_close is not None:
            raise TypeError(f"{self!r}.start(client, on_parent_close=…): a run that a client starts has no parent; leave it out")
        return target.start(self, input, pool=pool, **options)

    def given(self, value: Any) -> Any:
        """The input of a start: a copy of the parameter's default if nothing is given, and None is no input."""
        if value is not None or self._default is None or self._default is Parameter.empty:
            return value
        try:
            self.input.encode(None)
        except PayloadError:
            return fresh(self._default)
        return None

    def call(self, run: Run, input_text: str) -> Coroutine[Any, Any, O]:
        """The coroutine of a run with this input. PayloadError where the input does not fit."""
        if self._input_name is None:
            return self.fn(run)
        try:
            given = self.given(None) if input_text == "null" else None
            value = self.input.decode_text(input_text) if given is None else given
        except PayloadError as error:
            raise PayloadError(f"the input does not fit {self._input_name}: {self.input.annotation!r} ({self.place}): {error}") from error
        return self.fn(run, value)

    @property
    def input(self) -> Codec[I]:
        """Writes and reads inputs."""
        return self._codec_pair()[0]

    @property
    def output(self) -> Codec[O]:
        """Writes and reads results."""
        return self._codec_pair()[1]

    def _codec_pair(self) -> tuple[Codec[I], Codec[O]]:
        """Made at first use: annotations may name what is defined below the function."""
        if self._codecs is None:
            hints = type_hints(self.fn)
            taken: Any = hints.get(self._input_name, Any) if self._input_name else Any
            self._codecs = Codec(taken), Codec(hints.get("return", Any))
        return self._codecs

    @property
    def called(self) -> str:
        """What messages call it."""
        return f"workflow {self.workflow} {self.version}"

    def _origin_of_another(self, value: object) -> Origin | None:
        other = (
            isinstance(value, VersionDefinition) and value is not self and (value.workflow, value.version) == (self.workflow, self.version)
        )
        return value.origin if other and isinstance(value, VersionDefinition) else None

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"<workflow {self.workflow} {self.version}>"


def _checked_child(version: VersionDefinition[Any, Any], close: Close | None, pool: str | None, options: dict[str, Any]) -> Close:
    """What a child can be given, checked at the call: the server would refuse the commit, long after it."""
    if options:
        raise TypeError(
            f"{version!r}.start(run, {next(iter(options))}=…): a child takes on_parent_close and pool; that is for a start with a client"
        )
    if close not in (None, "cancel", "abandon"):
        raise ValueError(f"{version!r}.start(run, on_parent_close={close!r}): it is 'cancel' or 'abandon'")
    if pool is not None:
        checked_name("pool", pool)
    return close or "cancel"


Removed = TaskDefinition[..., Any, Any] | VersionDefinition[Any, Any] | Event[Any] | str


class VersionDecorator(Protocol):
    """What `workflow.v(...)` returns."""

    @overload
    def __call__(self, fn: Callable[[Run], Coroutine[Any, Any, O]], /) -> VersionDefinition[None, O]: ...
    @overload
    def __call__(self, fn: Callable[[Run, I], Coroutine[Any, Any, O]], /) -> VersionDefinition[I, O]: ...


class WorkflowDefinition:
    """A workflow by name, and its versions."""

    def __init__(self, name: str) -> None:
        self.name: Final = checked_name("workflow", name)
        self._hash: Final = stable_hash("workflow", self.name)
        self.versions: Final[dict[str, VersionDefinition[Any, Any]]] = {}

    def v(self, version: str, *, removed: Iterable[Removed] = ()) -> VersionDecorator:
        """Defines a version. `removed` names calls that an older state of this code made and this one makes no more.

        Tasks, versions and events, or strings: a task's name, `event:NAME`, `child:WORKFLOW@VERSION`, `sleep`, `timer`.
        """

        def define(fn: Callable[..., Any]) -> VersionDefinition[Any, Any]:
            definition: VersionDefinition[Any, Any] = VersionDefinition(self.name, version, fn, removed=removed)
            known = self.versions.get(version)
            if known is not None and not definition.origin.again(known.origin):
                refuse(definition.called, known.origin, definition.origin)
            self.versions[version] = definition
            return definition

        return define

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"<workflow {self.name}: {', '.join(self.versions) or 'no version'}>"


def workflow(name: str) -> WorkflowDefinition:
    """A workflow; decorate its code with `.v("1.0")`."""
    return WorkflowDefinition(name)


def _address_prefixes(call: Removed) -> tuple[str, ...]:
    match call:
        case TaskDefinition():
            return (f"task:{call.name}:",)
        case VersionDefinition():
            return (f"child:{call.workflow}@{call.version}:",)
        case Event():
            return (f"event:{call.name}:",)
        case str():  # a task's name, or what a divergence says: `event:paid`, `child:flow@1.0`, `sleep`, `timer`
            return f"task:{call}:", f"{call}:" if ":" in call else f"{call}::"
