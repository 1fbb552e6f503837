"""Ids of runs: shard (2 hex digits), creation time in ms (12), randomness (18). They sort by time within a shard.

Two ids of the same millisecond differ in 72 random bits.
"""

from __future__ import annotations

import secrets
import time
from uuid import UUID

SHARD = "00"


def new_run_id() -> UUID:
    """An id for a run that is created now."""
    return UUID(int=((time.time_ns() // 1_000_000) & 0xFFFF_FFFF_FFFF) << 72 | secrets.randbits(72))
