"""The page of limits and defaults: the constants of the protocol and of the SDK, in words."""

from __future__ import annotations

from aiki import protocol
from aiki.definitions.task import DEFAULT_RETRY
from aiki_server.settings import Limits

KIB, MIB = 1024, 1024 * 1024


def made() -> str:
    """The tables."""
    return "\n".join(
        [_table("What one run may have", RUN), _table("What one request may have", REQUEST), _table("Defaults", DEFAULTS), _quotas()]
    )


def _size(number: int) -> str:
    return f"{number // MIB} MiB" if number >= MIB else f"{number // KIB} KiB"


RUN = (
    ("calls (tasks, timers, events, children)", f"{protocol.MAX_STEPS:,}"),
    ("events that it has not consumed", f"{protocol.MAX_OPEN_EVENTS:,}, or {_size(protocol.MAX_OPEN_EVENT_BYTES)}"),
    ("one payload: an input, a result, an event, the state", _size(protocol.MAX_PAYLOAD_BYTES)),
    ("depth of its JSON", f"{protocol.MAX_JSON_DEPTH}"),
    ("digits of an integer", f"{protocol.MAX_INTEGER_DIGITS:,}"),
    ("the message of an error", f"{_size(protocol.MAX_ERROR_MESSAGE_BYTES)}, cut with a mark"),
    ("the stack of an error", f"{_size(protocol.MAX_ERROR_STACK_BYTES)}, cut with a mark"),
    ("deliveries to workers without any progress", f"{protocol.MAX_DELIVERIES}, then it fails as `poisoned`"),
    ("a name: of a workflow, a version, a task, an event, a pool, a ref", f"`{protocol.NAME_PATTERN}`"),
)
REQUEST = (
    ("a request", _size(protocol.MAX_REQUEST_BYTES)),
    ("a worker's commit", _size(protocol.MAX_COMMIT_BYTES)),
    ("an answer to a worker", _size(protocol.MAX_ANSWER_BYTES)),
    ("runs of a batch or of a claim", f"{protocol.MAX_BATCH:,}"),
    ("runs that a worker has at a time (`concurrency`)", f"{protocol.MAX_CONCURRENCY:,}"),
)
DEFAULTS = (
    ("attempts of a task", f"{DEFAULT_RETRY.max_attempts}"),
    (
        "delays between them",
        f"{DEFAULT_RETRY.base_delay:g} s to {DEFAULT_RETRY.max_delay:g} s, times {DEFAULT_RETRY.factor:g} each, shortened at random",
    ),
    ("time limit of an attempt", "none"),
    ("longest delay that a worker waits for itself instead of parking the run", f"{protocol.IN_PLACE_SECONDS:g} s"),
    ("silence after which a worker counts as dead", f"{protocol.LEASE_SECONDS:g} s"),
    ("heartbeats of a worker", f"each {protocol.HEARTBEAT_SECONDS:g} s"),
)


def _quotas() -> str:
    limits = Limits()
    return (
        _table(
            "Quotas of a namespace",
            (
                ("requests a second to one server", f"{limits.requests_per_second:,.0f}"),
                ("workers", f"{limits.workers:,}"),
                ("registered versions", f"{limits.registrations:,}"),
                ("runs that have not ended", f"{limits.open_runs:,}"),
                ("large bodies and answers under way", _size(limits.namespace_bytes)),
            ),
        )
        + "\n[Settings](settings.md#a-server) has the variables that change them.\n"
    )


def _table(title: str, rows: tuple[tuple[str, str], ...]) -> str:
    return "\n".join([f"## {title}\n", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""])
