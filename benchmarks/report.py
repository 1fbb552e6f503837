"""The table that people read and the JSON beside it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.floor import Floor
from benchmarks.measures import Figures
from benchmarks.targets import TARGETS
from rich.console import Console
from rich.table import Table

STYLES = {"aim": "green", "must": "yellow", "missed": "red"}


def show(results: Mapping[str, Figures], floor: Floor) -> bool:
    """Prints targets and all figures; whether every *must* that was measured holds."""
    console = Console(width=110)
    targets = Table("target", "measured", "aim", "must", "", title="Targets")
    measured = [target for target in TARGETS if target.workload in results]
    for target in measured:
        verdict = target.verdict(dict(results))
        value = results[target.workload][target.figure]
        sign = "≥" if target.at_least else "≤"
        targets.add_row(
            target.label,
            f"{value:,.2f} {target.unit}",
            f"{sign} {target.aim:,}",
            f"{sign} {target.must:,}",
            f"[{STYLES[verdict]}]{verdict}[/]",
        )
    console.print(targets)
    everything = Table("workload", "figures", title="All figures")
    for workload, figures in results.items():
        everything.add_row(workload, "  ".join(f"{name} {value:,.2f}" for name, value in figures.items()))
    console.print(everything)
    console.print(
        f"floor in the same run: {floor.commits:,.0f} single-row commits/s, {floor.rows:,.0f} rows/s in inserts of 500, "
        f"{floor.ping:,.0f} µs to ask another process"
    )
    return all(target.verdict(dict(results)) != "missed" for target in measured)


def save(results: Mapping[str, Figures], floor: Floor, folder: Path) -> Path:
    """Writes a dated result file; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    path = folder / f"{now:%Y-%m-%d}.json"
    document = {
        "at": now.isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()},
        "floor": {"commits_per_s": round(floor.commits), "rows_per_s": round(floor.rows), "ping_us": round(floor.ping, 1)},
        "results": {name: {figure: round(value, 3) for figure, value in figures.items()} for name, figures in results.items()},
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path
