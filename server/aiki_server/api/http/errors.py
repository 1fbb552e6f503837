"""Errors as problem documents (RFC 9457). The one place that knows HTTP statuses of what can go wrong.

A document never repeats what was sent (I46): it names the place and the rule.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from starlette.responses import Response

TITLES: Mapping[int, tuple[str, str]] = {
    400: ("malformed", "The request is malformed"),
    401: ("unauthorized", "A valid token is needed"),
    403: ("forbidden", "The request is not allowed"),
    404: ("not-found", "There is no such thing"),
    405: ("method-not-allowed", "The method is not allowed here"),
    409: ("conflict", "The state does not allow it"),
    413: ("too-large", "The request is too large"),
    415: ("unsupported-media-type", "The content type is not application/json"),
    422: ("invalid", "The request is not valid"),
    429: ("too-many-events", "The run has too many undelivered events"),
    500: ("internal", "The server failed"),
    503: ("unavailable", "The server cannot do this now"),
}


MOST_SHOWN = 20
MOST_LISTED = 500
"""Errors that are listed at all: pydantic makes all of its list or none."""


KINDS: Mapping[str, str] = {
    "too-many-requests": "The namespace asks for too much",
    "payload-misfit": "The event does not take this payload",
}
"""Titles of kinds that are not the usual one of their status."""


@dataclass
class ApiError(Exception):
    """Ends a request with a problem document."""

    status: int
    detail: str
    errors: list[dict[str, Any]] | None = None
    kind: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


def problem(error: ApiError) -> Response:
    """The response to an error."""
    kind, title = TITLES.get(error.status, ("error", "The request failed"))
    title = KINDS.get(error.kind or kind, title)
    document: dict[str, Any] = {"type": f"urn:aiki:{error.kind or kind}", "title": title, "status": error.status, "detail": error.detail}
    if error.errors is not None:
        document["errors"] = error.errors
    return Response(json.dumps(document).encode(), error.status, headers=error.headers, media_type="application/problem+json")


def invalid(error: ValidationError) -> ApiError:
    """What a body that breaks the schema is answered with: the first errors, for a list of them all could be longer than any body."""
    count = error.error_count()
    if count > MOST_LISTED:
        return ApiError(422, f"The body does not match the schema in {count:,} places.")
    details = error.errors(include_url=False, include_context=False, include_input=False)
    if details[0]["type"] == "json_invalid":
        return ApiError(400, f"The body is no JSON: {details[0]['msg']}")
    errors = [
        {"loc": _place(detail["loc"], detail["type"]), "msg": _printable(detail["msg"]), "type": detail["type"]}
        for detail in details[:MOST_SHOWN]
    ]
    return ApiError(422, "The body does not match the schema.", errors)


def _place(loc: Sequence[int | str], kind: str) -> list[int | str]:
    """Where it is; a member that no model knows is the caller's own word."""
    return [*loc[:-1], "?"] if kind == "extra_forbidden" else list(loc)


def _printable(part: int | str) -> int | str:
    return part if isinstance(part, int) else part[:200]


def not_found(what: str) -> ApiError:
    """Unknown, or of another namespace: the answer is the same."""
    return ApiError(404, f"There is no such {what}.")


def no_token() -> ApiError:
    """Nobody is known by what the request came with."""
    return ApiError(401, "Send a valid token: Authorization: Bearer TOKEN.", headers={"WWW-Authenticate": "Bearer"})
