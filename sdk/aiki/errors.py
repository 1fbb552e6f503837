"""The errors that Aiki raises, as one tree, and how an exception becomes the text that is stored.

AikiError
  + NonRetryable            raise it in a task: the task fails for good, whatever its retry policy says
  + PayloadError            a value that JSON cannot hold, or that does not fit its annotation
  + NotAllowedInWorkflow    workflow code did what only a task may do
  + StepLimit               a run made more calls than one run may make
  + TaskTimeout             an attempt of a task ran longer than the task's `timeout`
  + StepFailed              a step of a workflow failed for good
    + TaskFailed            ... which was a task
    + ChildFailed           ... which was a child workflow
      + ChildCancelled      ... which was cancelled
  + RunFailed               the run whose result was waited for has failed
  + RunCancelled            the run whose result was waited for was cancelled
  + ResultTimeout           the run whose result was waited for has not ended yet; a TimeoutError too
  + ServerUnreachable       no server answered, after retries
    + TooManyRequests       the server answered that this namespace asks for too much, after retries
  + UnexpectedAnswer        somebody answered, but not as a server of this release does
  + ApiError                the server refused the request; `problem` says why
  + Stuck                   `aiki.testing`: a simulated run waits for what will never happen

All but `Stuck` are names of `aiki`. Code that catches `AikiError` catches all of them. Two things are not in the tree: a
workflow that is cancelled gets asyncio's own `CancelledError`, and a workflow whose code no longer fits its history raises
nothing; the run is paused, and its error says what differs.

What a task raised reaches the workflow as `TaskFailed`, live and in replay alike. Only the type's name, the message and the
stack are stored, cut to size, so no exception of yours has to be picklable.
"""

from __future__ import annotations

import traceback
from typing import Any

from aiki.protocol import MAX_ERROR_MESSAGE_BYTES, MAX_ERROR_STACK_BYTES, MAX_ERROR_TYPE, ErrorInfo, Problem, explained_at

UNKNOWN_MEMBER = "extra_forbidden"
"""The type of what servers say of a member that they do not know."""
MAX_NAMED_IN_GROUP = 10
"""Of the exceptions in a group, in its message; the stack has them all."""


RUN_ERRORS = frozenset(
    {
        "BlockedLoop",
        "Cancelled",
        "CancelledError",
        "ChildCancelled",
        "ChildFailed",
        "CommitRefused",
        "Divergence",
        "NeverAwaited",
        "NotAllowedInWorkflow",
        "NothingToWaitFor",
        "PayloadError",
        "StepLimit",
        "TaskFailed",
        "TaskTimeout",
        "TwoOfOneName",
        "poisoned",
    }
)
"""The types of errors with which Aiki itself ends or pauses a run; any other type is a class of the workflow's own."""


def help_link(error: ErrorInfo | Problem | None) -> str | None:
    """Where the documents explain the error of a run, or a refusal of the server; None for an exception of the workflow's own.

    `help_link((await handle.refresh()).error)` is "https://aiki.dev/operate/troubleshooting.html#divergence" after a divergence.
    """
    match error:
        case ErrorInfo(type=kind) if kind in RUN_ERRORS:
            return explained_at(kind)
        case Problem(type=kind) if kind.startswith("urn:aiki:"):
            return explained_at(kind.removeprefix("urn:aiki:"))
        case _:
            return None


class AikiError(Exception):
    """The root of the tree. Each can be pickled, so that a process pool of yours can hand it back.

    A traceback ends with the link to the section of the documents that explains the error; `help_link` is that link.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.add_note(f"See {self.help_link}")

    @property
    def help_link(self) -> str:
        """Where the documents explain this error; for a subclass of your own, what it is a subclass of."""
        ours = next(kind for kind in type(self).__mro__ if kind.__module__.partition(".")[0] == "aiki")
        return explained_at(ours.__name__)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (type(self), self.args), self.__dict__


class NonRetryable(AikiError):
    """Raise it in a task to fail for good, whatever the task's retry policy says."""


class TaskTimeout(AikiError):
    """An attempt ran longer than its task's `timeout`."""


class PayloadError(AikiError):
    """A value that JSON cannot hold, or that does not fit its annotation; the message says where and what to change."""


class NotAllowedInWorkflow(AikiError):
    """Workflow code did what only a task may do."""


class StepLimit(AikiError):
    """A run made more calls than one run may have."""


class StepFailed(AikiError):
    """A task or child failed for good. `type`, `message` and `stack` are those of the original exception."""

    def __init__(self, label: str, error: ErrorInfo) -> None:
        super().__init__(f"{label} failed: {error.type}: {error.message}")
        self.label = label
        self.error = error

    @property
    def type(self) -> str:
        """The name of the original exception's class."""
        return self.error.type


class TaskFailed(StepFailed):
    """A task failed for good: its retries are used up, or the error was not retryable."""


class ChildFailed(StepFailed):
    """A child workflow ended as failed."""


class ChildCancelled(ChildFailed):
    """A child workflow ended as cancelled."""


class RunFailed(AikiError):
    """A run that was waited for ended as failed."""

    def __init__(self, run_id: str, error: ErrorInfo) -> None:
        self.run_id = run_id
        self.error = error
        super().__init__(f"run {run_id} failed: {error.type}: {error.message}")

    @property
    def help_link(self) -> str:
        """Of the error with which the run ended, if it is one of Aiki's."""
        return help_link(self.error) or super().help_link


class RunCancelled(AikiError):
    """A run that was waited for ended as cancelled."""

    def __init__(self, run_id: str, error: ErrorInfo | None = None) -> None:
        super().__init__(f"run {run_id} was cancelled" + (f": {error.message}" if error else ""))
        self.run_id = run_id
        self.error = error


class ResultTimeout(AikiError, TimeoutError):
    """A run had not ended when the caller's patience did. The run goes on."""


class ServerUnreachable(AikiError):
    """No server answered, after retries."""


class TooManyRequests(ServerUnreachable):
    """The server asks to be left alone for `seconds`, and still does after retries."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class UnexpectedAnswer(AikiError):
    """Somebody answered, but not as an Aiki server of this release does."""


class ApiError(AikiError):
    """The server refused a request. `problem` is its problem document."""

    def __init__(self, problem: Problem) -> None:
        wrong = "; ".join(map(_wrong, problem.errors or []))
        if any(error.get("type") == UNKNOWN_MEMBER for error in problem.errors or ()):
            # What this release sends has no other members than its own, so a server that does not know one is older.
            wrong += ". The server is of an earlier release than this program: upgrade servers first, then workers and clients."
        self.problem = problem
        super().__init__(f"{problem.status} {problem.title}: {problem.detail} {wrong}".rstrip())

    @property
    def help_link(self) -> str:
        """Of this kind of refusal."""
        return help_link(self.problem) or super().help_link

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status


def _wrong(error: dict[str, Any]) -> str:
    place = ".".join(map(str, error.get("loc", ())))
    said = str(error.get("msg", error))
    return f"{place}: {said}" if place else said


def _unpickled(kind: type[AikiError], args: tuple[Any, ...]) -> AikiError:
    """Without `__init__`, which makes the message of other things than the message."""
    made = kind.__new__(kind, *args)
    made.args = args  # a TimeoutError with an `__init__` of its own has its arguments from there
    return made


def error_info(error: BaseException, *, retryable: bool = True) -> ErrorInfo:
    """What is stored of an exception: cut to the limits, whatever its `__str__` does."""
    return ErrorInfo(
        type=clean(type(error).__qualname__)[:MAX_ERROR_TYPE], message=_message(error), stack=_stack(error), retryable=retryable
    )


def error_named(type_name: str, message: str, *, retryable: bool = False) -> ErrorInfo:
    """An error of Aiki's own that was never raised."""
    return ErrorInfo(type=type_name, message=cut(clean(message), MAX_ERROR_MESSAGE_BYTES), retryable=retryable)


def cut(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8: the beginning and the end of the text, with a mark between them."""
    data = text.encode()
    if len(data) <= limit:
        return text
    mark = f"\n… [cut: {len(data)} bytes] …\n".encode()
    head = (limit - len(mark)) // 2
    tail = limit - len(mark) - head
    return (_whole(data[:head]) + mark + _whole(data[-tail:])).decode()


def clean(text: str) -> str:
    """The text without what a database or a UTF-8 encoder refuses: lone surrogates and NUL are shown escaped."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


def leaves(error: BaseException) -> list[BaseException]:
    """The exceptions that an exception stands for: of a group those in it, and in the groups in it."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in leaves(inner)]


def _message(error: BaseException) -> str:
    text = _said(error)
    if isinstance(error, BaseExceptionGroup):
        inner = leaves(error)
        told = "; ".join(f"{type(leaf).__qualname__}: {_said(leaf)}" for leaf in inner[:MAX_NAMED_IN_GROUP])
        text = f"{text}: {told}" + (f"; and {len(inner) - MAX_NAMED_IN_GROUP} more" if len(inner) > MAX_NAMED_IN_GROUP else "")
    return cut(clean(text), MAX_ERROR_MESSAGE_BYTES)


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001  user code: an exception's own __str__
        return f"<{type(error).__qualname__}.__str__ raised {type(broken).__qualname__}>"


def _stack(error: BaseException) -> str | None:
    if error.__traceback__ is None:
        return None
    lines = traceback.TracebackException.from_exception(error, limit=-50, compact=True).format()
    return cut(clean("".join(lines)), MAX_ERROR_STACK_BYTES)


def _whole(data: bytes) -> bytes:
    """Without the half characters that a cut leaves at either end."""
    return data.decode("utf-8", "ignore").encode()
