"""`make security`: attack a real installation on loopback, and print what held. Exit code 1 where anything did not.

Each measure is a function that is given a folder of its own and a number of seconds, and answers with rows of the table. What
`make security` costs `make bench` is measured by `make bench` itself.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from security import fuzz, hostile, planted, tenants
from security.row import Row, table

Measure = Callable[[Path, float], Sequence[Row]]

MEASURES: Mapping[str, tuple[float, Measure]] = {
    "tenants": (0.4, tenants.measure),
    "planted": (0.0, planted.measure),
    "fuzz": (0.3, fuzz.measure),
    "hostile": (0.3, hostile.measure),
}
"""Each with its share of the minutes that there are."""
LONG = frozenset({"hostile"})
"""Measures that compare times, which a busy machine can spoil: only in the full table, or where they are asked for."""
FULL_MINUTES = 10.0


def main() -> int:
    """Measure everything, print the table, and say plainly what passed."""
    parser = argparse.ArgumentParser(prog="make security", description="Attack a real installation on loopback and print what held.")
    parser.add_argument(
        "--minutes", type=float, default=2.0, help="how long all attacks last together (default 2; the full table takes 15)"
    )
    parser.add_argument("--only", choices=sorted(MEASURES), action="append", help="one measure; may be repeated")
    chosen = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="aiki-security-") as home:
        Path(home).chmod(0o711)  # for root, Postgres runs as somebody else, who has to get through
        for name in chosen.only or [name for name in MEASURES if name not in LONG or chosen.minutes >= FULL_MINUTES]:
            share, measure = MEASURES[name]
            rows += _measured(name, measure, Path(home) / name, 60 * chosen.minutes * share)
    return _told(rows)


def _measured(name: str, measure: Measure, home: Path, seconds: float) -> Sequence[Row]:
    home.mkdir(mode=0o711)
    print(f"{name}: attacking{f' for {seconds:.0f} s' if seconds else ''}", flush=True)
    began = time.monotonic()
    try:
        rows = measure(home, seconds)
    except Exception as error:  # noqa: BLE001  a measure that could not be taken is a promise that was not shown
        traceback.print_exc()
        rows = [Row(name, "be measured", "could not be", [f"{type(error).__name__}: {error}"])]
    print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return rows


def _told(rows: Sequence[Row]) -> int:
    broken = [row for row in rows if not row.held]
    print(f"\n{table(rows)}\n")
    for row in broken:
        for breach in row.breaches[:20]:
            print(f"BREACH  {row.what}: {breach}")
    print(f"security: {len(rows) - len(broken)} passed, {len(broken)} failed")
    return 1 if broken or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
