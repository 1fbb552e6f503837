"""Servers are upgraded first, so what they answer may have members that this release does not know; what they are sent may not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NotRequired, get_args, get_origin, get_type_hints

import pytest
from pydantic import ValidationError

from aiki import protocol
from aiki.protocol import END_KINDS, SERVER_KINDS, TERMINAL, Entry, EntryKind, QueuedBy, Registered, Status, Wire, WireAnswer
from aiki_server.api.edge.routes import __file__ as routes_file
from aiki_server.api.worker.entries import KINDS

SENT_TOO = {"ErrorInfo", "PoolSettings", "WorkflowVersion"}
"""Of these the members are fixed, because they are sent as well: what is new about them needs a name of its own."""
MODELS = [found for found in vars(protocol).values() if isinstance(found, type) and issubclass(found, Wire)]
ENTRIES = {kind: entry for entry in get_args(Entry) for kind in get_args(get_type_hints(entry)["k"])}
"""The members of an entry, by its kind."""
PAGE = Path(__file__).parents[3] / "docs" / "internals" / "protocol.md"
ANSWERS = [model for model in MODELS if issubclass(model, WireAnswer) and model is not WireAnswer]


@pytest.mark.parametrize("model", ANSWERS)
def test_an_answer_may_say_more_than_this_release_knows(model):
    with pytest.raises(ValidationError) as caught:
        model.model_validate({"a_later_member": 1})
    assert "a_later_member" not in {error["loc"][-1] for error in caught.value.errors()}


@pytest.mark.parametrize("model", [model for model in MODELS if not issubclass(model, WireAnswer) and model is not Wire])
def test_what_is_sent_has_no_member_that_nobody_knows(model):
    with pytest.raises(ValidationError) as caught:
        model.model_validate({"a_later_member": 1})
    assert "extra_forbidden" in {error["type"] for error in caught.value.errors()}


def test_each_answer_that_the_documents_name_may_grow():
    names = {model.__name__ for model in ANSWERS}
    routes = (Path(routes_file or "")).read_text()
    answered = set(re.findall(r"\b20\d: wire\.(\w+)", routes))
    assert answered
    assert answered - names <= SENT_TOO


def test_an_answer_within_an_answer_may_grow_too():
    worker = {"lease_seconds": 1, "heartbeat_seconds": 1, "redis_url": None, "inbox_channel": "c", "now": 1}
    later = {**worker, "assignment": {"streams": [], "drain": False, "poll": False, "later": 1}, "later": 1}
    assert Registered.model_validate(later).assignment.streams == []


def test_each_kind_of_entry_has_its_members_named_once():
    assert list(ENTRIES) == list(EntryKind)
    assert len(get_args(Entry)) == len({*ENTRIES.values()})


def test_a_worker_may_write_the_members_that_an_entry_has_and_no_others():
    assert KINDS.keys() == {*EntryKind} - SERVER_KINDS
    for name, kind in KINDS.items():
        entry = ENTRIES[EntryKind(name)]
        assert kind.members.keys() == members(entry).keys()
        assert {"k", *kind.needed} == {name for name, hint in members(entry).items() if get_origin(hint) is not NotRequired}


def test_the_page_lists_each_kind_with_its_members():
    rows = re.findall(r"^\| ((?:`\w+` )+)\| (?:worker|server)[^|]*\| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    listed = {kind: said for kinds, said in rows for kind in re.findall(r"`(\w+)`", kinds)}
    assert listed.keys() == {*EntryKind}
    for kind, said in listed.items():
        named = set(re.findall(r"`(\w+)(?:: true)?`", said))
        assert named >= members(ENTRIES[EntryKind(kind)]).keys() - {"k", "at"}, kind
    assert all(f"`{by}`" in listed[EntryKind.QUEUED] for by in QueuedBy)


def test_a_run_ends_by_one_entry_for_each_terminal_status():
    assert END_KINDS.keys() == TERMINAL == {status for status in Status if status.terminal}


def members(entry: type) -> dict[str, Any]:
    """The members of an entry, with what they are."""
    return get_type_hints(entry, include_extras=True)
