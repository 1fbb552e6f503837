"""Exit codes that scripts can branch on, and the one way a command fails.

A command raises `Failure` with what went wrong and what to do next; nothing else prints errors.
"""

from __future__ import annotations

from enum import IntEnum

from aiki.protocol import explained_at


class Exit(IntEnum):
    """What the shell sees. 2 is also what a wrong option gives, 130 an interrupt."""

    OK = 0
    RUN_FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    CONFLICT = 5
    UNAUTHORIZED = 6
    REFUSED = 7
    TIMEOUT = 8
    MISSING_PART = 9
    INTERRUPTED = 130


EXPLAINED = """\
Exit codes: 0 done, 1 the run failed or was cancelled, 2 wrong usage, 3 no such run, 4 server not reachable,
5 conflict (the run has ended, the ref is taken), 6 token missing or wrong, 7 refused by the server,
8 still not finished at the time-out, 9 a part is not installed, 130 interrupted.
"""


class Failure(Exception):
    """A command cannot do what it was asked; `hint` says what to do instead, and `link` leads to the documents."""

    def __init__(self, code: Exit, message: str, hint: str | None = None, *, link: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.link = link or explained_at("Failure")
