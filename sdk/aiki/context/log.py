"""`run.log`: what workflow code has to say, said once: while replaying it is silent.

It has whatever a logger or an adapter of `logging` has, and it never changes a run: what cannot be shown is shown as well as it can be, what
handlers raise goes to standard error, and every answer is the same live and in replay. What is shown, and where, are settings of the worker's:
here they have the same values in every process, and setting them does nothing. Messages are put together in replay, too, so
that what the arguments do when they are shown happens alike. The pure execution hands each line to whoever drives it.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace, TracebackType
from typing import Any, Final

DEBUG: Final = 10
INFO: Final = 20
WARNING: Final = 30
ERROR: Final = 40
CRITICAL: Final = 50

NAME: Final = "aiki.run"
"""The logger that workers hand the lines to."""
_MISSING: Final = object()
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


class _Voice:
    """What a run's log and those that were made of it have in common."""

    __slots__ = ("silent", "sink")

    def __init__(self, sink: LogSink) -> None:
        self.sink = sink
        self.silent = False


class _Setting:
    """An attribute that a logger has and that is the worker's business: the same for every run, whatever is assigned to it."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __get__(self, log: object, owner: type | None = None) -> Any:
        """Anew each time: what is put into it does nothing either."""
        return self._make()

    def __set__(self, log: object, value: object) -> None:
        """Nothing: code must not go another way where it is read again."""


class RunLog:
    """Messages in the manner of `logging` (`%` arguments are optional), with fields as keywords or in `extra`."""

    __slots__ = ("_bound", "_voice")

    disabled = _Setting(lambda: False)
    filters = _Setting(list)
    handlers = _Setting(list)
    level = _Setting(lambda: 1)
    manager = _Setting(lambda: None)
    merge_extra = _Setting(lambda: True)
    parent = _Setting(lambda: None)
    propagate = _Setting(lambda: True)

    def __init__(self, sink: LogSink | _Voice, bound: Mapping[str, Any] | None = None) -> None:
        self._voice = sink if isinstance(sink, _Voice) else _Voice(sink)
        self._bound = bound or {}

    @property
    def silent(self) -> bool:
        """Whether the run is being replayed."""
        return self._voice.silent

    @silent.setter
    def silent(self, on: bool) -> None:
        self._voice.silent = on

    def debug(self, message: object = _MISSING, /, *args: object, **fields: Any) -> None:
        """What a developer wants to know."""
        self._say(DEBUG, message, args, fields)

    def info(self, message: object = _MISSING, /, *args: object, **fields: Any) -> None:
        """What happened."""
        self._say(INFO, message, args, fields)

    def warning(self, message: object = _MISSING, /, *args: object, **fields: Any) -> None:
        """What should be looked at."""
        self._say(WARNING, message, args, fields)

    def warn(self, message: object = _MISSING, /, *args: object, **fields: Any) -> None:
        """The old name of `warning`."""
        self._say(WARNING, message, args, fields)

    def error(self, message: object = _MISSING, /, *args: object, **fields: Any) -> None:
        """What went wrong."""
        self._say(ERROR, message, args, fields)

    def exception(self, message: object = _MISSING, /, *args: object, exc_info: _ExcInfo = True, **fields: Any) -> None:
        """What went wrong, with the traceback of the exception that is being handled."""
        self._say(ERROR, message, args, fields | {"exc_info": exc_info})

    def critical(self, message: object = _MISSING, /, *args: object, **fields: Any) -> None:
        """What must be looked at now."""
        self._say(CRITICAL, message, args, fields)

    def fatal(self, message: object = _MISSING, /, *args: object, **fields: Any) -> None:
        """The old name of `critical`."""
        self._say(CRITICAL, message, args, fields)

    def log(self, level: int | str = INFO, message: object = _MISSING, /, *args: object, **fields: Any) -> None:
        """At a level by its number or name."""
        self._say(_LEVELS.get(level.upper(), INFO) if isinstance(level, str) else level, message, args, fields)

    def bind(self, **fields: Any) -> RunLog:
        """A log that adds these fields to every line."""
        return RunLog(self._voice, {**self._bound, **fields})

    def getChild(self, suffix: object) -> RunLog:  # noqa: N802  the name in `logging`
        """A log whose lines have the field `logger`, the name of the child."""
        return self.bind(logger=f"{self.name}.{_shown(suffix)}")

    @property
    def name(self) -> str:
        """The name of the logger that a worker hands the lines to, or what `getChild` made of it."""
        name = self._bound.get("logger")
        return name if type(name) is str else NAME

    @name.setter
    def name(self, name: object) -> None:
        """Nothing, as of a `_Setting`."""

    @property
    def extra(self) -> dict[str, Any]:
        """The fields that were bound."""
        return dict(self._bound)

    @extra.setter
    def extra(self, extra: object) -> None:
        """Nothing, as of a `_Setting`."""

    @property
    def logger(self) -> RunLog:
        """Itself: an adapter has one beneath it."""
        return self

    @logger.setter
    def logger(self, logger: object) -> None:
        """Nothing, as of a `_Setting`."""

    root = logger

    def process(self, msg: object, kwargs: Any) -> tuple[object, Any]:
        """What an adapter makes of a message and its keywords: the same."""
        return msg, kwargs

    def handle(self, record: Any) -> None:
        """Say what a record of `logging` says."""
        fields = {} if (trace := getattr(record, "exc_info", None)) is None else {"exc_info": trace}
        self._say(getattr(record, "levelno", INFO), getattr(record, "msg", record), _arguments(getattr(record, "args", ())), fields)

    callHandlers = handle  # noqa: N815  the name in `logging`

    def makeRecord(  # noqa: N802, PLR0917  as in `logging`
        self,
        name: str,
        level: int,
        fn: str,
        lno: int,
        msg: object,
        args: Any,
        exc_info: Any,
        func: Any = None,
        extra: Any = None,
        sinfo: Any = None,
    ) -> SimpleNamespace:
        """For `handle`: what of a record of `logging` is the same in every process."""
        record = {"name": name, "levelno": level, "pathname": fn, "lineno": lno, "msg": msg, "args": args, "exc_info": exc_info}
        given = {str(key): value for key, value in extra.items()} if isinstance(extra, Mapping) else {}
        return SimpleNamespace(**{**record, "funcName": func, "stack_info": sinfo, **given})

    def findCaller(self, stack_info: bool = False, stacklevel: int = 1) -> tuple[str, int, str, None]:  # noqa: N802, ARG002  as in `logging`
        """Unknown: where code stands is not the same from release to release."""
        return "(unknown file)", 0, "(unknown function)", None

    def filter(self, record: object) -> bool:  # noqa: ARG002  as in `logging`
        """Always: see `isEnabledFor`."""
        return True

    def isEnabledFor(self, level: object) -> bool:  # noqa: N802, ARG002  the name in `logging`
        """Always: what a worker shows is a matter of its settings, and code must not go another way where they are others."""
        return True

    def getEffectiveLevel(self) -> int:  # noqa: N802  the name in `logging`
        """The lowest, for the same reason."""
        return 1

    def hasHandlers(self) -> bool:  # noqa: N802  the name in `logging`
        """Always, for the same reason."""
        return True

    def getChildren(self) -> set[RunLog]:  # noqa: N802  the name in `logging`
        """None, for the same reason."""
        return set()

    def setLevel(self, level: object) -> None:  # noqa: N802  the name in `logging`
        """Nothing, for the same reason; nor do the four that follow."""

    def addHandler(self, hdlr: object) -> None:  # noqa: N802  the name in `logging`
        """Nothing."""

    def removeHandler(self, hdlr: object) -> None:  # noqa: N802  the name in `logging`
        """Nothing."""

    def addFilter(self, filter: object) -> None:  # noqa: N802  the name in `logging`
        """Nothing."""

    def removeFilter(self, filter: object) -> None:  # noqa: N802  the name in `logging`
        """Nothing."""

    def _say(self, level: object, message: object, args: tuple[object, ...], fields: dict[str, Any]) -> None:
        if message is _MISSING:  # by its name, as `logging` takes it
            message, level = fields.pop("msg", ""), fields.pop("level", level)
            level = _LEVELS.get(level.upper(), INFO) if isinstance(level, str) else level
        text = _text(message, args)
        if self._voice.silent:
            return
        exc_info, stack_info = fields.pop("exc_info", None), fields.pop("stack_info", False)
        stacklevel, extra = fields.pop("stacklevel", 1), fields.pop("extra", None)
        try:
            if self._bound or isinstance(extra, Mapping):
                fields = {**self._bound, **(extra if isinstance(extra, Mapping) else {}), **fields}
            trace = _traceback(exc_info) or ("".join(traceback.format_stack(sys._getframe(2))) if stack_info else None)  # noqa: SLF001
            self._voice.sink(
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


def _arguments(args: object) -> tuple[object, ...]:
    """Of a record: nothing, a tuple, or the one mapping that was passed."""
    return args if isinstance(args, tuple) else (args,) if args else ()


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
