"""Group commit, with a transport that the test answers: what a real server cannot show is order, and loss at will."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from aiki.errors import ApiError, ServerUnreachable
from aiki.execution.batch import PART_CHILDREN
from aiki.protocol import MAX_CHILDREN, CommitAnswer, CommitOutcome, Committed, Problem
from aiki.worker.link.commit_pipe import MAX_IN_FLIGHT, MAX_OPS, SECOND_REQUEST_OPS, CommitPipe
from support.waiting import until


class Transport:
    """Holds requests until the test answers them."""

    def __init__(self) -> None:
        self.requests: list[list[bytes]] = []
        self.waiting: list[tuple[list[bytes], asyncio.Future[Committed]]] = []

    async def commit(self, ops: Sequence[bytes]) -> Committed:
        self.requests.append(list(ops))
        future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self.waiting.append((list(ops), future))
        return await future

    def answer(self, outcome: CommitOutcome = CommitOutcome.OK) -> None:
        ops, future = self.waiting.pop(0)
        future.set_result(Committed(now=0, answers=[CommitAnswer(outcome=outcome)] * len(ops)))

    def lose(self, error: Exception) -> None:
        _, future = self.waiting.pop(0)
        future.set_exception(error)

    async def asked(self, count: int = 1) -> None:
        async def enough() -> bool:
            return len(self.waiting) >= count

        await until(enough)


class Source:
    """Has ops to write, one after the other."""

    def __init__(self, pipe: CommitPipe, *ops: bytes) -> None:
        self.pipe = pipe
        self.ops = list(ops)
        self.answers: list[CommitOutcome] = []
        if ops:
            pipe.put(self)

    def take_op(self) -> bytes | None:
        return self.ops.pop(0) if self.ops else None

    def answered(self, answer: CommitAnswer) -> None:
        self.answers.append(answer.outcome)
        self.pipe.put(self)


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
async def pipe(transport: Transport) -> AsyncIterator[CommitPipe]:
    pipe = CommitPipe(transport.commit)
    yield pipe
    await pipe.drop()


def _problem(status: int) -> ApiError:
    return ApiError(Problem(type="about:blank", title="t", status=status, detail="d"))


async def test_what_arrives_in_one_turn_of_the_loop_is_one_request(pipe: CommitPipe, transport: Transport) -> None:
    for number in range(5):
        Source(pipe, b"%d" % number)
    await transport.asked()
    assert transport.requests == [[b"0", b"1", b"2", b"3", b"4"]]


async def test_what_arrives_while_a_request_is_under_way_goes_into_the_next(pipe: CommitPipe, transport: Transport) -> None:
    Source(pipe, b"first")
    await transport.asked()
    for number in range(3):
        Source(pipe, b"%d" % number)
        await asyncio.sleep(0)
    assert len(transport.requests) == 1
    transport.answer()
    await transport.asked()
    assert transport.requests[-1] == [b"0", b"1", b"2"]


async def test_many_that_wait_for_many_get_a_second_lane_and_no_third(pipe: CommitPipe, transport: Transport) -> None:
    for lane in range(MAX_IN_FLIGHT + 1):
        for number in range(SECOND_REQUEST_OPS):
            Source(pipe, b"%d" % number)
        await transport.asked(min(lane + 1, MAX_IN_FLIGHT))
    await asyncio.sleep(0)
    assert [len(request) for request in transport.requests] == [SECOND_REQUEST_OPS] * MAX_IN_FLIGHT


async def test_ops_of_one_run_go_one_after_the_other(pipe: CommitPipe, transport: Transport) -> None:
    source = Source(pipe, b"1", b"2", b"3")
    for number in range(1, 4):
        await transport.asked()
        assert transport.requests[-1] == [b"%d" % number]
        assert len(transport.waiting) == 1
        transport.answer()

    async def all_answered() -> bool:
        return len(source.answers) == 3

    await until(all_answered)


async def test_lost_answer_is_followed_by_the_same_bytes(pipe: CommitPipe, transport: Transport) -> None:
    source = Source(pipe, b"1", b"2")
    await transport.asked()
    transport.lose(ServerUnreachable("gone"))
    await transport.asked()
    transport.lose(RuntimeError("a bug of ours"))
    await transport.asked()
    assert transport.requests == [[b"1"]] * 3
    transport.answer()
    await transport.asked()
    assert transport.requests[-1] == [b"2"]
    assert source.answers == [CommitOutcome.OK]


async def test_op_that_the_server_does_not_take_is_refused_alone(pipe: CommitPipe, transport: Transport) -> None:
    sources = [Source(pipe, b"%d" % number) for number in range(4)]

    async def answer() -> bool:
        while transport.waiting:
            if b"2" in transport.waiting[0][0]:
                transport.lose(_problem(413))
            else:
                transport.answer()
            await asyncio.sleep(0)
        return all(source.answers for source in sources)

    await until(answer)
    assert [source.answers for source in sources] == [[CommitOutcome.OK]] * 2 + [[CommitOutcome.REFUSED]] + [[CommitOutcome.OK]]


async def test_refused_token_is_no_reason_to_give_up(pipe: CommitPipe, transport: Transport) -> None:
    source = Source(pipe, b"1")
    await transport.asked()
    transport.lose(_problem(401))
    await transport.asked()
    transport.answer()

    async def answered() -> bool:
        return source.answers == [CommitOutcome.OK]

    await until(answered)


async def test_request_has_a_bounded_number_of_ops(pipe: CommitPipe, transport: Transport) -> None:
    for number in range(MAX_OPS + SECOND_REQUEST_OPS):
        Source(pipe, b"%d" % number)
    await transport.asked(2)
    assert [len(request) for request in transport.requests] == [MAX_OPS, SECOND_REQUEST_OPS]


async def test_large_ops_do_not_travel_together(pipe: CommitPipe, transport: Transport) -> None:
    for _ in range(2):
        Source(pipe, b"x" * 2_000_000)
    await transport.asked()
    transport.answer()

    async def both_sent() -> bool:
        return [len(request) for request in transport.requests] == [1, 1]

    await until(both_sent)


async def test_dropped_pipe_forgets_what_was_under_way_and_goes_on(pipe: CommitPipe, transport: Transport) -> None:
    old = Source(pipe, b"old")
    await transport.asked()
    await pipe.drop()
    new = Source(pipe, b"new")
    transport.waiting.clear()
    await transport.asked()
    transport.answer()

    async def answered() -> bool:
        return new.answers == [CommitOutcome.OK]

    await until(answered)
    assert old.answers == []


async def test_a_request_holds_no_more_children_than_the_server_takes(pipe, transport):
    child = b'{"id":"x","workflow":"w","input":"\\"workflow\\":"}'
    op = b'{"children":[' + b",".join([child] * PART_CHILDREN) + b"]}"
    for _ in range(7):
        Source(pipe, op)
    for _ in range(20):
        await transport.asked()
        transport.answer()
        if sum(map(len, transport.requests)) == 7:
            break
    assert max(request.count(op) * PART_CHILDREN for request in transport.requests) <= MAX_CHILDREN // 2
