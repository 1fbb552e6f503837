"""The names of tasks, workflows, versions and events, checked where they are defined."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from hashlib import sha256
from types import FrameType
from typing import Any

from aiki.protocol import NAME_PATTERN

_NAME = re.compile(NAME_PATTERN.removesuffix("$"))


def checked_name(kind: str, name: object) -> str:
    """The name, if it is one."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a {kind}: letters, digits and . _ : - after a letter or digit, at most 255 characters")
    return name


def stable_hash(kind: str, name: str) -> int:
    """The hash of what has this name, the same in every process: that of a str is not."""
    return int.from_bytes(sha256(f"{kind}:{name}".encode()).digest()[:7])


def place_of(function: Callable[..., Any]) -> str:
    """Where a function is defined, as `file:line`."""
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)


def calling_place() -> str:
    """Where the code stands that called into Aiki or asyncio, as `file:line`."""
    return _place(_innermost_of_users(sys._getframe(1)))  # noqa: SLF001  the interpreter's own name for it


def place_in_thread(thread: int) -> str:
    """Where the code stands that a thread runs, as `file:line`: the user's innermost line, or without one whatever is innermost."""
    innermost = sys._current_frames().get(thread)  # noqa: SLF001  the interpreter's own name for it
    return _place(_innermost_of_users(innermost) or innermost)


def is_user_code(frame: FrameType) -> bool:
    """Whether a frame is neither Aiki's own nor asyncio's."""
    return str(frame.f_globals.get("__name__", "")).split(".", 1)[0] not in _OURS


def _innermost_of_users(frame: FrameType | None) -> FrameType | None:
    while frame is not None and not is_user_code(frame):
        frame = frame.f_back
    return frame


def _place(frame: FrameType | None) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "?"


_OURS = frozenset({"aiki", "asyncio", "concurrent", "contextlib", "contextvars", "selectors", "socket", "subprocess", "threading"})
