"""What one attempt or run does to the default of a parameter is not seen by the next."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from aiki import Retry, Run, task, workflow
from aiki.client.client import Start, _request
from aiki.testing import Simulation
from aiki.values.fresh import fresh


class Model(BaseModel):
    items: list[int] = [1]
    more: dict[str, list[int]] = {"a": [1]}


@dataclass
class Data:
    items: list[int] = field(default_factory=lambda: [1])


@dataclass(frozen=True, slots=True)
class Frozen:
    items: list[int] = field(default_factory=lambda: [1])


class Row(NamedTuple):
    items: list[int]


class Service:
    """No value: what a parameter of it shares is meant to be shared."""


def add_to_items(value: Any) -> None:
    value.items.append(2)


CHANGED: list[tuple[Any, Callable[[Any], Any]]] = [
    ([1], lambda value: value.append(2)),
    ([[1]], lambda value: value[0].append(2)),
    ({"a": [1]}, lambda value: value["a"].append(2)),
    ({1}, lambda value: value.add(2)),
    (([1], "x"), lambda value: value[0].append(2)),
    (deque([1]), lambda value: value.append(2)),
    (bytearray(b"a"), lambda value: value.append(2)),
    (OrderedDict(a=1), lambda value: value.update(b=2)),
    (Counter("a"), lambda value: value.update("b")),
    (defaultdict(list, {"a": [1]}), lambda value: value["a"].append(2)),
    (Model(), add_to_items),
    (Model(), lambda value: value.more["a"].append(2)),
    (Data(), add_to_items),
    (Frozen(), add_to_items),
    (Row([1]), add_to_items),
]


@pytest.mark.parametrize(("default", "change"), CHANGED, ids=range(len(CHANGED)))
@pytest.mark.parametrize("shape", ["by position", "by keyword", "positional only"])
def test_each_attempt_gets_a_default_of_its_own(default: Any, change: Callable[[Any], Any], shape: str) -> None:
    seen: list[str] = []
    text = repr(default)

    def tried(value: Any) -> int:
        seen.append(repr(value))
        change(value)
        if len(seen) < 3:
            raise OSError("again")
        return len(seen)

    def by_position(a: int = 0, value: Any = default) -> int:
        return tried(value)

    def by_keyword(*, a: int = 0, value: Any = default) -> int:
        return tried(value)

    def positional_only(a: int = 0, value: Any = default, /, *more: int) -> int:
        return tried(value)

    function: Any = {"by position": by_position, "by keyword": by_keyword, "positional only": positional_only}[shape]
    definition = task(name="tried", retry=Retry.fixed(delay=1))(function)

    async def code(run: Run) -> tuple[int, int]:
        return await definition.start(run), await definition.start(run)

    async def ran() -> Any:
        flow = workflow("flow")
        return await Simulation(flow, crash=True).start(flow.v("1")(code)).result()

    assert list(asyncio.run(ran())) == [3, 4]
    assert seen == [text] * 4


def test_what_is_no_value_is_shared() -> None:
    service = Service()
    assert fresh(service) is service
    assert fresh([service])[0] is service
    assert fresh((1, "a")) == (1, "a")


def test_input_that_is_not_given_is_a_default_of_the_run_s_own() -> None:
    seen: list[list[int]] = []
    small, large = workflow("small"), workflow("large")

    @small.v("1")
    async def small_v1(run: Run, items: list[int] = [1]) -> None:  # noqa: B006  that is the test
        seen.append(list(items))
        items.append(2)

    @large.v("1")
    async def large_v1(run: Run, items: list[int] = [1]) -> None:  # noqa: B006  that is the test
        seen.append(list(items))
        items.append(2)
        await small_v1.start(run)
        await given.start(run, [3])

    given: Any = small_v1  # type checkers take a version whose input has a default for one without input

    async def ran() -> None:
        simulation = Simulation(small, large, crash=True)
        await simulation.start(large_v1).result()
        await simulation.start(large_v1).result()

    asyncio.run(ran())
    assert {tuple(items) for items in seen} == {(1,), (3,)}
    assert json.loads(_request(Start(small_v1)))["input"] == [1]


def test_start_by_the_name_of_a_workflow_without_input_takes_the_default() -> None:
    async def code(run: Run, items: list[int] = [1]) -> list[int]:  # noqa: B006  that is the test
        items.append(2)
        return items

    definition = workflow("flow").v("1")(code)
    for _ in range(2):
        coroutine = definition.call(None, "null")  # type: ignore[arg-type]  # the code does not look at its run
        with pytest.raises(StopIteration) as ended:
            coroutine.send(None)
        assert ended.value.value == [1, 2]


def test_none_stays_none_where_it_is_an_input() -> None:
    async def code(run: Run, limit: int | None = 5) -> int | None:
        return limit

    assert workflow("flow").v("1")(code).given(None) is None
