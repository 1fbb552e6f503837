"""What a wait answers: `received` is true if and only if the event came, whatever its payload, live and in replay."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiki import Event, PayloadError, Received, Run, TimedOut, workflow
from aiki.testing import Simulation
from support.sdk.driver import START, Driver

SECOND = 1_000_000
laws = settings(deadline=None, max_examples=100)  # a busy machine breaks no law
ONBOARDING = Path(__file__).parents[3] / "examples" / "onboarding"
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.0, 1.5]), st.text(max_size=2))
PAYLOADS = st.one_of(
    st.sampled_from([None, {}, [], 0, False, "", 0.0]),
    st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2)),
)


def drive(code: Any) -> Driver:
    return Driver(workflow("flow").v("1.0")(code))


@laws
@given(PAYLOADS, st.sampled_from([None, 0, 10]), st.sampled_from(["before the wait", "in time", "too late", "never"]), st.booleans())
def test_an_answer_is_true_if_and_only_if_the_event_came(payload: Any, timeout: int | None, sent: str, crash: bool) -> None:
    """The law, for payloads that Python takes for false and others, live and in replay."""
    seen: list[Any] = []

    async def code(run: Run) -> None:
        await run.sleep(5)
        seen.append(await run.wait(Event("news")) if timeout is None else await run.wait(Event("news"), timeout=timeout))
        await run.sleep(100)

    driver = drive(code)
    wait_begins, comes_at = 5, {"before the wait": 3, "in time": 8, "too late": 30}.get(sent)
    for second in range(40):
        driver.now = START + second * SECOND
        if second == comes_at:
            driver.send("news", payload)
            driver.tell()
        if crash:
            driver.crash()
        driver.turn()
    driver.crash()  # whatever the code saw, it sees again
    deadline = None if timeout is None else wait_begins + timeout
    came = comes_at is not None and (deadline is None or comes_at <= wait_begins or comes_at <= deadline)
    if timeout is None:
        assert seen == [payload] * len(seen)
        assert bool(seen) is came
    else:
        assert seen
        assert {answer.received for answer in seen} == {bool(answer) for answer in seen} == {came}
        assert all(answer == (Received(payload) if came else TimedOut()) for answer in seen)


def test_no_payload_is_read_of_an_event_that_did_not_come() -> None:
    with pytest.raises(AttributeError, match=r"no event came before the timeout.*if answer:"):
        print(TimedOut().payload)  # type: ignore[attr-defined]


@pytest.mark.parametrize("payload", [None, {}, [], 0, False, ""])
def test_what_came_is_true_and_what_did_not_come_is_false(payload: Any) -> None:
    assert Received(payload)
    assert Received(payload).received is True
    assert Received(payload) == Received(payload)
    assert not TimedOut()
    assert TimedOut().received is False
    match Received(payload):
        case Received(found):
            assert found == payload


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(ONBOARDING))
    monkeypatch.setenv("ONBOARDING_DATABASE", str(tmp_path / "users.sqlite"))
    yield importlib.import_module("workflows")
    del sys.modules["workflows"], sys.modules["world"]


@pytest.mark.parametrize("payload", [{}, None, {"by": "link"}])
@pytest.mark.parametrize("crash", [False, True])
async def test_the_example_verifies_a_user_whose_event_has_an_empty_payload(example: Any, payload: Any, crash: bool) -> None:
    done: list[str] = []
    fakes: dict[Any, Any] = {
        example.create_profile: lambda signup: "u1",
        example.send_verification: lambda signup: None,
        example.mark_verified: lambda user_id: done.append("verified"),
        example.deactivate_user: lambda user_id, reason: done.append("deactivated"),
        example.send_usage_tips: lambda signup: done.append("tips"),
    }
    simulation = Simulation(example.onboarding, tasks=fakes, crash=crash)
    run = simulation.start(example.onboarding_v1, example.Signup(email="ann@example.com", name="Ann"))
    run.send("email_verified", payload, after=timedelta(minutes=1))
    assert await run.result() == {"success": True, "user_id": "u1"}
    assert done == ["verified", "tips"]


# ---- an event without a payload


poke = Event("poke", None)


async def pokes(run: Run) -> list[Any]:
    return [await run.wait(poke), repr(await run.wait(poke, timeout=60))]


def test_an_event_without_a_payload_is_received_as_none() -> None:
    driver = drive(pokes)
    driver.send("poke")
    driver.send("poke", None)
    driver.tell()
    driver.turn()
    assert driver.output == [None, "Received(payload=None)"]


@pytest.mark.parametrize("payload", [{}, [], 0, False, "", {"by": "link"}])
def test_a_payload_of_an_event_that_has_none_pauses_the_run(payload: Any) -> None:
    driver = drive(pokes)
    driver.send("poke", payload)
    driver.tell()
    driver.turn()
    stop = driver.execution.stop
    assert stop is not None
    assert stop.type == "PayloadError"
    assert "what wait(poke) brought does not fit its annotation None, which takes an event without payload only: " in stop.message
    assert "event 1, poke," in stop.message
    assert driver.outcome is None
    assert list(driver.inbox) == [1]


@pytest.mark.parametrize("payload", [{}, [], 0, False, "", {"by": "link"}])
async def test_a_payload_of_an_event_that_has_none_is_refused_where_it_is_sent(payload: Any) -> None:
    run = Simulation().start(workflow("flow").v("1.0")(pokes))
    with pytest.raises(PayloadError, match=r"^event poke takes no payload, which is null: "):
        run.send(poke, payload)


def test_a_payload_that_does_not_fit_is_refused_with_the_name_of_its_event() -> None:
    with pytest.raises(PayloadError, match=r"^event paid takes a payload of <class 'int'>: "):
        Event("paid", int).encode("many")
    assert Event("note").accepts == "any JSON"
    assert Event("note").encode({}) == "{}"


# ---- no payload ends a run


ANNOTATIONS = (None, int, str, bool, dict, list, dict[str, int], list[int], Any)


@laws
@given(st.sampled_from(ANNOTATIONS), PAYLOADS, st.sampled_from([None, 10]), st.booleans())
def test_whatever_is_sent_the_run_goes_on_or_pauses_and_code_that_takes_it_goes_on(
    annotation: Any, payload: Any, timeout: int | None, crash: bool
) -> None:
    seen: list[Any] = []

    def code(taking: Any) -> Any:
        async def waits(run: Run) -> str:
            event: Event[Any] = Event("news", taking)
            try:
                answer = await run.wait(event) if timeout is None else await run.wait(event, timeout=timeout)
                seen.append(answer if timeout is None else answer.payload if answer else "nothing")
            except Exception as error:  # noqa: BLE001  as users write it
                return f"heard of {type(error).__name__}"
            return "taken"

        return drive(waits).definition

    driver = Driver(code(annotation))
    driver.turn()
    driver.send("news", payload)
    driver.tell()
    driver.turn()
    if driver.execution.stop is not None:
        assert driver.outcome is None
        assert seen == []
        assert [entry["k"] for entry in driver.history] == ["began", "call"]  # nothing of it was written
        assert list(driver.inbox) == [1]
        driver.definition = code(Any)
        driver.now += 3_600 * SECOND if crash else 0  # it came in time, however late the code that takes it
        driver.crash()
        driver.tell()
        driver.turn()
        assert seen == [payload]
    assert driver.output == "taken"
    assert driver.inbox == {}


@pytest.mark.parametrize(
    ("annotation", "strange"),
    [
        (dict, [1]),
        (list, {}),
        (dict[str, list[dict[str, Any]]], {"a": [{}, 1]}),
        (list[list[Any]], [[], {}]),
        (dict[str, object], 7),
        (dict, None),
    ],
)
def test_a_plain_container_is_not_taken_on_trust_when_it_comes_from_outside(annotation: Any, strange: Any) -> None:
    event: Event[Any] = Event("news", annotation)

    async def waits(run: Run) -> Any:
        return await run.wait(event)

    with pytest.raises(PayloadError, match="event news takes a payload of"):
        event.encode(strange)
    driver = drive(waits)
    driver.send("news", strange)
    driver.tell()
    driver.turn()
    assert driver.execution.stop is not None
    assert list(driver.inbox) == [1]


def test_a_recorded_event_that_no_longer_fits_a_plain_container_pauses_the_run() -> None:
    def waits(annotation: Any) -> Any:
        async def code(run: Run) -> None:
            await run.wait(Event("news", annotation))
            await run.sleep(60)

        return drive(code).definition

    driver = Driver(waits(list))
    driver.send("news", [1])
    driver.tell()
    driver.turn()
    driver.definition = waits(dict)
    driver.crash()
    assert driver.execution.stop is not None
    assert "recorded" in driver.execution.stop.message
