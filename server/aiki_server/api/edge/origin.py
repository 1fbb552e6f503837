"""Where a request may come from: a browser on the same machine reaches a server on loopback for any page that it shows.

A page of anybody's can send a form here, and can give its own name this machine's address, so that the browser takes the server for the
page's own. Both show in what only the browser writes: `Host` has the page's name, `Origin` and `Sec-Fetch-Site` say that another page asks. A
server on loopback answers to the names of loopback, and to those that AIKI_ALLOWED_HOSTS lists; elsewhere, only if it lists any.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import Scope

OWN_SITE = frozenset({b"same-origin", b"none"})
"""`none`: somebody typed the address."""
STRANGE_HOST = "The Host header names a server that this one is not. Use localhost, or list the name in AIKI_ALLOWED_HOSTS where the server is started."
STRANGE_PAGE = "A web page of another origin sent this. Pages of other origins may not use this server."


class Origins:
    """Judges requests by the names that the server has; without names everything passes."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.encode() for name in names)
        self._known: set[bytes] = set()
        """Values of Host that were found right: names with ports, of which there are few."""

    def refusal(self, scope: Scope) -> str | None:
        """Why this request is not answered; None where it is."""
        if not self._names:
            return None
        host = origin = site = mode = None
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                site = value
            elif name == b"sec-fetch-mode":
                mode = value
        if host is None or not (host in self._known or self._is_ours(host)):
            return STRANGE_HOST
        if origin is not None and origin not in {b"http://" + host, b"https://" + host}:
            return STRANGE_PAGE
        if site is not None and site not in OWN_SITE and not (mode == b"navigate" and _only_reads(scope)):
            return STRANGE_PAGE
        return None

    def _is_ours(self, host: bytes) -> bool:
        name, colon, port = host.rpartition(b":")
        if not colon or not port.isdigit():
            name = host
        if name.strip(b"[]").lower() not in self._names:
            return False
        if len(self._known) < 100:
            self._known.add(host)
        return True


def _only_reads(scope: Scope) -> bool:
    """Somebody followed a link of another page: what is shown is shown to him, not to the page."""
    return bool(scope["type"] == "http" and scope["method"] == "GET")
