"""The client against the real server: starts that converge, results as annotated, errors as one tree."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from aiki import ApiError, Client, Event, ResultTimeout, Run, RunCancelled, RunFailed, RunHandle, ServerUnreachable, workflow
from aiki.client import Start
from aiki.protocol import Status
from aiki_server.local.valkey import Valkey
from support.server import ServerProcess
from support.workers import SECONDS, StartWorker


@dataclass
class Order:
    id: UUID
    amount: Decimal
    at: datetime


async def test_input_and_output_come_back_as_annotated(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @flow.v("1.0")
    async def version(run: Run, order: Order) -> Order:
        return Order(order.id, order.amount * 2, order.at)

    await start_worker(flow)
    order = Order(UUID(int=7), Decimal("1.50"), datetime(2026, 1, 2, tzinfo=UTC))
    handle = await version.start(client, order)
    assert await handle.result(SECONDS) == Order(order.id, Decimal("3.00"), order.at)
    assert await client.handle(handle.id, version).result(SECONDS) == Order(order.id, Decimal("3.00"), order.at)
    assert (await client.handle(handle.id).result(SECONDS))["amount"] == "3.00"


@pytest.mark.parametrize("value", [10**400, "\ud800", "\x00", 1e300, "ä€😀", {"a": [None, True]}, ""])
async def test_payload_comes_back_as_it_went_in(client: Client, start_worker: StartWorker, unique: str, value: object) -> None:
    flow = workflow(unique)

    @flow.v("1.0")
    async def version(run: Run, given: Any) -> Any:
        return given

    await start_worker(flow)
    handle = await version.start(client, value)
    assert await handle.result(SECONDS) == value
    assert (await handle.refresh()).input == value


async def test_same_ref_is_the_same_run(client: Client, unique: str) -> None:
    first = await client.start(unique, 1, ref=unique)
    second = await client.start(unique, 1, ref=unique)
    assert (first.created, second.created) == (True, False)
    assert first.id == second.id == (await client.by_ref(unique)).id


async def test_taken_ref_is_rejected_where_asked(client: Client, unique: str) -> None:
    await client.start(unique, 1, ref=unique)
    with pytest.raises(ApiError) as refused:
        await client.start(unique, 1, ref=unique, on_conflict="reject")
    assert refused.value.status == 409


async def test_a_start_that_is_not_valid_says_which_part(client: Client, unique: str) -> None:
    with pytest.raises(ApiError, match=r"422 .* ref: String should match pattern"):
        await client.start(unique, 1, ref="two words")


async def test_same_ref_with_another_body_is_refused(client: Client, unique: str) -> None:
    await client.start(unique, 1, ref=unique)
    with pytest.raises(ApiError) as refused:
        await client.start(unique, 2, ref=unique)
    assert refused.value.status == 409


async def test_batch_keeps_the_order_and_crosses_the_limit_of_a_request(client: Client, unique: str) -> None:
    handles: list[RunHandle[Any]] = await client.start_many([Start(unique, number, ref=f"{unique}-{number}") for number in range(1_050)])
    assert len({handle.id for handle in handles}) == 1_050
    assert (await handles[1_049].refresh()).input == 1_049
    assert handles[7].id == (await client.by_ref(f"{unique}-7")).id


async def test_listing_is_newest_first_and_goes_on_page_by_page(client: Client, unique: str) -> None:
    handles = [await client.start(unique, number) for number in range(5)]
    listed = [run.id async for run in client.all_runs(workflow=unique, limit=2)]
    # Within a millisecond the order is that of chance.
    assert listed == sorted((handle.id for handle in handles), reverse=True)
    page = await client.runs(workflow=unique, status=Status.QUEUED, limit=2)
    assert len(page.runs) == 2
    assert page.next is not None


async def test_result_of_a_run_that_goes_on_is_a_timeout_of_ours(client: Client, unique: str) -> None:
    handle = await client.start(unique)
    with pytest.raises(ResultTimeout, match="queued"):
        await handle.result(0.05)
    with pytest.raises(TimeoutError):
        await handle.result(0)


async def test_cancelled_run_raises_run_cancelled(client: Client, unique: str) -> None:
    handle = await client.start(unique)
    assert (await handle.cancel("not needed")).status is Status.CANCELLED
    assert (await handle.cancel()).status is Status.CANCELLED
    with pytest.raises(RunCancelled):
        await handle.result(SECONDS)


async def test_failed_run_raises_run_failed_with_the_stored_error(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @flow.v("1.0")
    async def version(run: Run) -> None:
        raise LookupError("nobody there")

    await start_worker(flow)
    with pytest.raises(RunFailed) as failed:
        await (await version.start(client)).result(SECONDS)
    assert (failed.value.error.type, failed.value.error.message) == ("LookupError", "nobody there")


async def test_event_is_taken_once_for_each_id(client: Client, unique: str) -> None:
    handle = await client.start(unique)
    event = Event("paid", dict)
    first = await handle.send(event, {"n": 1}, id="one")
    again = await handle.send(event, {"n": 1}, id="one")
    other = await handle.send("paid", {"n": 2})
    assert (first.seq, first.created) == (1, True)
    assert (again.seq, again.created) == (1, False)
    assert other.seq == 2
    assert [item.payload for item in (await handle.history()).undelivered] == [{"n": 1}, {"n": 2}]


async def test_event_to_an_ended_run_is_refused(client: Client, unique: str) -> None:
    handle = await client.start(unique)
    await handle.cancel()
    with pytest.raises(ApiError) as refused:
        await handle.send("paid")
    assert refused.value.status == 409
    assert refused.value.problem.detail


async def test_unknown_run_is_a_404_with_its_problem_document(client: Client) -> None:
    with pytest.raises(ApiError) as refused:
        await client.handle("00" + "0" * 30).refresh()
    assert refused.value.status == 404
    assert refused.value.problem.title


async def test_start_at_without_a_time_zone_is_refused_here(client: Client, unique: str) -> None:
    with pytest.raises(ValueError, match="time zone"):
        await client.start(unique, start_at=datetime(2030, 1, 1))  # noqa: DTZ001


async def test_nobody_at_the_address_is_server_unreachable(unused_tcp_port: int) -> None:
    async with Client(f"http://127.0.0.1:{unused_tcp_port}") as client:
        with pytest.raises(ServerUnreachable):
            await client.ready()


async def test_environment_names_the_server(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIKI_URL", server.url)
    async with Client() as client:
        assert await client.ready()


# ---- answers that get lost, from a server that the test makes


class Flaky:
    """Closes the first connections without an answer, or answers 503; then answers what a server would."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.bodies: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        self.bodies.append(await reader.readexactly(length))
        writer.write(self.answers.pop(0))
        writer.close()


ANSWER = b'{"id":"' + b"0" * 32 + b'","created":true,"status":"queued"}'
STARTED = b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
CUT = STARTED[:-5]


@pytest.fixture
async def flaky() -> AsyncIterator[tuple[Flaky, Client]]:
    flaky = Flaky(b"", BUSY, CUT, STARTED)
    server = await asyncio.start_server(flaky.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Client(f"http://127.0.0.1:{port}") as client:
        yield flaky, client


async def test_start_whose_answer_was_lost_is_sent_again_with_the_same_ref(flaky: tuple[Flaky, Client]) -> None:
    server, client = flaky
    handle = await client.start("w", 1)
    assert handle.id == "0" * 32
    assert len(server.bodies) == 4
    assert len(set(server.bodies)) == 1
    assert b'"ref": "auto:' in server.bodies[0]


async def test_result_is_waited_for_through_an_outage(
    own_database: str, valkey: Valkey, tmp_path: Path, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiki.client.handle.PATIENCE_SECONDS", 0.1)
    server = ServerProcess(own_database, valkey.url, log=tmp_path / "server.log")
    server.start()
    async with Client(server.url) as client:
        handle = await client.start(unique)
        waiting = asyncio.ensure_future(handle.result())
        await asyncio.sleep(0)
        server.kill()
        with pytest.raises(ResultTimeout, match="gives no answer"):
            await asyncio.wait_for(handle.result(1), SECONDS)
        assert not waiting.done()
        server.start()
        await handle.cancel()
        with pytest.raises(RunCancelled):
            await asyncio.wait_for(waiting, SECONDS)
    server.stop()


async def test_server_that_does_not_answer_ends_no_wait_late(own_database: str, valkey: Valkey, tmp_path: Path, unique: str) -> None:
    server = ServerProcess(own_database, valkey.url, log=tmp_path / "server.log")
    server.start()
    async with Client(server.url) as client:
        handle = await client.start(unique)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        with pytest.raises(ResultTimeout):
            await asyncio.wait_for(handle.result(0.5), SECONDS)
        os.kill(server.pid, signal.SIGCONT)
    server.stop()
