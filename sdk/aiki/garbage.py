"""Garbage collection for a process that holds thousands of living objects: rarely, and never of what was there at the start.

CPython's collector looks at every young object after 700 allocations, and every so often at all of them; with a thousand runs in
hand that is a quarter of the CPU time. Reference counts free nearly everything here; what is left in cycles can wait.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 50_000
"""Containers allocated, net of those freed, before the collector looks; some 20 MB at the most."""

YOUNG_OBJECTS_OF_A_SERVER = 8_000
"""Where others wait meanwhile: looking at 50,000 holds the loop for 30 to 70 ms, if somebody makes sure that they are in cycles. It costs no more in all."""
SURVIVING_ROUNDS = 5
"""And after so many rounds at what was left of them."""


def collect_rarely(young: int = YOUNG_OBJECTS) -> None:
    """Sets the collector of this process up; call it once, when everything has been imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(young, SURVIVING_ROUNDS if young < YOUNG_OBJECTS else 20, 20)
