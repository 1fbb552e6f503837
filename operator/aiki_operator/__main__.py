"""`python -m aiki_operator`: one replica of the operator."""

from __future__ import annotations

import asyncio
import contextlib

from aiki_operator.process.app import ProcessSettings, main
from aiki_operator.reporting.telemetry import log_json

if __name__ == "__main__":
    settings = ProcessSettings.from_environment()
    log_json(settings.log_level)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main(settings))
