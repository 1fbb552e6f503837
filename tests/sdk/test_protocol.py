"""Servers are upgraded first, so what they answer may have members that this release does not know; what they are sent may not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from aiki import protocol
from aiki.protocol import Registered, Wire, WireAnswer
from aiki_server.api.routes import __file__ as routes_file

SENT_TOO = {"ErrorInfo", "PoolSettings", "WorkflowVersion"}
"""Of these the members are fixed, because they are sent as well: what is new about them needs a name of its own."""
MODELS = [found for found in vars(protocol).values() if isinstance(found, type) and issubclass(found, Wire)]
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
