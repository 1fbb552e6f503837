"""What went wrong on the way to a server, in words that a person can act on."""

from __future__ import annotations

import json

import aiohttp

NO_JSON = "the answer is not JSON: something else than the API answers at this address"


def explain(error: Exception) -> str:
    """One sentence about an error of the network, without the names of Python's classes."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return f"the name {error.host} cannot be resolved"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return f"the TLS connection to {error.host}:{error.port} cannot be made: {_cause(error)}"
        case aiohttp.ClientConnectorError():
            return f"nothing listens at {error.host}:{error.port}, or the way there is blocked: {_cause(error)}"
        case TimeoutError():
            return "there was no answer in time"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError() | ConnectionError():
            return "the connection was closed before the answer was complete"
        case json.JSONDecodeError() | UnicodeDecodeError():
            return NO_JSON
        case _:
            return str(error) or "the connection failed without a reason"


def _cause(error: aiohttp.ClientConnectorError) -> str:
    """What the operating system said."""
    found = error.os_error
    return (found.strerror if isinstance(found.strerror, str) else "") or str(found) or "no reason is known"
