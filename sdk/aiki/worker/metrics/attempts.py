"""How the attempts of tasks ended and how long they took, counted where they are made: on the worker, in memory.

The server is told of ends, and not of every attempt: one that is given back, or that nobody waits for any more, is in no history. Names are the
code's own, and bounded all the same, because code can make tasks and classes while it runs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from math import inf
from time import perf_counter
from typing import Final

from aiki.worker.metrics.exposition import Family

SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
"""Upper bounds of the buckets: from a look-up in memory to a task of hours."""
MOST_TASKS: Final = 100
MOST_ERRORS: Final = 20
"""Tasks (each with its workflow) and kinds of error that have figures of their own; the rest is counted together."""
LONGEST_NAME: Final = 100
OTHER: Final = "other"

SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
TIMED_OUT: Final = "timed_out"
CANCELLED: Final = "cancelled"
"""Nobody waits for it any more: the code gave it up, or its run is over."""
LOST: Final = "lost"
"""Its end is not heard, and the task begins again elsewhere: the worker stops, or the run is not its any more."""


class Durations:
    """Seconds, in buckets: two additions an observation, and nothing that grows."""

    __slots__ = ("_counts", "sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(SECONDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(SECONDS, seconds)] += 1
        self.sum += seconds

    @property
    def buckets(self) -> list[tuple[float, int]]:
        """For each upper bound, how many were at most that."""
        return list(zip([*SECONDS, inf], accumulate(self._counts), strict=True))


class _Task:
    """`durations` are those of attempts that succeeded, failed or timed out; `ends` has all but the first."""

    __slots__ = ("durations", "ends")

    def __init__(self) -> None:
        self.durations = Durations()
        self.ends: dict[tuple[str, str], int] = {}

    @property
    def succeeded(self) -> int:
        """What is left of the durations, so that a success, which most attempts are, is counted in one place."""
        return self.durations.buckets[-1][1] - sum(count for (outcome, _), count in self.ends.items() if outcome in (FAILED, TIMED_OUT))


class AttemptFigures:
    """Of one worker, in its loop. An attempt is given with the task's name, its workflow's, and when it started by `perf_counter`."""

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, str], _Task] = {}
        self._errors: set[str] = set()

    def succeeded(self, workflow: str, task: str, started_at: float) -> None:
        """An attempt returned."""
        counted = self._tasks.get((workflow, task)) or self._task(workflow, task)
        counted.durations.observe(perf_counter() - started_at)

    def ended(self, workflow: str, task: str, started_at: float, *, outcome: str, error: str = "") -> None:
        """An attempt ended otherwise; `error` is the kind of what a failed one raised."""
        counted = self._tasks.get((workflow, task)) or self._task(workflow, task)
        end = (outcome, self._kind(error) if error else "")
        counted.ends[end] = counted.ends.get(end, 0) + 1
        if outcome in (FAILED, TIMED_OUT):  # how long the others would have taken is not known
            counted.durations.observe(perf_counter() - started_at)

    def families(self) -> Iterator[Family]:
        """For Prometheus."""
        ends = Family("aiki_task_attempts_total", "counter", "Attempts of tasks that ended.", ("workflow", "task", "outcome", "error"))
        durations = Family(
            "aiki_task_seconds", "histogram", "What an attempt took until it returned, failed or timed out.", ("workflow", "task")
        )
        for name, task in self._tasks.items():
            if task.succeeded:
                ends.add(*name, SUCCEEDED, "", value=task.succeeded)
            for end, count in task.ends.items():
                ends.add(*name, *end, value=count)
            if task.durations.buckets[-1][1]:
                durations.histograms.append((name, task.durations.buckets, task.durations.sum))
        yield ends
        yield durations

    def _task(self, workflow: str, task: str) -> _Task:
        full = len(self._tasks) >= MOST_TASKS or max(len(workflow), len(task)) > LONGEST_NAME
        return self._tasks.setdefault((OTHER, OTHER) if full else (workflow, task), _Task())

    def _kind(self, error: str) -> str:
        if error not in self._errors:
            if len(self._errors) >= MOST_ERRORS or len(error) > LONGEST_NAME:
                return OTHER
            self._errors.add(error)
        return error
