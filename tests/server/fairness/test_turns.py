"""Turns at what is large: one at a time, and whoever has many waiting keeps nobody waiting for more than one of them."""

from __future__ import annotations

import asyncio

import pytest

from aiki_server.api.fairness.heavy import texts_of
from aiki_server.api.fairness.turns import Turns
from aiki_server.api.heavy_process import answer


async def test_another_namespace_waits_for_one_at_most() -> None:
    turns, order, first = Turns(), list[str](), asyncio.Event()

    async def write(namespace: str) -> None:
        async with turns.taken(namespace):
            order.append(namespace)
            await first.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(write("hostile"))
        await asyncio.sleep(0)
        group.create_task(write("good"))
        await asyncio.sleep(0)
        first.set()
    assert order[:2] == ["hostile", "good"]


async def test_a_turn_ends_with_its_holder() -> None:
    turns = Turns()
    with pytest.raises(RuntimeError):
        async with turns.taken("one"):
            raise RuntimeError
    async with asyncio.timeout(5):
        await turns.taken("two").__aenter__()


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        ('{"name":"go","payload":"gö"}', '"gö"'),
        ('{"payload":[1, 2],"name":"go"}', "[1, 2]"),
        ('{"name":"go"}', "null"),
        ('{"name":"null","payload": null}', "null"),
    ],
)
def test_a_text_is_found_in_the_body_or_sent(body: str, payload: str) -> None:
    raw = body.encode()
    told, sent = answer({"job": "event"}, raw)
    assert texts_of(told["places"], told["sizes"], raw, sent) == [payload]
    assert not (sent and "payload" in body and payload != "null"), "what is in the body travels once"


def test_each_start_of_a_batch_gets_its_own_input() -> None:
    raw = '{"runs":[{"workflow":"a","input":"é"},{"workflow":"b"},{"input":[1],"workflow":"c"},{"workflow":"d","input":"é"}]}'.encode()
    told, sent = answer({"job": "batch"}, raw)
    assert texts_of(told["places"], told["sizes"], raw, sent) == ['"é"', "null", "[1]", '"é"']
