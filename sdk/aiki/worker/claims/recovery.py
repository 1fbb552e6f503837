"""Whether the server may have granted runs that this worker does not know of.

So it is after a claim whose answer was lost: heartbeats would keep such runs from everybody. The request may even lie somewhere, in a frozen
server or in a proxy, and be carried out later; and a run that is being given back counts as held though it may have been granted anew. So
one question is not enough: it is repeated until no old request can be on its way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from typing import Final

RECOVERY_SECONDS: Final = 60.0
"""Twice as long as a client waits for an answer."""
ASK_AGAIN_SECONDS: Final = 2.0


class ClaimRecovery:
    """`due` says when a claim should ask for what was granted besides; `lost` and `asked` are told how claims end."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = -inf
        self._asked_at = inf

    @property
    def should_ask(self) -> bool:
        """Whether the next claim should ask."""
        return self._clock() - self._asked_at >= ASK_AGAIN_SECONDS

    def claim_failed(self) -> None:
        """A claim was not answered."""
        self._since = self._clock()
        self._asked_at = -inf

    def answered(self) -> None:
        """A claim that asked was answered."""
        now = self._clock()
        self._asked_at = now if now - self._since < RECOVERY_SECONDS else inf
