"""What a log may say (I46): no credential, and of an error no more than what it is, unless its message cannot hold what a run holds.

Everything that is written to a log passes here, in the formatters of the server and of the command line, so that no call to a logger has to think of
it. There are two ways in which secrets get into logs. A credential is part of a URL, or stands in a message of a library that was given it: every URL
loses its user and password, and what the environment names as a secret is replaced wherever it appears. A payload is in the message of an error: a failing row, a value that is no
number, a document that does not match. Such a message is written only where its maker is known to put no data into it.

Python itself writes errors without asking anybody: those that end the process or a thread, those of a finalizer, and those of a task of asyncio that
nobody waits for. `uncaught_to_log` sends the first of these to the log, and `event_of` cuts what asyncio quotes. A program that has its own formatter gets
errors of ours by `shown`, which says no more than the formatters here.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import traceback
from base64 import b64encode
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

HIDDEN = "***"
SHORTEST = 6
"""What is shorter would be found everywhere, and is guessed sooner than read."""
_URL = re.compile(r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]*://)[^\s\"'<>]*@")
SECRET_URLS = ("AIKI_DATABASE_URL", "AIKI_REDIS_URL", "AIKI_WORKER_REDIS_URL", "AIKI_URL")
SECRETS = ("AIKI_TOKENS", "AIKI_CLIENT_TOKENS", "AIKI_TOKEN", "AIKI_METRICS_TOKEN", "PGPASSWORD")
SECRET_FILES = ("AIKI_TOKENS_FILE", "AIKI_CLIENT_TOKENS_FILE")
_IN_QUERY = re.compile(r"(?<=[?&])((?:\w*password|\w*passwd|\w*token|secret)=)[^&#\s\"'<>]*", re.IGNORECASE)
"""What drivers and proxies read of the query of a URL."""
_SPOKEN = ("aiki", "aiki_server", "aiki_operator", "aiohttp", "redis")
"""Packages whose errors say what happened to a connection, or to what we ourselves asked, and never what a run holds."""
_QUOTED = re.compile(r", with args beginning with:.*|(?<=modifier )'.*'", re.DOTALL)
"""What Redis repeats of a command that it does not take: the command may be AUTH."""
_PICTURE = re.compile(r"<(\w+).*>", re.DOTALL)
"""How asyncio shows a task: with the result or the exception of its coroutine, and in debug mode with the arguments of callbacks."""
_OPERATIONAL = frozenset({"08", "25", "28", "3D", "40", "53", "55", "57", "58"})
"""Classes of Postgres's errors that are about connections, rights, locks, space and the server itself; the others may quote a row."""


class Redactor:
    """Takes secrets out of text. Made once for a process, of what its environment says."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets if len(secret) >= SHORTEST for form in _forms(secret)}
        longest_first = sorted(forms, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Redactor:
        """One that knows the passwords and tokens that the environment has."""
        return cls(_secrets(environment))

    def __call__(self, text: str) -> str:
        """The text without them."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        return without_users(text) if "://" in text else text

    def fields(self, fields: Mapping[str, object]) -> dict[str, object]:
        """The fields of an event, errors described and texts redacted."""
        return {self(str(name)): self._value(value) for name, value in fields.items()}

    def _value(self, value: object) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, BaseException):
            return self(described(value))
        if isinstance(value, str):
            return self(value)
        return json.loads(self(json.dumps(value, default=_inner)))


def without_users(text: str) -> str:
    """The text with the user and password of each URL taken out, whatever characters the password has but blanks and quotes."""
    return _IN_QUERY.sub(rf"\1{HIDDEN}", _URL.sub(rf"\1{HIDDEN}@", text))


def described(error: BaseException) -> str:
    """An error in one line: what it is, and what it says where that holds no data."""
    if isinstance(error, Shown):
        return str(error)
    name = type(error).__name__
    if (state := getattr(error, "sqlstate", None)) is not None:
        if str(state)[:2] in _OPERATIONAL:
            return f"{name} ({state}): {str(error).splitlines()[0] if str(error) else ''}"
        about = [f"{what} {found}" for what in ("table", "constraint", "column") if (found := getattr(error, f"{what}_name", None))]
        return f"{name} ({state}){': ' if about else ''}{', '.join(about)}"
    root = type(error).__module__.partition(".")[0]
    if root in _SPOKEN or isinstance(error, OSError):
        said = _QUOTED.sub("", str(error)) if root == "redis" else str(error)
        return f"{name}: {said}" if said else name
    return name


def traced(error: BaseException, *, seen: frozenset[int] = frozenset()) -> str:
    """A traceback with its causes, each error described."""
    seen |= {id(error)}
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = ""
    if cause is not None and id(cause) not in seen:
        why = "The cause of" if error.__cause__ is not None else "Before"
        before = f"{traced(cause, seen=seen)}\n\n{why} what follows.\n\n"
    text = f"{before}Traceback (most recent call last):\n{''.join(traceback.format_tb(error.__traceback__))}{described(error)}"
    if isinstance(error, BaseExceptionGroup):
        text += "".join(f"\n\nOne of them:\n{traced(one, seen=seen)}" for one in error.exceptions if id(one) not in seen)
    return text


class Shown(Exception):
    """An error as a log may show it: what it is, where it was raised, and what it says where that holds no data."""


def shown(error: BaseException) -> Exception:
    """For `exc_info`, whichever formatter the program has: the error and its causes, each described."""
    return _shown(error, {})


def event_of(record: logging.LogRecord) -> str:
    """What a record says, without the pictures that asyncio draws of tasks and callbacks."""
    said = record.getMessage()
    return _PICTURE.sub(r"<\1>", said) if record.name == "asyncio" else said


def uncaught_to_log() -> None:
    """Errors that nobody catches, for the rest of the process, go to the log like all others; Ctrl-C ends it as ever."""
    log, ended = logging.getLogger("aiki"), sys.excepthook

    def end(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if issubclass(kind, KeyboardInterrupt):
            ended(kind, error, trace)
        else:
            log.critical("the process ends by an error that nobody caught", exc_info=shown(error.with_traceback(trace)))

    def of_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
            name = None if args.thread is None else args.thread.name
            log.error("a thread has ended by an error that nobody caught", extra={"thread_name": name}, exc_info=shown(args.exc_value))

    def ignored(args: sys.UnraisableHookArgs) -> None:
        if args.exc_value is not None:
            log.error("an error that nobody can catch was ignored", exc_info=shown(args.exc_value))

    sys.excepthook, threading.excepthook, sys.unraisablehook = end, of_thread, ignored


def _shown(error: BaseException, known: dict[int, Exception]) -> Exception:
    if (before := known.get(id(error))) is not None:
        return before
    found: Exception = Shown(described(error))
    if isinstance(error, BaseExceptionGroup):
        found = ExceptionGroup(type(error).__name__, [_shown(one, known) for one in error.exceptions])
    known[id(error)] = found.with_traceback(error.__traceback__)
    if error.__cause__ is not None:
        found.__cause__ = _shown(error.__cause__, known)
    elif error.__context__ is not None and not error.__suppress_context__:
        found.__context__ = _shown(error.__context__, known)
    return found


def _inner(value: object) -> str:
    return described(value) if isinstance(value, BaseException) else str(value)


def _secrets(environment: Mapping[str, str]) -> list[str]:
    found = [password for name in SECRET_URLS for password in _passwords(environment.get(name, ""))]
    texts = [environment.get(name, "") for name in SECRETS] + [_read(environment.get(name, "")) for name in SECRET_FILES]
    for entry in re.split(r"[,\n]", "\n".join(texts)):
        # Both sides of the colon where it is not clear which of them is the token: a namespace's name is short.
        namespace, _, token = entry.strip().partition(":")
        found += [token or namespace, *([namespace] if len(namespace) > len(token) else [])]
    return found


def _read(path: str) -> str:
    try:
        return Path(path).read_text() if path else ""
    except (OSError, UnicodeDecodeError):
        return ""  # the server says of it what there is to say, and cannot start


def _passwords(url: str) -> list[str]:
    """The password of a URL, and its parts, as libraries cut it where it has characters that end something in a URL."""
    queried = [text for found in _IN_QUERY.finditer(url) for text in (found[0].partition("=")[2], unquote(found[0].partition("=")[2]))]
    user, at, _ = (url.partition("://")[2] or url).rpartition("@")
    if not at:
        return queried
    _, _, password = user.partition(":")
    return [*queried, password, unquote(password), *re.split(r"[/?#@:\[\]]", password)]


def _forms(secret: str) -> set[str]:
    coded = b64encode(secret.encode("utf-8", "surrogateescape")).decode()
    return {secret, quote(secret, safe=""), quote(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1], coded}
