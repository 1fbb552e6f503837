"""The names of streams and channels in Redis. Pure; docs/internals/protocol.md has the same names."""

from __future__ import annotations

DONE = "aiki:done:"


def stream(namespace: str, pool: str, workflow: str, version: str, build: str | None) -> str:
    """The stream of a workflow version in a pool; the braces keep a pool's streams in one slot of Redis Cluster."""
    name = f"aiki:{{{namespace}:{pool}}}:{workflow}:{version}"
    return f"{name}@{build}" if build else name


def inbox_channel(namespace: str, worker: str) -> str:
    """Where a worker hears that something came in for one of its runs."""
    return f"aiki:inbox:{namespace}:{worker}"


def streams_pattern(namespace: str) -> str:
    """What all keys of a namespace match, and none of another: a namespace has no colon, and no character that means something in a pattern."""
    return f"aiki:{{{namespace}:*"


def inbox_channels(namespace: str) -> str:
    """What the inbox channels of all workers of a namespace match."""
    return inbox_channel(namespace, "*")


def done_channel(namespace: str) -> str:
    """Where replicas hear of runs that ended."""
    return f"{DONE}{namespace}"
