"""CPU time of the parts, read from /proc: each part is a process and all its descendants.

A descendant that has ended is counted through its parent's children times, so a Postgres backend that closes is not lost.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids: Mapping[str, list[int]], *, without: Mapping[str, list[int]]) -> dict[str, float]:
    """User and system seconds so far of each part, given the pids of its root processes, and of those below them that are other parts."""
    children, used = _table()
    trees = {pid: _tree(pid, children, used) for pid in {*chain(*pids.values()), *chain(*without.values())}}
    return {part: sum(trees[pid] for pid in roots) - sum(trees[pid] for pid in without.get(part, [])) for part, roots in pids.items()}


def _tree(pid: int, children: dict[int, list[int]], used: dict[int, int]) -> float:
    return used.get(pid, 0) / TICKS + sum(_tree(child, children, used) for child in children.get(pid, []))


def _table() -> tuple[dict[int, list[int]], dict[int, int]]:
    children: dict[int, list[int]] = {}
    used: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it ended meanwhile
        pid = int(entry.name)
        children.setdefault(int(fields[1]), []).append(pid)
        used[pid] = sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime: proc_pid_stat(5)
    return children, used
