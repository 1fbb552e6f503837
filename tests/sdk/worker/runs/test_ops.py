"""Ops as the worker writes them by hand are what their model reads, and would have written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiki.protocol import CommitOp, ErrorInfo, Finish, Status
from aiki.worker.link.api import encoded, plain_op

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ['"', "\\", "\x00", "\x1f", "\x7f", "\u2028", "é", "\U0001f600"]
)
finishes = st.none() | st.builds(
    lambda output, error, inbox_seen: Finish(
        status=Status.COMPLETED if error is None else Status.FAILED, output=output, error=error, inbox_seen=inbox_seen
    ),
    st.none() | texts,
    st.none() | st.builds(lambda message: ErrorInfo(type="E", message=message), texts),
    st.none() | st.integers(0, 9),
)


@given(texts, st.none() | texts, finishes, st.booleans(), st.integers(1, 2**31 - 1))
def test_a_plain_op_says_what_its_model_says(entries: str, state: str | None, finish: Finish | None, release: bool, number: int) -> None:
    written = plain_op("0" * 32, 3, number, entries, count=2, steps=1, state=state, release=release, finish=finish)
    op = CommitOp(run="0" * 32, epoch=3, number=number, entries=entries, count=2, steps=1, state=state, release=release, finish=finish)
    assert CommitOp.model_validate_json(written, strict=True) == op
    assert len(written) <= len(encoded(op)) + len(b'"entries":"[]",')


def test_half_a_character_is_refused_as_by_the_model() -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        plain_op("0" * 32, 1, 1, "\ud800", count=1, steps=0, state=None, release=False, finish=None)
