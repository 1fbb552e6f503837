"""A worker of the soak: `python worker.py`, with AIKI_URL and FAULTS_DIRECTORY."""

from __future__ import annotations

from aiki import Client
from aiki.worker import Worker, run
from aiki_server import logs
from faults.soak.errand import errand

CONCURRENCY = 60
GRACE_SECONDS = 5.0


def main() -> None:
    """Work until a signal, or a kill."""
    logs.configure("INFO")
    run(lambda: Worker(Client(), workflows=[errand], concurrency=CONCURRENCY), grace=GRACE_SECONDS)


if __name__ == "__main__":
    main()
