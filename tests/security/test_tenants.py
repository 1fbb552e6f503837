"""I45: equal names everywhere, everybody at once, and no answer, entry or row holds anything of another namespace."""

from __future__ import annotations

import secrets

from security.stage import stage
from security.tenants import TENANTS, crowded

SECONDS = 6.0


async def test_no_answer_holds_a_byte_of_another_namespace(tmp_path):
    with stage(tmp_path, namespaces=[f"team-{secrets.token_hex(6)}" for _ in range(TENANTS)]) as on:
        row = await crowded(on, SECONDS)
    assert row.breaches == []
