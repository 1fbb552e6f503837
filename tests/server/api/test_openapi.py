"""The OpenAPI document is complete and true: schemathesis sends what it allows and what it forbids, and finds nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = """
[[operations]]
include-operation-id = ["wait_for_wakes", "get_result"]
parameters = { timeout = 0 }
"""


async def test_every_route_is_documented(api):
    document = (await api.as_(None).get("/openapi.json")).json()
    documented = [(method, path, operation) for path, methods in document["paths"].items() for method, operation in methods.items()]
    assert len(documented) >= 29
    for method, path, operation in documented:
        assert operation["summary"], (method, path)
        assert {"401", "503"} <= operation["responses"].keys(), (method, path)
        assert ("requestBody" in operation) == (method == "put" or (method == "post" and not path.endswith(BODILESS))), path


BODILESS = ("/lost", "/promote")


@pytest.fixture
def own_server_settings():
    """It has a token, and may be filled with nonsense."""
    return {"AIKI_TOKENS": "open-sesame-token"}


@pytest.mark.timeout(180)
def test_the_api_keeps_its_word(own_server, tmp_path):
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    command = [str(Path(sys.executable).with_name("st")), "--config-file", str(config), "run", f"{own_server.url}/openapi.json"]
    options = [
        "-H",
        "Authorization: Bearer open-sesame-token",
        "--phases",
        "coverage,fuzzing,stateful",
        "--max-examples",
        "8",
        "--seed",
        "1",
        "--no-color",
    ]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
