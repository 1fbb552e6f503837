"""A worker of the soak: `python worker.py`, with AIKI_URL, AIKI_TOKEN, FAULTS_DIRECTORY, FAULTS_TENANT, FAULTS_POOL, and AIKI_BUILD where it has one."""

from __future__ import annotations

import os

from aiki import Client
from aiki.worker import Worker, run
from aiki_server import logs
from faults.soak.errand import HERE, errand

CONCURRENCY = 60
GRACE_SECONDS = 5.0


def main() -> None:
    """Work until a signal, or a kill."""
    logs.configure("INFO")
    run(_worker, grace_seconds=GRACE_SECONDS)


def _worker() -> Worker:
    worker = Worker(Client(), workflows=[errand], pool=os.environ["FAULTS_POOL"], concurrency=CONCURRENCY)

    def epoch_of(run_id: str) -> int | None:
        held = (
            worker._session.runs._active.get(run_id) if worker._session is not None else None
        )  # a look inside: nothing outside asks for it
        return None if held is None else held.epoch

    HERE.epoch_of = epoch_of
    return worker


if __name__ == "__main__":
    main()
