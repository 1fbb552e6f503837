"""Plants breaches, one at a time, each in a copy of the tree, and says whether the tests that are to notice it do.

`make planted` plants all of them, `make planted ARGS="--sample 6 --seed 3"` some, `ARGS="--only NAME"` one. Ends with 1 where one is missed,
where its tests fail without it as well, or where a breach does not fit the code any more.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from random import Random

from planted.breach import Breach, StaleBreachError, read
from planted.tree import ROOT, Tree

BREACHES = Path(__file__).with_name("breaches")
AT_ONCE = 2


def main() -> int:
    """Plant, and report."""
    chosen = _arguments()
    known = read(BREACHES)
    if stale := _stale(known):
        print("\n".join(stale))
        print(f"0 passed, {len(stale)} failed")
        return 1
    wanted = _wanted(known, chosen)
    if chosen.list:
        print("\n".join(f"{breach.guarantee:5} {breach.area}/{breach.name}: {breach.breaks}" for breach in wanted))
        return 0
    home = Path(tempfile.mkdtemp(prefix="aiki-planted-"))
    home.chmod(0o755)
    try:
        missed = _plant(home, wanted)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    guarantees = sorted({breach.guarantee for breach in wanted}, key=lambda name: int(name[1:]))
    print(f"guarantees: {', '.join(guarantees)}")
    print(f"{len(wanted) - len(missed)} passed, {len(missed)} failed" + (f": {', '.join(missed)}" if missed else ""))
    return 1 if missed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="planted", description="Breaches of the guarantees, and whether the tests notice them.")
    parser.add_argument("--sample", type=int, help="so many, picked at random")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="for the sample")
    parser.add_argument("--only", nargs="+", default=[], help="names of breaches, of areas, or of guarantees")
    parser.add_argument("--list", action="store_true", help="say which there are, and plant none")
    return parser.parse_args()


def _stale(breaches: list[Breach]) -> list[str]:
    found: list[str] = []
    for breach in breaches:
        try:
            breach.planted((ROOT / breach.file).read_text())
        except (StaleBreachError, FileNotFoundError) as error:
            found.append(f"stale   {error}")
    return found


def _wanted(known: list[Breach], chosen: argparse.Namespace) -> list[Breach]:
    wanted = [breach for breach in known if not chosen.only or {breach.name, breach.area, breach.guarantee} & set(chosen.only)]
    if not wanted:
        sys.exit(f"there is no breach {' '.join(chosen.only)}; --list shows them all")
    if chosen.sample is None:
        return wanted
    print(f"sample of {chosen.sample}, seed {chosen.seed}")
    return Random(chosen.seed).sample(wanted, min(chosen.sample, len(wanted)))


def _plant(home: Path, wanted: list[Breach]) -> list[str]:
    """The names of those that were missed."""
    trees: SimpleQueue[Tree] = SimpleQueue()
    for number in range(AT_ONCE):
        trees.put(Tree(home / f"copy-{number}"))
    tree = trees.get()
    tree.check()
    trees.put(tree)

    def notice(breach: Breach) -> str | None:
        tree = trees.get()
        began = time.monotonic()
        try:
            by = tree.noticed(breach, log=home / f"{breach.name}.log")
            told, why = ("caught", f"by {by}") if by else ("MISSED", breach.breaks)
        except Exception as error:  # noqa: BLE001  one that could not be tried is reported with its name, and the others are tried
            told, why = "FAILED", str(error)
        finally:
            trees.put(tree)
        print(f"{told} {breach.guarantee:4} {breach.area}/{breach.name}: {why} ({time.monotonic() - began:.0f} s)", flush=True)
        return None if told == "caught" else breach.name

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [name for name in pool.map(notice, wanted) if name is not None]


if __name__ == "__main__":
    sys.exit(main())
