"""`run.log`: what workflow code has to say, said once: while replaying it is silent.

The pure execution hands each line to whoever drives it, which knows about log files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

LogSink = Callable[[int, str, Mapping[str, Any]], None]
"""Level (as in `logging`), message, fields."""

DEBUG: Final = 10
INFO: Final = 20
WARNING: Final = 30
ERROR: Final = 40


class RunLog:
    """Messages in the manner of `logging` (`%` arguments are optional), with fields as keywords."""

    __slots__ = ("_sink", "silent")

    def __init__(self, sink: LogSink) -> None:
        self._sink = sink
        self.silent = False

    def debug(self, message: str, *args: object, **fields: Any) -> None:
        self._say(DEBUG, message, args, fields)

    def info(self, message: str, *args: object, **fields: Any) -> None:
        self._say(INFO, message, args, fields)

    def warning(self, message: str, *args: object, **fields: Any) -> None:
        self._say(WARNING, message, args, fields)

    def error(self, message: str, *args: object, **fields: Any) -> None:
        self._say(ERROR, message, args, fields)

    def _say(self, level: int, message: str, args: tuple[object, ...], fields: Mapping[str, Any]) -> None:
        if not self.silent:
            self._sink(level, message % args if args else message, fields)
