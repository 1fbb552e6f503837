"""What a history amounts to: the specification that S12 is checked against."""

from __future__ import annotations

from typing import Any


def folded(entries: list[dict[str, Any]]) -> set[str]:
    """The statuses that a history allows."""
    statuses = {"scheduled", "queued", "running"}
    for entry in entries:
        match entry["k"]:
            case "queued":
                statuses = {"queued", "running"}
            case "parked":
                statuses = {"waiting"}
            case "paused":
                statuses = {"paused"}
            case "completed" | "cancelled" as end:
                statuses = {end}
            case "failed_run":
                statuses = {"failed"}
    return statuses
