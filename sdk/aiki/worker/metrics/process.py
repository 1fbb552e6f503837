"""What the worker's process uses, by the names that Prometheus has for it. What the system does not tell, as outside of Linux, is left out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from aiki.worker.metrics.exposition import Family, single

PROC = Path("/proc")


def process_families(proc: Path = PROC) -> Iterator[Family]:
    """CPU, and what /proc says of memory, files and the start."""
    yield single("process_cpu_seconds_total", "counter", "Seconds of CPU.", time.process_time())
    try:
        stat = (proc / "self" / "stat").read_text().rpartition(") ")[2].split()
        booted = next(line for line in (proc / "stat").read_text().splitlines() if line.startswith("btime "))
        opened = len(os.listdir(proc / "self" / "fd"))  # noqa: PTH208  names alone, however many there are
        # By proc(5), counted from the third field on, which follows the name.
        virtual, resident, start = int(stat[20]), int(stat[21]) * os.sysconf("SC_PAGE_SIZE"), int(stat[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, StopIteration, IndexError, ValueError):
        return  # not Linux, or a /proc that does not show its own process
    yield single("process_virtual_memory_bytes", "gauge", "Address space.", virtual)
    yield single("process_resident_memory_bytes", "gauge", "Memory.", resident)
    yield single("process_start_time_seconds", "gauge", "When the process started, in seconds since 1970.", start + int(booted.split()[1]))
    yield single("process_open_fds", "gauge", "Open files and sockets.", opened)
