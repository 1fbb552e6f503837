"""When a failed task runs again.

A policy is a value; `delay` is pure: the caller brings the random number. Exponential delays have full jitter, so that a
thousand runs that failed together do not come back together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from aiki.errors import NonRetryable, leaves
from aiki.values.duration import LONGEST_SECONDS, Delay, seconds


@dataclass(frozen=True, slots=True)
class Retry:
    """How often, and after which delays, a task is tried. Made by `exponential`, `fixed` or `never`."""

    max_attempts: int
    base_delay: float
    max_delay: float
    factor: float
    jitter: bool
    non_retryable: tuple[type[BaseException], ...]

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts is {self.max_attempts}: the first attempt counts, so it is at least 1")
        if not 0 <= self.base_delay <= self.max_delay <= LONGEST_SECONDS:
            raise ValueError(
                f"delays from {self.base_delay} s to {self.max_delay} s: they are not negative, max_delay is not below base_delay, "
                f"and at most {LONGEST_SECONDS} s (a thousand years)"
            )
        if not isinstance(self.non_retryable, tuple):
            raise TypeError(f"non_retryable is {self.non_retryable!r}: it is a tuple of exception classes")
        if not 0 < self.factor < math.inf:
            raise ValueError(f"factor is {self.factor}: delays are multiplied by it, so it is a number above 0")

    @classmethod
    def exponential(
        cls,
        *,
        max_attempts: int = 5,
        base_delay: Delay = 1.0,
        max_delay: Delay = 60.0,
        factor: float = 2.0,
        non_retryable: tuple[type[BaseException], ...] = (),
    ) -> Retry:
        """Delays that grow by `factor` from `base_delay` up to `max_delay` seconds, each shortened at random (full jitter)."""
        return cls(max_attempts, seconds(base_delay), seconds(max_delay), factor, True, non_retryable)

    @classmethod
    def fixed(cls, *, max_attempts: int = 5, delay: Delay = 1.0, non_retryable: tuple[type[BaseException], ...] = ()) -> Retry:
        """The same delay before every attempt."""
        return cls(max_attempts, seconds(delay), seconds(delay), 1.0, False, non_retryable)

    @classmethod
    def never(cls) -> Retry:
        """One attempt."""
        return cls(1, 0.0, 0.0, 1.0, False, ())

    def retries(self, error: BaseException, attempt: int) -> bool:
        """Whether another attempt follows attempt number `attempt` (from 1), which raised `error`."""
        if attempt >= self.max_attempts:
            return False
        final: tuple[type[BaseException], ...] = (NonRetryable, *self.non_retryable)
        return not isinstance(error, final) and not any(isinstance(leaf, final) for leaf in leaves(error))

    def delay(self, attempt: int, random: float) -> float:
        """Seconds from the failure of attempt number `attempt` to the next; `random` is in [0, 1)."""
        try:
            longest = min(self.max_delay, self.base_delay * self.factor ** (attempt - 1))
        except OverflowError:
            longest = self.max_delay
        return longest * random if self.jitter else longest
