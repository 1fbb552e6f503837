"""Laws of what crosses: a value comes back as it was or is refused, and it is written the same in every process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import fields, is_dataclass
from datetime import datetime, time
from enum import Enum
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from aiki import Event, PayloadError, Run, task, workflow
from aiki.testing import Simulation
from aiki.values.codec import Codec
from support.other_processes import VERSIONS, OtherProcess, python_of
from support.sdk.typed_values import faithful, strange

LAW = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SEEDS = st.integers(0, 2**64)


def shape(value: Any) -> Any:
    """What a value is, to the type, in a form whose equality is that of the parts. An int may come back as its float."""
    if isinstance(value, Enum):
        return (type(value), value.name)
    if isinstance(value, BaseModel):
        kind = value.__pydantic_generic_metadata__["origin"] or type(value)
        return (kind, [(name, shape(getattr(value, name))) for name in type(value).model_fields], shape(value.__pydantic_extra__))
    if is_dataclass(value) and not isinstance(value, type):
        return (type(value), [shape(getattr(value, field.name)) for field in fields(value)])
    if isinstance(value, Mapping):
        return (type(value), [(shape(key), shape(inner)) for key, inner in value.items()])
    if isinstance(value, (set, frozenset)):
        return (type(value), sorted(repr(shape(item)) for item in value))
    if isinstance(value, (list, tuple)):
        return (type(value), [shape(item) for item in value])
    if isinstance(value, (datetime, time)):
        return (type(value), value.isoformat(), value.tzinfo is None and value.fold)
    if type(value) in (int, float):
        return value if type(value) is float or value != float(value) else float(value)
    return (type(value), value, getattr(value, "maxlen", None))


def same(value: Any, back: Any) -> bool:
    return bool(shape(value) == shape(back))


@LAW
@given(SEEDS)
def test_value_comes_back_as_it_was(seed: int) -> None:
    annotation, value = faithful(Random(seed))
    codec = Codec[Any](annotation)
    text, live = codec.returned(value)
    assert same(value, live), (annotation, value, live)
    assert same(value, codec.decode_text(text))


@LAW
@given(SEEDS)
def test_value_that_does_not_come_back_is_refused_with_a_reason(seed: int) -> None:
    annotation, value = strange(Random(seed))
    codec = Codec[Any](annotation)
    try:
        text, live = codec.returned(value)
    except PayloadError as error:
        check_reason(str(error))
    else:
        assert same(value, live), (annotation, value, live)
        assert same(value, codec.decode_text(text))


def check_reason(message: str) -> None:
    """A sentence of ours or of Python's, in one line and without what only its author knows."""
    assert len(message.split()) >= 4
    assert not any(odd in message for odd in ("\n", "object at 0x", "errors.pydantic.dev", "PydanticSerialization"))


@pytest.fixture(scope="module")
def others() -> Iterator[list[OtherProcess]]:
    with ExitStack() as stack:
        yield [stack.enter_context(OtherProcess("support.sdk.writing_elsewhere", hash_seed=seed)) for seed in (1, 2)]


@LAW
@given(SEEDS, st.booleans())
def test_value_is_written_the_same_in_every_process(others: list[OtherProcess], seed: int, odd: bool) -> None:
    here, there = (other.ask([seed, odd]) for other in others)
    assert here == there


@pytest.mark.timeout(300)  # the first time, an environment for the other version is made
@pytest.mark.parametrize("version", VERSIONS)
def test_value_is_written_the_same_by_every_version_of_python(others: list[OtherProcess], version: str) -> None:
    python, why = python_of(version)
    if python is None:
        pytest.skip(why)
    with OtherProcess("support.sdk.writing_elsewhere", hash_seed=3, python=python) as elsewhere:
        for seed in range(600):
            question = [seed, seed % 3 == 0]
            assert elsewhere.ask(question) == others[0].ask(question), seed


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SEEDS, st.booleans())
def test_value_crosses_everywhere_or_is_refused_where_it_is_handed_over(seed: int, odd: bool) -> None:
    """Input, argument, result, event, child's input and result, and output."""
    annotation, value = (strange if odd else faithful)(Random(seed))
    seen: list[Any] = []

    async def echo(given):
        seen.append(given)
        return given

    async def inner(run, given):
        seen.append(given)
        return given

    async def outer(run, given):
        seen.append(given)
        seen.append(await definition.start(run, given))
        seen.append(await run.wait(event))
        seen.append(await child.start(run, given))
        return given

    echo.__annotations__ = {"given": annotation, "return": annotation}
    inner.__annotations__ = outer.__annotations__ = {"run": Run, "given": annotation, "return": annotation}
    definition, event = task(echo), Event("news", annotation)
    small, large = workflow("inner"), workflow("outer")
    child, parent = small.v("1")(inner), large.v("1")(outer)

    async def run_it() -> Any:
        simulation = Simulation(large, small, crash=True)
        run = simulation.start(parent, value)
        run.send(event, value)
        return await run.result()

    try:
        seen.append(asyncio.run(run_it()))
    except PayloadError:
        assert odd
        assert seen == []  # refused before anything ran
        with pytest.raises(PayloadError):
            Codec[Any](annotation).encode(value)
        return
    assert all(same(value, back) for back in seen), (annotation, value, seen)
    assert len(seen) >= 7
