"""Bodies of the public API, where payloads are plain members.

Read with the standard library's JSON: it takes numbers of any length and lone surrogates as they were written, which pydantic's own parser does not.
Written around the payload's text, so that the limits are those of the payload alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from aiki.errors import PayloadError, UnexpectedAnswer
from aiki.protocol import MAX_BATCH, MAX_REQUEST_BYTES
from aiki.values.codec import loads

Model = TypeVar("Model", bound=BaseModel)

ENVELOPE_BYTES: Final = 1_024


def read(model: type[Model], body: bytes) -> Model:
    """The answer that a body holds. UnexpectedAnswer where it is something else: a proxy's page, or of another release."""
    try:
        return model.model_validate(loads(body.decode()))
    except (ValueError, PayloadError) as error:
        reason = str(error).partition("\n")[0]
        raise UnexpectedAnswer(
            f"what came back is no {model.__name__} of Aiki ({reason}): is this the URL of an Aiki server, of this release?"
        ) from error


def with_payload(members: Mapping[str, Any], name: str, text: str) -> bytes:
    """An object of these members, and of one that holds the JSON text."""
    return f"{json.dumps(members)[:-1]},{json.dumps(name)}:{text}}}".encode()


def made_id() -> str:
    """A name for a request that has none, so that it can be sent again."""
    return f"auto:{os.urandom(12).hex()}"


def batches(items: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The items in their order, in as few lists as the limits of a request allow."""
    batch: list[bytes] = []
    size = 0
    for item in items:
        if batch and (len(batch) == MAX_BATCH or size + len(item) > MAX_REQUEST_BYTES - ENVELOPE_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item) + 1
    if batch:
        yield batch
