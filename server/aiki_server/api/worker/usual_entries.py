"""Entries in the form in which the SDK writes most of them, read in half the time that judging their members one by one takes.

Of each entry, all but a result is matched by one expression that accepts less than `worker_entries` does: members in the SDK's order, numbers with
few digits, texts without escapes. What does not match is not wrong; it is read the long way, which alone refuses. So a law holds, and
tests/server/api/test_usual_entries.py checks it: what is found here the long way finds as well.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from aiki.protocol import MAX_JSON_DEPTH, RUN_ID_PATTERN, EntryKind
from aiki_server.api.http.strict_json import read_value
from aiki_server.api.worker.entries import MAX_ADDRESS, MAX_LABEL

_NUMBER = "(?:0|[1-9][0-9]{0,8})"
_MICROS = "(?:0|[1-9][0-9]{0,17})"
_RUN_ID = RUN_ID_PATTERN.strip("^$")
_LETTERS = r'[^"\\\x00-\x1f]'
_CALL = rf'{EntryKind.CALL}","c":{_NUMBER},"a":"{_LETTERS}{{0,{MAX_ADDRESS}}}","l":"{_LETTERS}{{0,{MAX_LABEL}}}"(?:,"due":{_MICROS})?(?:,"run":"{_RUN_ID}")?}}'
_DONE = rf'({EntryKind.DONE})","c":{_NUMBER},"at":{_MICROS},"v":'
_entry = re.compile(rf'{{"k":"(?:{_DONE}|{_CALL}|{EntryKind.BEGAN}","at":{_MICROS}}}|{EntryKind.COMPLETED}","at":{_MICROS}(}})(?=]))').match
"""The second group is there for the end of a run, which is the last entry."""
_after_result = re.compile(rf'(?:,"i":{_NUMBER})?}}').match
_RESULT, _END = 1, 2


class Entries(NamedTuple):
    """How many there are, and whether the last of them says that the run is completed."""

    size: int
    completed: bool


def usual_entries(text: str) -> Entries | None:
    """What the text of an array of entries has; None where it is not of the usual form. Raises InvalidJsonError for a result that is no JSON."""
    if text[:1] != "[" or text.count("{") + text.count("[") > MAX_JSON_DEPTH:
        return None
    index, count = 1, 0
    while (found := _entry(text, index)) is not None:
        index, count = found.end(), count + 1
        if found.lastindex == _RESULT:
            _, index = read_value(text, index)
            if text[index : index + 1] == "}":
                index += 1
            elif (rest := _after_result(text, index)) is not None:
                index = rest.end()
            else:
                return None
        mark = text[index : index + 1]
        if mark == "]":
            return Entries(count, found.lastindex == _END) if index + 1 == len(text) else None
        if mark != ",":
            return None
        index += 1
    return None
