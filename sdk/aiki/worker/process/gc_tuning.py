"""Garbage collection for a process that holds thousands of living objects: rarely, and never of what was there at the start.

CPython's collector looks at every young object after 700 allocations, and every so often at all of them; with a thousand runs in
hand that is a quarter of the CPU time. Reference counts free nearly everything here; what is left in cycles can wait.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 50_000
"""Containers allocated, net of those freed, before the collector looks; some 20 MB at the most."""
OLDER_ROUNDS = 20
"""After so many rounds at the young ones it looks at those that were left, and after so many of these at all."""


def collect_rarely() -> None:
    """Set the collector of this process up; call it once, when everything has been imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, OLDER_ROUNDS, OLDER_ROUNDS)
