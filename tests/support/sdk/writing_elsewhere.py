"""Writes the value of a number, in a process of its own: its text, and the address of a call with it."""

from __future__ import annotations

from random import Random
from typing import Any

from aiki.errors import PayloadError
from aiki.values.codec import Codec
from aiki.values.signature import Parameters, canonical_arguments
from support.other_processes import answer_all
from support.sdk.typed_values import faithful, strange


def written(question: list[Any]) -> list[str]:
    seed, odd = question
    annotation, value = (strange if odd else faithful)(Random(seed))

    def call(given): ...

    call.__annotations__ = {"given": annotation}
    parameters = Parameters(call)
    bound = parameters.bind((value,), {})
    try:
        texts, told = parameters.texts(bound)
        parameters.arguments(bound, told)
        return [Codec[Any](annotation).encode(value), canonical_arguments(texts)]
    except PayloadError:
        return ["refused"]


if __name__ == "__main__":
    answer_all(written)
