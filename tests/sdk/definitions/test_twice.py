"""Two definitions of one name are refused; a module that is executed again defines nothing twice."""

from __future__ import annotations

import importlib
import importlib.util
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import pytest

from aiki.worker.registry import WorkflowRegistry

HEAD = "from aiki import Event, Run, task, workflow\n"
TASK = "@task(name='{name}')\nasync def {function}(x: int) -> int:\n    return x\n"

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module of its own name; what the tests import is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)

    def written(text: str) -> str:
        name = f"m{uuid4().hex[:8]}"
        (tmp_path / f"{name}.py").write_text(HEAD + text)
        importlib.invalidate_caches()
        return name

    yield written
    for name in set(sys.modules) - known:
        del sys.modules[name]


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


TWICE = [
    TASK.format(name="pay", function="one") + TASK.format(name="pay", function="other"),
    TASK.format(name="pay", function="pay") + TASK.format(name="pay", function="pay"),
    "one = Event('paid', int)\nother = Event('paid', str)\n",
    "w = workflow('w')\n@w.v('1.0')\nasync def one(run: Run) -> None: ...\n@w.v('1.0')\nasync def other(run: Run) -> None: ...\n",
    "w, v = workflow('w'), workflow('w')\n@w.v('1.0')\nasync def one(run: Run) -> None: ...\n@v.v('1.0')\nasync def other(run: Run) -> None: ...\n",
]


@pytest.mark.parametrize("text", TWICE)
def test_second_of_one_name_is_refused_where_it_is_defined_and_both_are_named(write: Write, text: str) -> None:
    name = write(text)
    with pytest.raises(ValueError, match=rf"there are two of .*{name}\.py:\d+ .*{name}\.py:\d+"):
        load(name)


def test_second_in_another_module_is_refused_where_the_first_is_imported(write: Write) -> None:
    first = write(TASK.format(name="pay", function="pay"))
    second = write(f"from {first} import pay as other\n" + TASK.format(name="pay", function="pay"))
    with pytest.raises(ValueError, match=rf"two of task pay: one at .*{first}\.py:\d+ and one at .*{second}\.py"):
        load(second)


def test_versions_of_one_name_in_two_modules_are_refused_where_they_are_registered(write: Write) -> None:
    text = "w = workflow('w')\n@w.v('1.0')\nasync def one(run: Run) -> None: ...\n"
    first, second = load(write(text)), load(write(text))
    with pytest.raises(ValueError, match=r"two of workflow w 1\.0"):
        WorkflowRegistry([first.w, second.w])


ONCE = (
    TASK.format(name="pay", function="pay")
    + "paid = Event('paid', int)\nw = workflow('w')\n@w.v('1.0')\nasync def one(run: Run) -> None: ...\n"
)


def test_reloaded_module_defines_nothing_twice(write: Write, tmp_path: Path) -> None:
    module = load(write(ONCE))
    old = module.w
    path = tmp_path / f"{module.__name__}.py"
    moved = ONCE.replace("function", "f").replace("async def pay", "async def renamed").replace("'paid', int", "'paid', str")
    path.write_text(HEAD + "\n\n" + moved)
    importlib.reload(module)
    assert module.w is not old
    assert WorkflowRegistry([old, module.w]).find("w", "1.0") is module.one


def test_reloaded_versions_of_a_workflow_of_another_module_replace_the_old(write: Write) -> None:
    owner = write("w = workflow('w')\n")
    module = load(write(f"from {owner} import w\n@w.v('1.0')\nasync def one(run: Run) -> None: ...\n"))
    importlib.reload(module)
    assert load(owner).w.versions["1.0"] is module.one


def test_program_that_is_imported_as_well_defines_nothing_twice(write: Write, tmp_path: Path) -> None:
    helper = write("")
    program = write(ONCE)
    path = tmp_path / f"{program}.py"
    (tmp_path / f"{helper}.py").write_text(f"from {program} import one, paid, pay, w\n")
    path.write_text(path.read_text() + f"if __name__ == '__main__':\n    from {helper} import *\n")
    found = runpy.run_path(str(path), run_name="__main__")
    imported = load(program)
    assert WorkflowRegistry([imported.w, found["w"]]).versions()


def test_functions_may_define_the_same_again_and_again(write: Write) -> None:
    body = "".join(f"    {line}\n" for line in TASK.format(name="pay", function="pay").splitlines())
    load(write(f"def made():\n{body}    return pay, Event('paid', int), Event('paid', str)\none, other = made(), made()\n"))


def test_equal_events_are_one(write: Write) -> None:
    load(write("one = Event('paid', int)\nother = Event('paid', int)\n"))


def test_names_of_other_kinds_are_no_second(write: Write) -> None:
    load(write(TASK.format(name="pay", function="pay") + "paid = Event('pay', int)\nw = workflow('pay')\n"))


FLOW = "w = workflow('w')\n@w.v('1.0')\nasync def run_it(run: Run) -> None:\n"
PAY = TASK.format(name="pay", function="pay")
FACTORY = "def made(url: str):\n    @task(name='pay')\n    async def pay(x: int) -> str:\n        return url\n    return pay\n"
OTHER = "import {other}\nfrom {other} import pay as other_pay, paid as other_paid\n"

REACHED = [
    PAY + OTHER + FLOW + "    await other_pay.start(run, await pay.start(run, 1))\n",
    "import {other}\n" + PAY + FLOW + "    await {other}.pay.start(run, await pay.start(run, 1))\n",
    PAY + OTHER + "def also(run: Run):\n    return pay.start(run, 1)\n" + FLOW + "    await other_pay.start(run, 1)\n    await also(run)\n",
    PAY + OTHER + "STEPS = {{'a': [pay], 'b': [other_pay]}}\n" + FLOW + "    for step in STEPS.values():\n        await step[0].start(run, 1)\n",
    PAY + OTHER + "class Steps:\n    async def go(self, run: Run):\n        await other_pay.start(run, 1)\n" + FLOW + "    await Steps().go(run)\n    await pay.start(run, 1)\n",
    PAY + OTHER + FLOW + "    async def inner(step=pay):\n        return [await p.start(run, 1) for p in (other_pay,)]\n    await inner(pay)\n",
    FACTORY + "one, two = made('one'), made('two')\n" + FLOW + "    await one.start(run, 1)\n    await two.start(run, 1)\n",
    FACTORY + "def flow():\n    one, two = made('one'), made('two')\n    w = workflow('w')\n    @w.v('1.0')\n    async def run_it(run: Run):\n        await one.start(run, 1)\n        await two.start(run, 1)\n    return w\nw = flow()\n",
    OTHER + "def paid():\n    return Event('paid', str)\nmine = paid()\n" + FLOW + "    await run.wait(mine)\n    await run.wait(other_paid)\n",
]  # fmt: skip


@pytest.mark.parametrize("text", REACHED)
def test_two_of_one_name_that_a_version_reaches_are_refused_where_it_is_registered(write: Write, text: str) -> None:
    other = write(PAY + "paid = Event('paid', int)\n")
    module = load(write(text.replace("{other}", other).replace("{{", "{").replace("}}", "}")))
    with pytest.raises(ValueError, match=r"there are two of (task pay|event paid): one at .*\.py:\d+ and one at .*\.py:\d+"):
        WorkflowRegistry([module.w])


APART = [
    PAY + OTHER + FLOW + "    await pay.start(run, 1)\n",
    "import {other}\n" + PAY + FLOW + "    await pay.start(run, await {other}.refund.start(run, 1))\n",
    FACTORY + "one, two = made('one'), made('one')\n" + FLOW + "    await one.start(run, 1)\n    await two.start(run, 1)\n",
    PAY + OTHER + FLOW + "    await pay.start(run, 1)\nv = workflow('v')\n@v.v('1.0')\nasync def other(run: Run):\n    await other_pay.start(run, 1)\n",
    PAY + FLOW + "    import asyncio, json\n    await asyncio.gather(pay.start(run, 1), pay.start(run, later))\n",
    PAY + "def flow():\n    w = workflow('w')\n    @w.v('1.0')\n    async def run_it(run: Run):\n        await unset.start(run, 1)\n    return w\n    unset = pay\nw = flow()\n",
]  # fmt: skip


@pytest.mark.parametrize("text", APART)
def test_two_of_one_name_that_no_run_uses_both_are_no_mistake(write: Write, text: str) -> None:
    other = write(PAY + TASK.format(name="refund", function="refund") + "paid = Event('paid', int)\n")
    module = load(write(text.replace("{other}", other)))
    assert WorkflowRegistry([value for value in (module.w, getattr(module, "v", None)) if value is not None]).versions()


def test_what_a_reload_has_defined_again_is_no_second_that_a_version_reaches(write: Write) -> None:
    other = load(write(PAY))
    module = load(
        write(
            f"import {other.__name__}\nfrom {other.__name__} import pay\n"
            + FLOW
            + f"    await pay.start(run, await {other.__name__}.pay.start(run, 1))\n"
        )
    )
    importlib.reload(other)
    assert module.pay is not other.pay
    assert WorkflowRegistry([module.w]).versions()
