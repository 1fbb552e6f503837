"""What the server's log says of its own settings: no call to a logger has to think of a secret (I46)."""

from __future__ import annotations

import json
import os
import subprocess
import sys

SETTINGS = {
    "AIKI_DATABASE_URL": "postgresql://aiki:hush-database@db/aiki",
    "AIKI_REDIS_URL": "redis://:hush%2Fredis@redis:6379/0",
    "AIKI_TOKENS": "default:hush-token",
}
PROGRAM = """
import logging, os
from aiki_server.logs import configure
configure()
log = logging.getLogger("aiki_server.main")
log.info("server starts", extra={name: os.environ[name] for name in ("AIKI_DATABASE_URL", "AIKI_REDIS_URL", "AIKI_TOKENS")})
log.info("in a message: %s", os.environ["AIKI_REDIS_URL"])
log.info("bare", extra={"password": "hush/redis", "all": ["hush-database", {"token": "hush-token"}]})
try:
    raise ValueError(f"cannot reach {os.environ['AIKI_REDIS_URL']}")
except ValueError:
    log.exception("failed", extra={"url": os.environ["AIKI_REDIS_URL"]})
"""


def test_the_log_of_the_server_holds_no_password_and_no_token_whoever_logs_it():
    told = subprocess.run([sys.executable, "-c", PROGRAM], env=os.environ | SETTINGS, capture_output=True, text=True, check=True).stderr
    lines = [json.loads(line) for line in told.splitlines()]
    assert [line["event"] for line in lines[:1] + lines[2:]] == ["server starts", "bare", "failed"]
    assert lines[0]["AIKI_REDIS_URL"] == "redis://***@redis:6379/0"
    assert "hush" not in told
