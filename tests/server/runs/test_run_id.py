"""Ids of runs: as the protocol says, and in the order of their making."""

from __future__ import annotations

import re
import time
from uuid import UUID

from aiki.protocol import RUN_ID_PATTERN
from aiki_server.engine.start.new_ids import RunIds
from aiki_server.model.run_ids import run_id_of


def test_ids_sort_in_the_order_of_their_making():
    ids = RunIds()
    made = [ids.new() for _ in range(5_000)]
    assert sorted(set(made)) == made


def test_an_id_tells_its_shard_and_its_time():
    before = time.time_ns() // 1_000_000
    made = RunIds().new().hex
    assert re.fullmatch(RUN_ID_PATTERN, made)
    assert made[:2] == "00"
    assert before <= int(made[2:14], 16) <= time.time_ns() // 1_000_000


def test_an_id_is_equal_to_pythons():
    text = RunIds().new().hex
    assert run_id_of(text) == UUID(text)
    assert {UUID(text): 1}[run_id_of(text)] == 1
