"""`make bench`: W1 to W7, idle and the floor on one installation made for the purpose, with fsync on.

Run it on a quiet machine. The exit status is 1 if a *must* of the table is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks import measures
from benchmarks.floor import Floor, measure_floor
from benchmarks.installation import Installation, installation
from benchmarks.measures import Figures
from benchmarks.report import save, show

RESULTS = Path(__file__).parent / "results"
Measure = Callable[[Installation], Awaitable[Figures]]


def measures_of(runs: int) -> dict[str, tuple[int, Measure]]:
    """Name → (workers, measure), in the order in which they run."""
    scale = runs / 2_000
    return {
        "w1_batch": (1, lambda it: measures.throughput(it, runs=runs, steps=3, batch=True)),
        "w1_single": (1, lambda it: measures.throughput(it, runs=runs, steps=3, batch=False)),
        "w2_one": (1, lambda it: measures.latency(it, runs=max(20, int(200 * scale)), steps=1)),
        "w2_ten": (1, lambda it: measures.latency(it, runs=max(10, int(100 * scale)), steps=10)),
        "w3_children": (1, lambda it: measures.fan_out(it, children=True, width=200, repeats=5)),
        "w3_parallel": (1, lambda it: measures.fan_out(it, children=False, width=200, repeats=5)),
        "w7": (1, lambda it: measures.growth(it, width=max(250, int(8_000 * scale)))),
        "w5": (1, lambda it: measures.events(it, runs=max(50, int(500 * scale)))),
        "idle": (1, measures.idle),
        "w4": (1, lambda it: measures.lateness(it, runs=max(500, int(5_000 * scale)))),
        "w1_batch_2_workers": (2, lambda it: measures.throughput(it, runs=runs, steps=3, batch=True)),
        "w1_single_2_workers": (2, lambda it: measures.throughput(it, runs=runs, steps=3, batch=False)),
        "w6": (1, lambda it: measures.killed_worker(it, runs=200, steps=50)),
    }


async def bench(names: list[str], runs: int, folder: Path) -> tuple[dict[str, Figures], Floor]:
    """Runs the named measures; a warm-up of each worker comes first and is not counted."""
    results: dict[str, Figures] = {}
    async with installation(folder) as it:
        floor = await measure_floor(it.database_url, str(it.stack.valkey.socket), seconds=2.0)
        for name, (workers, measure) in measures_of(runs).items():
            if names and name not in names:
                continue
            await it.use_workers(workers)
            await measures.throughput(it, runs=200, steps=3, batch=True)
            results[name] = await measure(it)
            print(name, {figure: round(value, 2) for figure, value in results[name].items()}, file=sys.stderr, flush=True)
    if "w2_one" in results and "w2_ten" in results:
        results["w2_further"] = {"p50_ms": (results["w2_ten"]["p50_ms"] - results["w2_one"]["p50_ms"]) / 9}
    return results, floor


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measure", nargs="*", help=f"of {', '.join(measures_of(0))}; all by default")
    parser.add_argument("--runs", type=int, default=2_000, help="runs of W1; the others scale with it")
    parser.add_argument("--save", action="store_true", help="write a dated file to benchmarks/results")
    arguments = parser.parse_args()
    if unknown := set(arguments.measure) - set(measures_of(0)):
        parser.error(f"no measure is named {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="aiki-bench-") as folder:
        Path(folder).chmod(0o755)  # Postgres runs as another user where this one is root
        results, floor = asyncio.run(bench(arguments.measure, arguments.runs, Path(folder)))
    holds = show(results, floor)
    if arguments.save:
        print(f"saved {save(results, floor, RESULTS)}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
