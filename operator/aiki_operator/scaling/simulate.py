"""`python -m aiki_operator.scaling.simulate TRACE`: what the autoscaler would do on a trace of arrivals, second by second.

A trace is CSV or JSON with `at` (seconds from the start), `runs` (how many arrive then) and optionally `seconds` (how
long each takes). Pods take `--start` seconds until they serve; a pod that goes finishes what it runs. The decisions are
those of the operator: the same function, the same settings.
"""

from __future__ import annotations

import argparse
import csv
import heapq
import itertools
import json
import math
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from aiki_operator.scaling.autoscale import (
    Demand,
    LoadRates,
    ScaledBuild,
    ScalingDecision,
    ScalingInputs,
    ScalingPolicy,
    ScalingState,
    decide,
)

ARRIVAL_WINDOW = 60.0
SERVICE_WINDOW = 300.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """`runs` runs that come at `at` and take `seconds` each."""

    at: float
    runs: int
    seconds: float


@dataclass(frozen=True, slots=True)
class SimulatedSecond:
    """One line of the result; `late` is the longest wait in the queue so far."""

    at: int
    queued: int
    running: int
    replicas: int
    target: int
    late: float
    reason: str


@dataclass(slots=True)
class SimulatedPool:
    """A pool of pods and a queue, advanced a second at a time."""

    policy: ScalingPolicy
    start_seconds: float
    pods: list[float] = field(default_factory=list)  # when each became or becomes ready
    queue: deque[tuple[float, float]] = field(default_factory=deque)
    running: list[float] = field(default_factory=list)  # ends, a heap
    arrived: deque[tuple[float, int]] = field(default_factory=deque)
    served: deque[tuple[float, float]] = field(default_factory=deque)
    late: float = 0.0

    def arrive(self, arrival: Arrival) -> None:
        """Runs join the queue."""
        self.queue.extend((arrival.at, arrival.seconds) for _ in range(arrival.runs))
        self.arrived.append((arrival.at, arrival.runs))

    def work(self, now: float) -> None:
        """Ends what is done by `now` and starts what has a slot."""
        while self.running and self.running[0] <= now:
            heapq.heappop(self.running)
        free = sum(1 for ready in self.pods if ready <= now) * self.policy.concurrency - len(self.running)
        for _ in range(min(free, len(self.queue))):
            at, seconds = self.queue.popleft()
            self.late = max(self.late, now - at)
            self.served.append((now + seconds, seconds))
            heapq.heappush(self.running, now + seconds)

    def resize(self, target: int, now: float) -> None:
        """New pods start; idle ones go, a busy one never."""
        needed = -(-len(self.running) // self.policy.concurrency)
        while len(self.pods) > max(target, needed):
            self.pods.pop()
        while len(self.pods) < target:
            self.pods.append(now + self.start_seconds)

    def reading(self, now: float) -> ScalingInputs:
        """What the server would report."""
        while self.arrived and self.arrived[0][0] <= now - ARRIVAL_WINDOW:
            self.arrived.popleft()
        while self.served and self.served[0][0] <= now - SERVICE_WINDOW:
            self.served.popleft()
        ended = [seconds for end, seconds in self.served if end <= now]
        rates = LoadRates(sum(runs for _, runs in self.arrived) / ARRIVAL_WINDOW, sum(ended) / len(ended) if ended else None)
        busy = -(-len(self.running) // self.policy.concurrency)
        demand = Demand(queued=len(self.queue), running=len(self.running), busy_workers=busy)
        return ScalingInputs((ScaledBuild("sim", len(self.pods), demand),), rates)


def simulate(policy: ScalingPolicy, trace: Sequence[Arrival], *, seconds: int, start_seconds: float = 3.0) -> Iterator[SimulatedSecond]:
    """The pool's life on the trace, one value a second."""
    world, state = SimulatedPool(policy, start_seconds), ScalingState()
    coming = deque(sorted(trace, key=lambda arrival: arrival.at))
    for tick in range(seconds):
        now = float(tick)
        while coming and coming[0].at <= now:
            world.arrive(coming.popleft())
        world.work(now)
        decision, state = decide(policy, state, world.reading(now), now)
        yield _line(tick, world, decision)
        world.resize(decision.replicas, now)


def _line(tick: int, world: SimulatedPool, decision: ScalingDecision) -> SimulatedSecond:
    return SimulatedSecond(
        tick, len(world.queue), len(world.running), len(world.pods), decision.replicas, world.late, decision.targets[0].reason
    )


class BadTrace(ValueError):
    """The trace cannot be read; the message says where and what is expected."""


def read_trace(text: str, *, seconds: float) -> list[Arrival]:
    """A trace from CSV with a header, or a JSON list of objects; `seconds` where a line names none."""
    trace = [_arrival(number, row, seconds) for number, row in enumerate(_rows(text), start=1)]
    if not trace:
        raise BadTrace("the trace is empty: it needs a line `at,runs,seconds` and one line for each arrival")
    return trace


def _rows(text: str) -> list[Any]:
    if not text.lstrip().startswith(("[", "{")):
        return list(csv.DictReader(text.strip().splitlines(), skipinitialspace=True))
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadTrace(f"the trace is not JSON: {error}") from error
    if not isinstance(rows, list):
        raise BadTrace('a JSON trace is a list of objects: [{"at": 0, "runs": 5, "seconds": 2}]')
    return rows


def _arrival(number: int, row: Any, seconds: float) -> Arrival:
    if not isinstance(row, Mapping) or row.get("at") in (None, ""):
        raise BadTrace(
            f"arrival {number} has no `at`: a CSV trace begins with the line `at,runs,seconds`, JSON has objects with these names"
        )
    runs = _number(number, row, "runs", default=1.0)
    if not runs.is_integer():
        raise BadTrace(f"arrival {number}: `runs` is {row['runs']!r}, not a whole number")
    return Arrival(_number(number, row, "at", default=0.0), int(runs), _number(number, row, "seconds", default=seconds))


def _number(number: int, row: Mapping[str, Any], name: str, *, default: float) -> float:
    if row.get(name) in (None, ""):
        return default
    try:
        value = float(row[name])
    except (TypeError, ValueError) as error:
        raise BadTrace(f"arrival {number}: `{name}` is {row[name]!r}, not a number") from error
    if not 0 <= value < math.inf:
        raise BadTrace(f"arrival {number}: `{name}` is {row[name]!r}; it must be 0 or more")
    return value


def write(lines: Sequence[SimulatedSecond], out: TextIO, *, every: bool) -> None:
    """A table: each change of size, or every second, and a summary."""
    out.write(f"{'second':>6} {'queued':>7} {'running':>7} {'pods':>5} {'target':>6}  why\n")
    shown = None
    for line in lines:
        if every or line.target != shown:
            out.write(f"{line.at:>6} {line.queued:>7} {line.running:>7} {line.replicas:>5} {line.target:>6}  {line.reason}\n")
        shown = line.target
    changes = sum(1 for before, after in itertools.pairwise(lines) if before.target != after.target)
    pod_seconds = sum(line.replicas for line in lines)
    out.write(
        f"{changes} changes, {pod_seconds} pod-seconds, longest wait {lines[-1].late:.0f} s, most pods {max(line.replicas for line in lines)}\n"
    )


def arguments() -> argparse.ArgumentParser:
    """The command line; the settings have the names and defaults of the AikiWorkerPool."""
    parser = argparse.ArgumentParser(
        prog="python -m aiki_operator.scaling.simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trace", type=Path, help="CSV (at,runs,seconds) or JSON; - reads standard input")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long a run takes where the trace does not say")
    parser.add_argument("--until", type=_positive, help="length of the simulation; default: five minutes after the last arrival")
    parser.add_argument("--start", type=float, default=3.0, help="seconds until a new pod serves")
    parser.add_argument("--min", type=int, default=0, dest="minimum")
    parser.add_argument("--max", type=_positive, default=10, dest="maximum")
    parser.add_argument("--concurrency", type=_positive, default=10)
    parser.add_argument("--utilization-percent", type=_positive, default=80)
    parser.add_argument("--backlog-seconds", type=_positive, default=30)
    parser.add_argument("--stabilization-seconds", type=float, default=60)
    parser.add_argument("--every", action="store_true", help="a line for every second, not only for changes")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the trace and prints what would happen."""
    parser = arguments()
    chosen = parser.parse_args(argv)
    if not 0 <= chosen.minimum <= chosen.maximum:
        parser.error(f"--min {chosen.minimum} must lie between 0 and --max {chosen.maximum}")
    try:
        text = sys.stdin.read() if str(chosen.trace) == "-" else chosen.trace.read_text()
        trace = read_trace(text, seconds=chosen.seconds)
    except (OSError, UnicodeDecodeError, BadTrace) as error:
        parser.error(str(error))
    policy = ScalingPolicy(
        chosen.minimum,
        chosen.maximum,
        chosen.concurrency,
        utilization=chosen.utilization_percent / 100,
        backlog_seconds=chosen.backlog_seconds,
        stabilization_seconds=chosen.stabilization_seconds,
    )
    last = max(arrival.at for arrival in trace)
    lines = list(simulate(policy, trace, seconds=chosen.until or int(last) + 300, start_seconds=chosen.start))
    write(lines, sys.stdout, every=chosen.every)


if __name__ == "__main__":
    main()
