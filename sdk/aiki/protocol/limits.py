"""Bounds and defaults that client, worker and server have to agree on."""

from __future__ import annotations

MAX_COUNT = 2**31 - 1
"""The largest number of whatever is counted: the database keeps it in four bytes."""
MAX_REQUEST_BYTES = 4 * 1024 * 1024
MAX_COMMIT_BYTES = 3 * MAX_REQUEST_BYTES
"""Of a worker's commit: an output and a state, as text inside of JSON, where quotes and backslashes are escaped once more."""
MAX_PAYLOAD_BYTES = 2 * 1024 * 1024
MAX_JSON_DEPTH = 64
MAX_INTEGER_DIGITS = 1_000
MAX_ERROR_MESSAGE_BYTES = 8 * 1024
MAX_ERROR_STACK_BYTES = 64 * 1024
MAX_STEPS = 50_000
MAX_OPEN_EVENTS = 10_000
MAX_OPEN_EVENT_BYTES = 32 * 1024 * 1024
"""Of the events of a run that nobody has consumed: a worker reads them all before it goes on."""
MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Of what the runs of a claim bring together, or of what came in for the runs of a commit or of a question after inboxes; one item at least."""
MAX_BATCH = 1_000
MAX_DELIVERIES = 10
MAX_CONCURRENCY = 10_000
MAX_OPS = 2_000
MAX_CHILDREN = 1_000
"""Children that all ops of one commit start together."""
MAX_CANCEL_CHILDREN = 10_000
"""Children that all ops of one commit cancel together."""
MAX_CONSUMED = 60_000
"""Inbox items that all ops of one commit consume together."""
MAX_AWAITED_EVENTS = 10_000
MAX_WAITS = 1_000
MAX_ERROR_TYPE = 1_024
MAX_EVENT_SCHEMA = 4 * 1024
"""Characters of the schema of an event's payload; what is larger is not sent, and the payload not checked before the run is there."""
MAX_EVENT_SCHEMAS = 500
MAX_EVENT_SCHEMAS_TOGETHER = 128 * 1024
"""How many schemas one worker registers, and their characters."""
MIN_TOKEN_LENGTH = 8
"""A shorter token is a mistake: what was left of a variable, a name, a word to try it with."""
GOOD_TOKEN_LENGTH = 16
"""A shorter one might be guessed."""
LEASE_SECONDS = 15.0
HEARTBEAT_SECONDS = 5.0
IN_PLACE_SECONDS = 5.0
"""Retry delays up to this are waited in the worker; longer ones park the run."""


def least_token_length(namespace: str) -> int:
    """Of the token of a namespace: a short one that is shorter than the name before it may well be the name, and the name the token."""
    return max(MIN_TOKEN_LENGTH, min(GOOD_TOKEN_LENGTH, len(namespace)))
