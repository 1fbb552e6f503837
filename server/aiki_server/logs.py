"""The server's logs: in the form that all of Aiki has (aiki.shared.logs), on standard error."""

from __future__ import annotations

import logging
import sys

from aiki.shared.logs import Fields, JsonLines, log_to
from aiki.shared.redaction import Redactor

UVICORNS = ("color_message",)
"""What uvicorn puts into its records: the message once more, with colours."""


def configure(level: str = "INFO") -> None:
    """Everything to standard error, ours and others'."""
    log_to(sys.stderr, JsonLines(Fields(Redactor.of_environment(), without=UVICORNS)), level=level)
    logging.getLogger("uvicorn.error").setLevel("WARNING")
