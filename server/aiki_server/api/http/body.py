"""Reading a request's body within its limits, and checking it against a wire model without losing payload text."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import from_json, to_json
from starlette.requests import ClientDisconnect, Request

from aiki.protocol import MAX_PAYLOAD_BYTES, MAX_REQUEST_BYTES, Wire
from aiki_server.api.http.errors import MOST_SHOWN, ApiError, invalid
from aiki_server.api.http.strict_json import InvalidJsonError, Member, check_depth, read_object, text_of

Model = TypeVar("Model", bound=Wire)
SHORT_BYTES = 64 * 1024
"""Of a body that holds no more than a few names and numbers."""
LISTING_BYTES = 2 * 1024 * 1024
"""Of a body that holds lists of names."""
MOST_LISTED_MEMBERS = 5_000
"""Of all objects in such a body."""
_JSON = re.compile(rb'application/json\s*(;\s*charset\s*=\s*"?utf-8"?\s*)?', re.IGNORECASE)
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


async def read(request: Request, *, limit: int = MAX_REQUEST_BYTES) -> bytes:
    """The body of a request that says it is JSON, up to `limit` bytes."""
    content_type = length = None
    for name, value in request.scope["headers"]:
        if name == b"content-type":
            content_type = value
        elif name == b"content-length":
            length = value
    if content_type is None or not _JSON.fullmatch(content_type):
        raise ApiError(415, "Send the body as application/json.")
    if length is not None and int(length) > limit:
        raise _too_large(limit)
    return await _received(request, limit)


def is_empty(request: Request) -> bool:
    """Whether a request has no body. Many clients name a content type all the same."""
    headers = request.headers
    return headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers


async def _received(request: Request, limit: int) -> bytes:
    message = await request.receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > limit:
            raise _too_large(limit)
        return body
    parts, size = [body], len(body)
    while message.get("more_body", False):
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise _too_large(limit)
    return b"".join(parts)


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"A request has at most {limit:,} bytes.")


async def listed(request: Request, model: type[Model], *, members: int = MOST_LISTED_MEMBERS) -> Model:
    """The model of a body that holds lists of names: neither it nor what may be wrong with it is long."""
    raw = await read(request, limit=LISTING_BYTES)
    if raw.count(b'":') > members or raw.count(b",") > 10 * MOST_LISTED_MEMBERS:
        raise ApiError(422, "The body has more members than anything that could be meant.")
    return parsed(model, raw)


async def short(request: Request, model: type[Model]) -> Model:
    """The model of a body that holds a few names and numbers."""
    return parsed(model, await read(request, limit=SHORT_BYTES))


def members(body: bytes) -> dict[str, Member]:
    """The members of a body that is an object."""
    try:
        return read_object(text_of(body))
    except InvalidJsonError as error:
        raise malformed(error) from None


def malformed(error: InvalidJsonError) -> ApiError:
    """What a body that is no acceptable JSON is answered with."""
    return ApiError(400, f"The body is not acceptable JSON: {error}.")


def validated(model: type[Model], found: dict[str, Member], *, payload: str | None = None) -> Model:
    """The model of these members, the member `payload` left out: that one is opaque."""
    try:
        return model.model_validate_json(
            "{" + ",".join(f"{_quoted(key)}:{member.raw}" for key, member in found.items() if key != payload) + "}", strict=True
        )
    except ValidationError as error:
        raise invalid(error) from None


def parsed(model: type[Model], raw: bytes) -> Model:
    """The model of a body without opaque members."""
    try:
        return model.model_validate_json(raw, strict=True)
    except ValidationError as error:
        if len(raw) > SHORT_BYTES or not _is_whole_number(error):
            raise invalid(error) from None
    # JSON Schema calls `80.0` an integer as well; nearly nobody writes it so.
    try:
        return model.model_validate_json(to_json(_with_whole_numbers(from_json(raw))), strict=True)
    except ValidationError as error:
        raise invalid(error) from None


def _is_whole_number(error: ValidationError) -> bool:
    if error.error_count() > MOST_SHOWN:
        return False
    wrong = error.errors(include_url=False, include_context=False)
    return all(one["type"] == "int_type" and isinstance(one["input"], float) and one["input"].is_integer() for one in wrong)


def _with_whole_numbers(value: Any) -> Any:
    """The value with every `80.0` as `80`."""
    if isinstance(value, dict):
        return {key: _with_whole_numbers(member) for key, member in value.items()}
    if isinstance(value, list):
        return list(map(_with_whole_numbers, value))
    return int(value) if isinstance(value, float) and value.is_integer() else value


def payload_text(found: dict[str, Member], name: str) -> str:
    """The text of an opaque member, within the limits of payloads; `null` where it is missing."""
    member = found.get(name)
    if member is None:
        return "null"
    try:
        check_depth(member.raw, member.value)
    except InvalidJsonError as error:
        raise malformed(error) from None
    if len(member.raw) > MAX_PAYLOAD_BYTES // 4 and len(member.raw.encode()) > MAX_PAYLOAD_BYTES:
        raise ApiError(413, f"`{name}` has more than {MAX_PAYLOAD_BYTES:,} bytes.")
    return member.raw


def instant_of(found: dict[str, Member], name: str, parsed_at: datetime | None) -> datetime | None:
    """The instant that pydantic read, if it was written as RFC 3339 with an offset."""
    if parsed_at is None:
        return None
    text = found[name].value
    if not isinstance(text, str) or not _RFC_3339.fullmatch(text) or parsed_at.tzinfo is None:
        raise ApiError(422, f"`{name}` is no instant. Write it like 2030-01-31T09:00:00Z.")
    try:
        parsed_at.astimezone(UTC)
    except OverflowError:
        raise ApiError(422, f"`{name}` is beyond the year 9999 of UTC, or before its year 1.") from None
    return parsed_at


def _quoted(key: str) -> str:
    # A key that the model knows needs no escapes; any other is refused, whatever it is called.
    return f'"{key}"' if key.isidentifier() and key.isascii() else '"?"'
