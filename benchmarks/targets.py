"""What the project asks of itself: a figure, what it must not exceed or fall short of, and what it aims at."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.measures import Figures


@dataclass(frozen=True, slots=True)
class Target:
    """One line of the table; `at_least` figures are rates, the others costs."""

    label: str
    workload: str
    figure: str
    aim: float
    must: float
    unit: str
    at_least: bool = False

    def verdict(self, results: dict[str, Figures]) -> str:
        """`aim`, `must` or `missed`."""
        value = results[self.workload][self.figure]
        if self.at_least:
            return "aim" if value >= self.aim else "must" if value >= self.must else "missed"
        return "aim" if value <= self.aim else "must" if value <= self.must else "missed"


TARGETS = (
    Target("W1 batch, CPU per run without the client", "w1_batch", "cpu_ms_per_run", 0.5, 0.9, "ms"),
    Target("W1 single starts, CPU per run without the client", "w1_single", "cpu_ms_per_run", 1.0, 1.6, "ms"),
    Target("W1 batch", "w1_batch", "runs_per_s", 2_000, 1_000, "runs/s", at_least=True),
    Target("W1 single starts", "w1_single", "runs_per_s", 600, 400, "runs/s", at_least=True),
    Target("W2 one step, p50", "w2_one", "p50_ms", 4, 8, "ms"),
    Target("W2 each further step, p50", "w2_further", "p50_ms", 1.5, 3, "ms"),
    Target("W3 200 children", "w3_children", "p50_ms", 300, 800, "ms"),
    Target("W7 twice the parallel steps, worker's CPU", "w7", "steps_ratio", 2.2, 2.6, "x"),
    Target("W7 twice the children, worker's CPU", "w7", "children_ratio", 2.2, 2.6, "x"),
    Target("W4 lateness, p50", "w4", "p50_ms", 20, 60, "ms"),
    Target("W4 lateness, p99", "w4", "p99_ms", 150, 500, "ms"),
    Target("W5 event to completed, p50", "w5", "p50_ms", 5, 10, "ms"),
    Target("idle server and worker", "idle", "server_and_worker_percent", 1, 2, "% of a core"),
)
