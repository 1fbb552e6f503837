"""Runs workflows and tasks in this process: `Worker`, and `run` for a process that is nothing but a worker."""

from __future__ import annotations

from aiki.worker.process.process import run
from aiki.worker.process.worker import Worker

__all__ = ["Worker", "run"]
