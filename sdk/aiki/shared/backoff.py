"""How long to wait before trying again, for everything in Aiki that repeats something: clients, workers, servers and the operator.

The longest pause doubles with each failure in a row, up to a bound. Which part of it is waited is drawn at random, from nothing to
all of it ("full jitter"). When a server comes back, a thousand callers that failed together do not return together: they are
spread over the whole pause, which empties a crowd soonest for the same number of requests
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

from __future__ import annotations

BASE_SECONDS = 0.05
MAX_SECONDS = 2.0


def backoff_seconds(failures: int, random: float, *, base_seconds: float = BASE_SECONDS, max_seconds: float = MAX_SECONDS) -> float:
    """Seconds to wait after so many failures in a row; none after none. `random` is in [0, 1): the share of the longest pause.

    `await asyncio.sleep(backoff_seconds(failures, random.random()))`
    """
    if failures < 1:
        return 0.0
    longest = min(max_seconds, base_seconds * 2.0 ** min(failures - 1, 30))
    return longest * random
