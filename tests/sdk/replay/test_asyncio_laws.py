"""Whatever of asyncio the documents promise goes the same way in every process, or is refused with what to write (S11)."""

from __future__ import annotations

import asyncio
import gc
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiki import Event, Run, workflow
from aiki.execution.outcome import Completed, Failed
from support.doubles import double
from support.other_processes import VERSIONS, OtherProcess, python_of
from support.sdk.asyncio_programs import ALIKE, SEVERAL
from support.sdk.driver import Driver


@pytest.fixture(scope="module")
def others() -> Iterator[list[OtherProcess]]:
    with ExitStack() as stack:
        yield [stack.enter_context(OtherProcess("support.sdk.asyncio_programs", hash_seed=seed)) for seed in (1, 2)]


def without_end(history: list[str]) -> list[str]:
    entries = [entry for chunk in history for entry in json.loads(chunk)]
    assert entries[-1]["k"] in ("completed", "failed_run")
    return [json.dumps(entries[:-1])]


def check_replay(played: dict[str, Any], replayed: dict[str, Any]) -> None:
    assert replayed["stop"] is None
    assert replayed["trace"] == played["trace"]
    assert replayed["outcome"] == played["outcome"]
    assert replayed["left"] in (["completed"], ["failed_run"])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**64))
def test_program_goes_the_same_way_in_another_process(others: list[OtherProcess], seed: int) -> None:
    one, other = others
    kinds = sorted(SEVERAL)
    played = one.ask([seed, None, kinds])
    assert other.ask([seed, None, kinds]) == played
    check_replay(played, other.ask([seed, without_end(played["history"]), kinds]))


@pytest.mark.timeout(300)  # the first time, an environment for the other version is made
@pytest.mark.parametrize("version", VERSIONS)
def test_program_is_replayed_by_another_version_of_python(others: list[OtherProcess], version: str) -> None:
    python, why = python_of(version)
    if python is None:
        pytest.skip(why)
    with OtherProcess("support.sdk.asyncio_programs", hash_seed=3, python=python) as elsewhere:
        for seed in range(150):
            played = others[0].ask([seed, None, ALIKE])
            check_replay(played, elsewhere.ask([seed, without_end(played["history"]), ALIKE]))


async def doubled(run: Run, value: int) -> int:
    return await double.start(run, value)


def ended(code: Any) -> Driver:
    driver = Driver(workflow("flow").v("1.0")(code))
    driver.run_tasks({"double": lambda value: 2 * value})
    return driver


def all_tasks(run: Run) -> object:
    return asyncio.all_tasks()


def future_by_its_class(run: Run) -> object:
    return asyncio.Future()


def completed_of_an_iterator(run: Run) -> object:
    return list(asyncio.as_completed(iter([doubled(run, value) for value in range(3)])))


def completed_of_a_set(run: Run) -> object:
    return list(asyncio.as_completed({doubled(run, value) for value in range(3)}))


@pytest.mark.parametrize(
    ("call", "advice"),
    [
        (all_tasks, "keep the tasks that you make in a list"),
        (future_by_its_class, "write asyncio.get_running_loop().create_future()"),
        (completed_of_an_iterator, "pass a list of coroutines"),
        (completed_of_a_set, "pass a list of coroutines"),
    ],
)
def test_what_depends_on_memory_addresses_is_refused_with_what_to_write(call: Callable[[Run], object], advice: str) -> None:
    async def code(run: Run) -> None:
        call(run)

    driver = ended(code)
    assert isinstance(driver.outcome, Failed), driver.execution.stop
    error = driver.outcome.error
    driver.execution.close()
    with warnings.catch_warnings(action="ignore"):  # the coroutines that were passed were not awaited, in truth
        del driver
        gc.collect()
    assert error.type == "NotAllowedInWorkflow"
    assert advice in error.message
    assert f"{__file__}:{call.__code__.co_firstlineno + 1}" in error.message


async def test_loops_of_others_are_left_as_they_are() -> None:
    assert asyncio.current_task() in asyncio.all_tasks()
    future: asyncio.Future[int] = asyncio.Future()
    future.set_result(1)
    group = asyncio.gather(future)
    assert await asyncio.wait([group]) == ({group}, set())
    assert sorted([await one for one in asyncio.as_completed({asyncio.sleep(0, 1), asyncio.sleep(0, 2)})]) == [1, 2]


def test_race_of_what_gather_returns() -> None:
    async def code(run: Run) -> list[int]:
        return list((await run.first(a=asyncio.gather(doubled(run, 1), doubled(run, 2)))).result)

    assert isinstance(ended(code).outcome, Completed)


def test_definitions_have_the_same_hash_in_every_process() -> None:
    flow = workflow("flow")

    async def code(run: Run) -> None: ...

    assert [hash(it) for it in (double, flow, flow.v("1")(code), Event("news"))] == GOLDEN


GOLDEN = [51206500764168627, 45256218121237285, 7287870867439984, 40898512007686216]
