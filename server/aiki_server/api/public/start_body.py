"""The bodies of starts, read: what is wanted, the text of the input, and what makes two starts the same. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

from aiki.protocol import MAX_BATCH, StartRequest
from aiki_server.api.http import body
from aiki_server.api.http.errors import ApiError
from aiki_server.api.http.strict_json import (
    InvalidJsonError,
    Member,
    TooLongError,
    read_array,
    read_members,
    read_object,
    read_value,
    text_of,
)


def _read_run(text: str, index: int) -> tuple[Any, int]:
    return read_members(text, index) if text[index : index + 1] == "{" else read_value(text, index)


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_BATCH = {"runs": read_array(_read_run, limit=MAX_BATCH)}


class ReadStart(NamedTuple):
    """A start as it was asked for; `input` is JSON text, `digest` is there where it has a ref."""

    wanted: StartRequest
    start_at: datetime | None
    input: str
    digest: str | None


def read_start(raw: bytes) -> ReadStart:
    """The body of POST /runs."""
    return _read(body.members(raw))


def read_starts(raw: bytes) -> list[ReadStart]:
    """The body of POST /runs:batch."""
    try:
        found = read_object(text_of(raw), _BATCH)
    except TooLongError:
        raise _not_a_batch() from None
    except InvalidJsonError as error:
        raise body.malformed(error) from None
    runs = found["runs"].value if found.keys() == {"runs"} else None
    if not isinstance(runs, list) or not 1 <= len(runs) <= MAX_BATCH or not all(isinstance(run, dict) for run in runs):
        raise _not_a_batch()
    return list(map(_read, runs))


def _not_a_batch() -> ApiError:
    return ApiError(422, f"The body has one member `runs`: a list of 1 to {MAX_BATCH:,} starts.")


def _read(found: dict[str, Member]) -> ReadStart:
    wanted = body.validated(StartRequest, found, payload="input")
    payload = body.payload_text(found, "input")
    start_at = body.instant_of(found, "start_at", wanted.start_at)
    return ReadStart(wanted, start_at, payload, _digest(wanted, found, start_at) if wanted.ref is not None else None)


def _digest(wanted: StartRequest, found: Mapping[str, Member], start_at: datetime | None) -> str:
    """What makes two starts the same: equal values, however they are spelled."""
    value: Any = found["input"].value if "input" in found else None
    told = [wanted.workflow, wanted.version, wanted.pool, start_at.isoformat() if start_at else None, value]
    return sha256(_canonical(told).encode()).hexdigest()
