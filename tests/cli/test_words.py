"""Durations and payloads as people read them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from aiki.cli.output.format import cut, duration, payload, readable


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0121, "12 ms"), (3.21, "3.2 s"), (125, "2 min 5 s"), (120, "2 min"), (43_140, "11 h 59 min"), (93_600, "1 d 2 h"), (-1, "0 ms")],
)
def test_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text


def test_no_duration_and_no_payload_are_empty() -> None:
    assert (duration(None), payload(None)) == ("", "")


def test_long_payload_is_cut_with_an_ellipsis() -> None:
    assert payload({"text": "x" * 100}, limit=12) == '{"text": "x…'


def test_only_the_first_line_is_shown() -> None:
    assert cut("one\ntwo", limit=10) == "one"


@pytest.mark.parametrize(
    ("label", "text"),
    [
        (r'f("Zo\u00eb")', 'f("Zoë")'),
        (r'f("\ud83d\ude00\u65e5")', 'f("😀日")'),
        (r'f("\\u00eb")', r'f("\\u00eb")'),
        (r"f(\u12)", r"f(\u12)"),
    ],
)
def test_labels_have_letters_of_all_scripts(label: str, text: str) -> None:
    assert readable(label) == text
