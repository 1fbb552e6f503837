"""How many requests were answered, how, and in what time: by route, so that there are as many figures as routes, whatever is asked."""

from __future__ import annotations

from starlette.types import Scope

from aiki_server.engine.runtime.histogram import Histogram

ROUTE = "aiki.route"
"""Where the hot routes leave theirs in the ASGI scope; FastAPI leaves its own."""
OTHER = "other"
METHODS = frozenset({"GET", "POST", "PUT", "DELETE"})
CLASSES = {1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}
GONE = "gone"
"""Whoever asked went away before there was an answer."""


class Traffic:
    """One per app."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str], Histogram] = {}
        """By method and route: from the head of the request to the end of the answer."""
        self.answers: dict[tuple[str, str, str], int] = {}
        """By method, route and class of status."""

    def note(self, scope: Scope, status: int, seconds: float) -> None:
        """A request was answered with this status; 0 where it was not."""
        method: str = scope["method"] if scope["method"] in METHODS else OTHER
        route: str = scope.get(ROUTE) or getattr(scope.get("route"), "path", None) or OTHER
        if (histogram := self.seconds.get((method, route))) is None:
            histogram = self.seconds[method, route] = Histogram()
        histogram.observe(seconds)
        key = (method, route, CLASSES.get(status // 100, GONE))
        self.answers[key] = self.answers.get(key, 0) + 1
