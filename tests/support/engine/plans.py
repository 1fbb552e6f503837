"""What Postgres's `explain` says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A node of a plan, and everything below it."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)
