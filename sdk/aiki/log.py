"""`run.log`: what workflow code has to say, said once: while replaying it is silent.

It has what a logger of `logging` has for saying things, and it never changes a run: what cannot be shown is shown as well as it can be, what
handlers raise goes to standard error, and every answer is the same live and in replay. Messages are put together in replay, too, so
that what the arguments do when they are shown happens alike. The pure execution hands each line to whoever drives it.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

DEBUG: Final = 10
INFO: Final = 20
WARNING: Final = 30
ERROR: Final = 40
CRITICAL: Final = 50

_LEVELS: Final = {
    "DEBUG": DEBUG,
    "INFO": INFO,
    "WARNING": WARNING,
    "WARN": WARNING,
    "ERROR": ERROR,
    "CRITICAL": CRITICAL,
    "FATAL": CRITICAL,
}
_ExcInfo = bool | BaseException | tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None] | None


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line. `level` is as in `logging`; `stacklevel` is how many frames above the call of `run.log` it is said to come from, from 1."""

    level: int
    message: str
    fields: Mapping[str, Any]
    traceback: str | None
    stacklevel: int


LogSink = Callable[[LogLine], None]
"""Called by `RunLog._say`, which was called by the method that workflow code called: two frames below that code."""


class RunLog:
    """Messages in the manner of `logging` (`%` arguments are optional), with fields as keywords or in `extra`."""

    __slots__ = ("_sink", "silent")

    def __init__(self, sink: LogSink) -> None:
        self._sink = sink
        self.silent = False

    def debug(self, message: object, /, *args: object, **fields: Any) -> None:
        """What a developer wants to know."""
        self._say(DEBUG, message, args, fields)

    def info(self, message: object, /, *args: object, **fields: Any) -> None:
        """What happened."""
        self._say(INFO, message, args, fields)

    def warning(self, message: object, /, *args: object, **fields: Any) -> None:
        """What should be looked at."""
        self._say(WARNING, message, args, fields)

    def warn(self, message: object, /, *args: object, **fields: Any) -> None:
        """The old name of `warning`."""
        self._say(WARNING, message, args, fields)

    def error(self, message: object, /, *args: object, **fields: Any) -> None:
        """What went wrong."""
        self._say(ERROR, message, args, fields)

    def exception(self, message: object, /, *args: object, exc_info: _ExcInfo = True, **fields: Any) -> None:
        """What went wrong, with the traceback of the exception that is being handled."""
        self._say(ERROR, message, args, fields | {"exc_info": exc_info})

    def critical(self, message: object, /, *args: object, **fields: Any) -> None:
        """What must be looked at now."""
        self._say(CRITICAL, message, args, fields)

    def fatal(self, message: object, /, *args: object, **fields: Any) -> None:
        """The old name of `critical`."""
        self._say(CRITICAL, message, args, fields)

    def log(self, level: int | str, message: object, /, *args: object, **fields: Any) -> None:
        """At a level by its number or name."""
        self._say(_LEVELS.get(level.upper(), INFO) if isinstance(level, str) else level, message, args, fields)

    def isEnabledFor(self, level: int, /) -> bool:  # noqa: N802, ARG002  the name in `logging`
        """Always: what a worker shows is a matter of its settings, and code must not go another way where they are others."""
        return True

    def getEffectiveLevel(self) -> int:  # noqa: N802  the name in `logging`
        """The lowest, for the same reason."""
        return 1

    def _say(self, level: object, message: object, args: tuple[object, ...], fields: dict[str, Any]) -> None:
        text = _text(message, args)
        if self.silent:
            return
        exc_info, stack_info = fields.pop("exc_info", None), fields.pop("stack_info", False)
        stacklevel, extra = fields.pop("stacklevel", 1), fields.pop("extra", None)
        if isinstance(extra, Mapping):
            fields = {**extra, **fields}
        try:
            trace = _traceback(exc_info) or ("".join(traceback.format_stack(sys._getframe(2))) if stack_info else None)  # noqa: SLF001
            self._sink(
                LogLine(
                    level if type(level) is int else INFO,
                    text,
                    fields,
                    trace,
                    stacklevel if type(stacklevel) is int and stacklevel > 0 else 1,
                )
            )
        except Exception:  # noqa: BLE001  user code: a handler or filter, or what an exception says of itself
            traceback.print_exc(file=sys.stderr)


def _text(message: object, args: tuple[object, ...]) -> str:
    try:
        text = str(message)
        if not args:
            return text
        return text % (args[0] if len(args) == 1 and isinstance(args[0], Mapping) and args[0] else args)
    except Exception as error:  # noqa: BLE001  user code: what its arguments do when they are shown
        told = ", ".join(map(_repr, args))
        return f"{_shown(message)} ({told}) [these do not fit together: {type(error).__name__}]"


def _shown(value: object) -> str:
    return value if type(value) is str else _repr(value)


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001  user code: its __repr__
        return f"<{type(value).__name__}.__repr__ raised {type(error).__name__}>"


def _traceback(exc_info: Any) -> str | None:
    if not exc_info:
        return None
    error = exc_info if isinstance(exc_info, BaseException) else exc_info[1] if isinstance(exc_info, tuple) else sys.exception()
    return "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else None
