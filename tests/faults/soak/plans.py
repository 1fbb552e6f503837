"""Random plans: of every kind of deed something, in any order, within a few seconds of work."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from faults.soak.errand import COLOURS, Plan

Deed = Callable[[Random, int], list[Any]]
DEEPEST = 2


def root_plan(random: Random) -> Plan:
    """The plan of a run that is started from outside: it may wait for events."""
    deeds = [_wait(random) if random.random() < 0.3 else _deed(random, 0) for _ in range(random.randint(1, 8))]
    if random.random() < 0.05:
        deeds += [_wait(random) for _ in range(6)]
    return deeds


def awaited(plan: Plan) -> dict[str, int]:
    """How many events of each name the plan may take."""
    return {colour: count for colour in COLOURS if (count := sum(deed[:2] == ["wait", colour] for deed in plan))}


def _plan(random: Random, depth: int) -> Plan:
    return [_deed(random, depth) for _ in range(random.randint(1, 3))]


def _deed(random: Random, depth: int) -> list[Any]:
    kinds: list[Deed] = [_square, _square, _thread, _flaky, _hopeless, _map, _together, _sleep, _saga, _race_of_tasks]
    if depth < DEEPEST:
        kinds += [_child, _child, _failing_child, _left, _race, _limited, _given_up]
    return random.choice(kinds)(random, depth)


def _number(random: Random) -> int:
    return random.randint(1, 9)  # few, so that equal calls meet


def _wait(random: Random) -> list[Any]:
    return ["wait", random.choice(COLOURS), random.choice([None, None, 0.2, 1.5])]


def _square(random: Random, _: int) -> list[Any]:
    return ["square", _number(random), random.choice([0, 0, 0.01, 0.2])]


def _thread(random: Random, _: int) -> list[Any]:
    return ["thread", _number(random), random.choice([0, 0.1])]


def _flaky(random: Random, _: int) -> list[Any]:
    return ["flaky", _number(random), random.choice([0, 0.1])]


def _hopeless(random: Random, _: int) -> list[Any]:
    return ["hopeless", _number(random)]


def _map(random: Random, _: int) -> list[Any]:
    return ["map", [_number(random) for _ in range(random.randint(1, 8))]]


def _together(random: Random, _: int) -> list[Any]:
    kinds: list[Deed] = [_square, _flaky, _thread, _sleep]
    return ["together", *([random.choice(kinds)(random, 0) for _ in range(random.randint(1, 3))] for _ in range(random.randint(2, 4)))]


def _sleep(random: Random, _: int) -> list[Any]:
    return ["sleep", random.choice([0.05, 0.05, 0.3, 1, 5])]


def _saga(random: Random, _: int) -> list[Any]:
    return ["saga", [_number(random) for _ in range(random.randint(1, 3))], random.random() < 0.5]


def _race_of_tasks(random: Random, _: int) -> list[Any]:
    return ["tasks race", _number(random), random.choice([0, 0.1]), random.choice([0, 0.1, 0.5])]


def _child(random: Random, depth: int) -> list[Any]:
    return ["child", _plan(random, depth + 1)]


def _failing_child(random: Random, depth: int) -> list[Any]:
    return ["failing child", [*_plan(random, depth + 1), ["boom", _number(random)]]]


def _left(random: Random, depth: int) -> list[Any]:
    return ["left", _plan(random, depth + 1), random.choice(["cancel", "abandon"])]


def _race(random: Random, depth: int) -> list[Any]:
    return ["race", _plan(random, depth + 1), random.choice([0.05, 0.5, 2])]


def _limited(random: Random, depth: int) -> list[Any]:
    return ["limited", _plan(random, depth + 1), random.choice([0.05, 0.5, 2])]


def _given_up(random: Random, depth: int) -> list[Any]:
    return ["given up", _plan(random, depth + 1)]
