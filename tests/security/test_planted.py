"""I46: what is planted in payloads, headers, URLs and settings is found in nothing that is written."""

from __future__ import annotations

import pytest

from security.planted import measure


@pytest.mark.timeout(180)
def test_planted_secrets_are_found_nowhere(tmp_path):
    (row,) = measure(tmp_path, 0)
    assert row.breaches == []
