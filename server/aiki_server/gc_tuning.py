"""Garbage collection for a server: rarely, and never of what was there at the start.

CPython's collector looks at every young object after 700 allocations. Reference counts free nearly everything in a server; what is
left in cycles can wait. The threshold is lower than that of a worker, because others wait meanwhile: looking at 50,000 objects
holds the loop for 30 to 70 ms, if somebody makes sure that they are in cycles. It costs no more in all.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 8_000
"""Containers allocated, net of those freed, before the collector looks."""
SURVIVING_ROUNDS = 5
"""And after so many rounds at what was left of them."""
OLD_ROUNDS = 20


def collect_rarely() -> None:
    """Set the collector of this process up; call it once, when everything has been imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, SURVIVING_ROUNDS, OLD_ROUNDS)
