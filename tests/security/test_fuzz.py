"""A short turn of the fuzzer: `make security` has the long one."""

from __future__ import annotations

import json
import random

from security.fuzz import SAMPLES, measure, mutated

SECONDS = 10.0


def test_nothing_that_is_sent_fails_the_server(tmp_path):
    answers, held, memory = measure(tmp_path, SECONDS)
    assert list(answers.breaches) == []
    assert list(held.breaches) == []
    assert list(memory.breaches) == []


def test_a_seed_makes_the_same_bodies_again_and_some_are_good():
    made = [[mutated(SAMPLES[0][1], random.Random(seed)) for seed in range(200)] for _ in range(2)]
    assert made[0] == made[1]
    assert json.dumps(SAMPLES[0][1]).encode() in made[0]
    assert len(set(made[0])) > 100
