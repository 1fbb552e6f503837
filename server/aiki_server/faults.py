"""Points at which a test may have the process killed: `AIKI_FAULT=after_commit:3` kills it at the third time it gets there.

Crashes between two effects are what a durable engine is for, and nothing but a real SIGKILL there shows that it holds.
Without the variable a point is one comparison.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field

POINTS = frozenset({"before_commit", "after_commit", "after_start_commit", "after_claim", "after_dispatch_commit"})


@dataclass(slots=True)
class Faults:
    """Where to be killed, if anywhere."""

    point: str = ""
    after: int = 1
    _passed: int = field(default=0, init=False)

    @classmethod
    def parse(cls, text: str) -> Faults:
        """`point` or `point:n`; an empty text means none."""
        point, _, number = text.partition(":")
        if (point and point not in POINTS) or not (number or "1").isdecimal():
            raise ValueError(f"AIKI_FAULT is no point, and no point with a number behind a colon. There are {', '.join(sorted(POINTS))}.")
        return cls(point, int(number or 1))

    def at(self, point: str) -> None:
        """Die here, if this is the place and the time."""
        if point != self.point:
            return
        self._passed += 1
        if self._passed >= self.after:
            os.kill(os.getpid(), signal.SIGKILL)
