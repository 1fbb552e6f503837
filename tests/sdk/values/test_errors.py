"""What is stored of an exception, however strange or large it is."""

from __future__ import annotations

import asyncio
import importlib
import json
import pickle
import pkgutil
import re
import traceback
from collections.abc import Iterator

import pytest

import aiki
import aiki.testing
from aiki import AikiError, ApiError, NonRetryable, NotAllowedInWorkflow, Retry, Run, TaskFailed, errors, task, workflow
from aiki.errors import ChildFailed, ResultTimeout, RunCancelled, RunFailed, TooManyRequests, cut, error_info, error_named
from aiki.execution.outcome import Failed
from aiki.protocol import DOCUMENTS_URL, MAX_ERROR_MESSAGE_BYTES, MAX_ERROR_STACK_BYTES, ErrorInfo, Problem
from support.sdk.driver import Driver


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001  that is what it is for
        return caught


INFO = ErrorInfo(type="ValueError", message="no money")
EVERY: list[AikiError] = [
    NonRetryable("no"), TaskFailed("charge", INFO), ChildFailed("child", INFO), RunFailed("0" * 32, INFO), RunCancelled("0" * 32, INFO),
    RunCancelled("0" * 32), ApiError(Problem(type="t", title="No", status=409, detail="d")), TooManyRequests("later", 1.5), ResultTimeout("late"),
]  # fmt: skip


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_error_comes_back_from_a_process_pool_as_it_was(error: AikiError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), vars(back)) == (type(error), str(error), vars(error))


def test_type_message_and_stack_are_kept() -> None:
    info = error_info(raised(ValueError("no money")))
    assert (info.type, info.message) == ("ValueError", "no money")
    assert info.stack is not None
    assert "test_errors.py" in info.stack


def test_causes_are_in_the_stack() -> None:
    error = ValueError("outer")
    error.__cause__ = KeyError("inner")
    stack = error_info(raised(error)).stack
    assert stack is not None
    assert "KeyError: 'inner'" in stack


def test_ten_megabytes_are_cut_with_a_mark_at_both_places() -> None:
    info = error_info(raised(RuntimeError("ü" * 5_000_000)))
    assert info.stack is not None
    assert len(info.message.encode()) <= MAX_ERROR_MESSAGE_BYTES
    assert len(info.stack.encode()) <= MAX_ERROR_STACK_BYTES
    assert "[cut: 10000000 bytes]" in info.message
    assert "[cut:" in info.stack
    assert info.stack.startswith("Traceback")


class Hostile(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError

    def __reduce__(self) -> str:
        raise TypeError("unpicklable")


def test_exception_that_cannot_be_shown_is_still_an_error() -> None:
    info = error_info(raised(Hostile()))
    assert info.type == "Hostile"
    assert "ZeroDivisionError" in info.message


def test_deep_recursion_is_kept_short() -> None:
    def deeper() -> None:
        deeper()

    try:
        deeper()
    except RecursionError as error:
        info = error_info(error)
    assert info.stack is not None
    assert len(info.stack) <= MAX_ERROR_STACK_BYTES


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b", "a\udfff"])
def test_text_that_a_database_refuses_is_shown_escaped(text: str) -> None:
    info = error_info(raised(RuntimeError(text)))
    assert info.stack is not None
    for stored in (info.message, info.stack):
        stored.encode()
        assert "\x00" not in stored
    assert json.loads(info.model_dump_json())["message"] == info.message


@pytest.mark.parametrize("limit", [60, 61, 62, 63])
def test_cut_text_is_whole_characters_within_the_limit(limit: int) -> None:
    text = cut("ü" * 100, limit)
    assert len(text.encode()) <= limit
    assert "[cut: 200 bytes]" in text


def test_text_at_the_limit_is_left_alone() -> None:
    assert cut("x" * 60, 60) == "x" * 60


def test_failures_carry_the_original_error() -> None:
    error = TaskFailed("charge(amount=1)", ErrorInfo(type="CardDeclined", message="no money"))
    assert error.type == "CardDeclined"
    assert str(error) == "charge(amount=1) failed: CardDeclined: no money"
    assert isinstance(error, AikiError)


def test_api_errors_carry_the_problem() -> None:
    error = ApiError(Problem(type="about:blank", title="Conflict", status=409, detail="ref is taken"))
    assert error.status == 409
    assert str(error) == "409 Conflict: ref is taken"


def test_api_errors_say_what_is_wrong_where() -> None:
    errors = [{"loc": ["runs", 3, "ref"], "msg": "String should match", "type": "x"}, {"msg": "Something else"}]
    error = ApiError(Problem(type="about:blank", title="Invalid", status=422, detail="The body is wrong.", errors=errors))
    assert str(error) == "422 Invalid: The body is wrong. runs.3.ref: String should match; Something else"


def test_named_errors_are_not_retried() -> None:
    assert error_named("X", "y").retryable is False
    assert issubclass(NonRetryable, Exception)


def test_group_names_what_is_in_it() -> None:
    group = ExceptionGroup("unhandled errors in a TaskGroup", [ValueError("no"), ExceptionGroup("more", [KeyError("x")])])
    assert error_info(group).message == "unhandled errors in a TaskGroup (2 sub-exceptions): ValueError: no; KeyError: 'x'"
    many = ExceptionGroup("many", [ValueError(str(number)) for number in range(12)])
    assert error_info(many).message.endswith("ValueError: 9; and 2 more")


def test_group_with_an_error_that_is_final_is_final() -> None:
    policy = Retry.fixed(max_attempts=3, non_retryable=(KeyError,))
    for error in (NonRetryable("no"), KeyError("x")):
        assert not policy.retries(ExceptionGroup("both", [OSError(), ExceptionGroup("inner", [error])]), 1)
    assert policy.retries(ExceptionGroup("both", [OSError()]), 1)


def test_group_of_failed_tasks_has_their_stacks() -> None:
    @task(retry=Retry.never())
    async def breaks(number: int) -> None: ...

    async def code(run: Run) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(breaks.start(run, 1))

    def fail(number: int) -> None:
        raise OSError("disk full")

    driver = Driver(workflow("flow").v("1.0")(code))
    driver.run_tasks({"breaks": fail})
    assert isinstance(driver.outcome, Failed)
    error = driver.outcome.error
    assert error.message == ("unhandled errors in a TaskGroup (1 sub-exception): TaskFailed: breaks(number=1) failed: OSError: disk full")
    assert error.stack is not None
    assert 'raise OSError("disk full")' in error.stack


def drawn() -> dict[str, str]:
    """Each error of the drawing in the docstring of aiki.errors, with the one that it is below."""
    parents: dict[str, str] = {}
    above: list[str] = ["AikiError"]
    for indent, name in re.findall(r"^( +)\+ (\w+)", errors.__doc__ or "", re.MULTILINE):
        depth = len(indent) // 2
        del above[depth:]
        parents[name] = above[-1]
        above.append(name)
    return parents


def below(kind: type[AikiError]) -> Iterator[tuple[str, str]]:
    """Each error that Aiki defines, with the one that it is derived from."""
    for one in kind.__subclasses__():
        if one.__module__.partition(".")[0] == "aiki":
            yield one.__name__, kind.__name__
            yield from below(one)


def test_the_drawn_tree_is_that_of_the_classes() -> None:
    for module in pkgutil.walk_packages(aiki.__path__, "aiki."):
        if not module.name.startswith(("aiki.cli", "aiki.__")):
            importlib.import_module(module.name)
    assert drawn() == dict(below(AikiError))


def test_what_aiki_raises_can_be_caught_by_a_name_of_the_package() -> None:
    assert set(drawn()) - {"Stuck"} <= set(aiki.__all__)
    assert all(getattr(aiki, name) is getattr(errors, name) for name in drawn() if name != "Stuck")
    assert issubclass(aiki.testing.Stuck, AikiError)


@pytest.mark.parametrize(
    ("error", "section"),
    [
        (NotAllowedInWorkflow("no"), "notallowedinworkflow"),
        (ApiError(Problem(type="urn:aiki:ref-taken", title="t", status=409, detail="d")), "ref-taken"),
        (ApiError(Problem(type="about:blank", title="t", status=418, detail="d")), "apierror"),
        (RunFailed("r", ErrorInfo(type="Divergence", message="m")), "divergence"),
        (RunFailed("r", ErrorInfo(type="ValueError", message="m")), "runfailed"),
        (RunCancelled("r"), "runcancelled"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_error_leads_to_its_section_of_the_documents(error: AikiError, section: str) -> None:
    assert error.help_link == f"{DOCUMENTS_URL}/operate/troubleshooting.html#{section}"
    assert traceback.format_exception(error)[-1] == f"See {error.help_link}\n"


def test_error_of_one_s_own_leads_to_what_it_is_made_of() -> None:
    class OutOfStock(NonRetryable):
        pass

    assert OutOfStock("socks").help_link.endswith("#nonretryable")
    assert pickle.loads(pickle.dumps(NonRetryable("socks"))).__notes__ == [f"See {NonRetryable().help_link}"]
