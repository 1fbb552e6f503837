"""One hostile tenant beside a good one: each attack in its turn, and how long the good one's starts take meanwhile.

The good one starts a run, and another when that is answered; nothing that it was told is started may be missing at the end. Seconds with an attack
and seconds without any take turns, because the machine is not always as fast: the median of the 99th percentiles of the ones is compared with that of
the others. What a busy machine spoils is measured again once, for longer, and that counts.

Both tenants are processes of their own. The attacker gives way to everybody on one processor, and the good one has another: the figure is to judge
the server, not who gets the processor. Postgres and the server run where the machine puts them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import IO, NamedTuple

from security.attackers import ATTACKS
from security.row import Row
from security.stage import Stage, stage

GOOD, HOSTILE = "good", "hostile"
TURNS = 3
TIMES, MOST_MS = 5.0, 100.0
LEAST_SECONDS = 0.6
PAUSE_SECONDS = 0.3
AGAIN = 2.5
LONGEST_ATTACKER_SECONDS = 60.0


class Start(NamedTuple):
    """One start of the good tenant; `run` is empty where there is none."""

    at: float
    milliseconds: float
    run: str


class Slice(NamedTuple):
    """A stretch of time."""

    begin: float
    end: float


def measure(home: Path, seconds: float) -> Sequence[Row]:
    """A row for each attack, and one for what the good tenant was told."""
    return attacked(home, seconds, ATTACKS)


def attacked(home: Path, seconds: float, attacks: Sequence[str]) -> Sequence[Row]:
    """These attacks, sharing so many seconds."""
    each = max(LEAST_SECONDS, seconds / (len(attacks) * TURNS * 2) - PAUSE_SECONDS)
    rows: dict[str, Row] = {}
    with stage(home, namespaces=(GOOD, HOSTILE)) as on, (home / "starts").open("w+b") as output, _good(on, output):
        _pass(2.0)
        for attack in attacks:
            rows[attack] = _measured(on, attack, each, home / "starts")
        for attack in [attack for attack, row in rows.items() if not row.held]:
            rows[attack] = _measured(on, attack, AGAIN * each, home / "starts")
        starts = _starts(home / "starts")
        missing = {start.run for start in starts if start.run} - set(_runs(on))
    told = [start for start in starts if start.run]
    breaches = [f"run {run} was acknowledged and is not there" for run in missing]
    breaches += [f"a start was not answered with a run, after {start.milliseconds:.0f} ms" for start in starts if not start.run]
    return [
        *rows.values(),
        Row(
            "what the good tenant started",
            "0 lost, 0 refused",
            f"{len(breaches)} of {len(starts):,}",
            breaches if told else ["nothing was started"],
        ),
    ]


def _measured(on: Stage, attack: str, each: float, starts: Path) -> Row:
    alone: list[Slice] = []
    under: list[Slice] = []
    answers: Counter[str] = Counter()
    with _attacker(on, attack) as tell:
        for _ in range(TURNS):
            begin = time.monotonic()
            _pass(each)
            alone.append(Slice(begin, time.monotonic()))
            asked = tell(each + PAUSE_SECONDS)
            _pass(PAUSE_SECONDS)  # until it is under way
            begin = time.monotonic()
            _pass(each)
            under.append(Slice(begin, time.monotonic()))
            answers.update(asked())
            _pass(PAUSE_SECONDS)  # until what it left under way is done
    return _row(attack, _starts(starts), alone, under, answers)


@contextmanager
def _attacker(on: Stage, attack: str) -> Iterator[Callable[[float], Callable[[], dict[str, int]]]]:
    """An attacker that is up: called with seconds, it begins; what that gives, called, answers how it was answered."""
    command = (sys.executable, "-m", "security.attackers", attack, on.url, on.tokens[HOSTILE])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        line = process.stdout.readline
        if line() != "ready\n":
            raise RuntimeError(f"the attacker {attack} did not start")

        def tell(seconds: float) -> Callable[[], dict[str, int]]:
            process.stdin.write(f"{seconds}\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return lambda: json.loads(line())

        try:
            yield tell
        finally:
            process.stdin.close()
            process.wait(LONGEST_ATTACKER_SECONDS)


def _row(attack: str, starts: Sequence[Start], alone: Sequence[Slice], under: Sequence[Slice], answers: Counter[str]) -> Row:
    before, beside = _percentile(starts, alone), _percentile(starts, under)
    most = min(MOST_MS, TIMES * before)
    shown = f"{beside:.0f} ms, alone {before:.0f} ms"
    busy = f" (on a machine that is busy with other things: alone, a start has to take {MOST_MS / TIMES:.0f} ms at most)"
    told = f"{shown}{busy if before > MOST_MS / TIMES else ''}; the attacker was answered {dict(answers)}"
    breaches = [told] if beside > most else []
    if not sum(count for status, count in answers.items() if status != "0"):
        breaches.append("the attacker was never answered, so nothing was shown")
    return Row(f"good one's starts, p99, beside {attack.replace('_', ' ')}", f"≤ {most:.0f} ms", shown, breaches)


def _percentile(starts: Sequence[Start], slices: Sequence[Slice]) -> float:
    """The median of the 99th percentiles of some slices. A start that had not ended within its slice counts in it nevertheless."""
    found = []
    for one in slices:
        took = sorted(start.milliseconds for start in starts if one.begin <= start.at < one.end)
        # Of few starts, the slowest: where they are few, each of them was slow.
        found.append(took[int(len(took) * 0.99)] if took else 1000 * (one.end - one.begin))
    return median(found)


@contextmanager
def _good(on: Stage, output: IO[bytes]) -> Iterator[None]:
    command = (sys.executable, "-m", "security.good", on.url, on.tokens[GOOD])
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output)
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(LONGEST_ATTACKER_SECONDS)


def _runs(on: Stage) -> Iterator[str]:
    cursor: str | None = ""
    while cursor is not None:
        url = f"{on.url}/api/v1/runs?limit=1000{cursor and '&cursor=' + cursor}"
        with urllib.request.urlopen(
            urllib.request.Request(url, headers={"Authorization": f"Bearer {on.tokens[GOOD]}"}), timeout=60
        ) as answer:
            page = json.load(answer)
        yield from (run["id"] for run in page["runs"])
        cursor = page["next"]


def _starts(told: Path) -> list[Start]:
    return [_start(line) for line in told.read_text().splitlines() if line.count(" ") == 2]


def _start(line: str) -> Start:
    at, milliseconds, run = line.split(" ")
    return Start(float(at), float(milliseconds), run)


def _pass(seconds: float) -> None:
    """Let time go by: it is what is measured in."""
    time.sleep(seconds)
