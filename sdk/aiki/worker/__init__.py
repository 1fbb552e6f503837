"""Runs workflows and tasks in this process: `Worker`, and `run` for a process that is nothing but a worker."""

from __future__ import annotations

from aiki.worker.process import run
from aiki.worker.worker import Worker

__all__ = ["Worker", "run"]
