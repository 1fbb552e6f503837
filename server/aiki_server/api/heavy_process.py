"""The other side of `heavy`: a program that reads bodies from its standard input until that ends.

A question is a line of JSON (`job`, `size`, and what the job needs) and `size` bytes; an answer has the same form. Whatever a job
refuses goes back as the problem that the server is to answer with.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, BinaryIO

from aiki.shared.redaction import uncaught_to_log
from aiki_server.api.http.errors import ApiError
from aiki_server.api.public.event_body import read_event
from aiki_server.api.public.history import Lines, lines
from aiki_server.api.public.start_body import ReadStart, read_start, read_starts
from aiki_server.api.worker.commit_body import read_commit, refusals
from aiki_server.model.payload_schema import Steps, read

MEMORY_BYTES = 768 * 1024**2
NICE = 5
STEPS_HERE = 2_000_000
"""Of holding one payload against schemas: enough for all values that a payload can have."""

Answer = tuple[Mapping[str, Any], bytes]


def _start(raw: bytes, _: Mapping[str, Any]) -> Answer:
    return _told([read_start(raw)], raw)


def _batch(raw: bytes, _: Mapping[str, Any]) -> Answer:
    return _told(read_starts(raw), raw)


def _told(starts: list[ReadStart], raw: bytes) -> Answer:
    places, sizes, sent = _placed([start.input for start in starts], raw)
    told = [
        {
            "wanted": start.wanted.model_dump(mode="json", exclude={"input", "start_at"}),
            "start_at": start.start_at and start.start_at.isoformat(),
            "digest": start.digest,
        }
        for start in starts
    ]
    return {"starts": told, "places": places, "sizes": sizes}, sent


def _event(raw: bytes, _: Mapping[str, Any]) -> Answer:
    event, payload, _ = read_event(raw)
    places, sizes, sent = _placed([payload], raw)
    return {"event": event.model_dump(mode="json", exclude={"payload"}), "places": places, "sizes": sizes}, sent


def _fit(raw: bytes, question: Mapping[str, Any]) -> Answer:
    """What is wrong with a payload that was read before, by the schemas that it is held against."""
    payload, steps = json.loads(raw), Steps(STEPS_HERE)
    found = {name: read(text).misfit(payload, steps) for name, text in question["schemas"].items()}
    return {"wrong": {name: wrong for name, wrong in found.items() if wrong is not None}}, b""


def _placed(texts: Sequence[str], raw: bytes) -> tuple[list[int | None], list[int], bytes]:
    """Where in the body each text begins, and its size; the body is not sent back. What is not in it (a null that nobody wrote) is sent."""
    places: list[int | None] = []
    sizes: list[int] = []
    sent: list[bytes] = []
    searched = 0
    for text in texts:
        data = text.encode()
        place = -1 if text == "null" else raw.find(data, searched)
        sizes.append(len(data))
        if place < 0:
            places.append(None)
            sent.append(data)
        else:
            places.append(place)
            searched = place + len(data)
    return places, sizes, b"".join(sent)


def _commit(raw: bytes, _: Mapping[str, Any]) -> Answer:
    return {"refusals": refusals(read_commit(raw))}, b""


def _history(raw: bytes, question: Mapping[str, Any]) -> Answer:
    found = lines(Lines(**question["chunk"]), raw.decode())
    return {"sizes": list(map(len, found))}, b"".join(found)


JOBS: Mapping[str, Callable[[bytes, Mapping[str, Any]], Answer]] = {
    "start": _start,
    "batch": _batch,
    "event": _event,
    "fit": _fit,
    "commit": _commit,
    "history": _history,
}


def answer(question: Mapping[str, Any], raw: bytes) -> Answer:
    """What to say to a question."""
    try:
        return JOBS[question["job"]](raw, question)
    except ApiError as error:
        return {"problem": {key: value for key, value in asdict(error).items() if value is not None}}, b""
    except MemoryError:
        return {
            "problem": {"status": 413, "detail": "The body has so many values that they do not fit into memory. Send fewer at once."}
        }, b""


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer until there are no more questions."""
    while line := questions.readline():
        question = json.loads(line)
        told, found = answer(question, questions.read(question["size"]))
        answers.write(json.dumps({**told, "size": len(found)}).encode() + b"\n" + found)
        answers.flush()


if __name__ == "__main__":
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    uncaught_to_log()  # an error may quote the body
    serve(sys.stdin.buffer, sys.stdout.buffer)
