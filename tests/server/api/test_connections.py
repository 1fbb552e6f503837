"""What a peer without a token can make the server hold is bounded: real sockets against the connections that the server serves on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn

from aiki_server.api.edge.auth import Tokens
from aiki_server.api.edge.gateway import Edge, Hot
from aiki_server.api.edge.origin import Origins
from aiki_server.api.http import connection
from aiki_server.api.http.connection import MAX_HEAD_BYTES, MAX_HEADERS, MAX_PIPELINED, MAX_URL_BYTES, Connection
from aiki_server.main import ServerLoop
from support.waiting import until

BIG = b"x" * (8 * 1024 * 1024)
GET = b"GET /api/v1/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token\r\n\r\n"


async def app(scope, receive, send):
    """Takes the body in, and answers it with its size; /big with much."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message.get("more_body", False)
    body = BIG if scope["path"] == "/big" else b"%d" % size
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class Site:
    """A server on a socket of this process."""

    def __init__(self) -> None:
        self.edge = Edge(app, tokens=Tokens({"token": "default"}), origins=Origins(frozenset()), hot=Hot({}, {}), drain=lambda: None)
        self.doors = self.edge.doors
        self._writers: list[asyncio.StreamWriter] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        config = uvicorn.Config(
            self.edge,
            http=Connection,
            lifespan="off",
            ws="none",
            log_config=None,
            date_header=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self.server = ServerLoop(config, self.edge, shutdown_delay_seconds=0)

    async def serve(self) -> None:
        await self.server.serve([self._socket])

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers.append(writer)
        return reader, writer

    async def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    async def said(self, *sent: bytes) -> bytes:
        """The status line that comes back, or nothing where the connection is dropped."""
        reader, writer = await self.connect()
        try:
            for piece in sent:
                writer.write(piece)
                await writer.drain()
            return (await asyncio.wait_for(reader.readline(), 10)).split(b"\r")[0]
        except ConnectionError:
            return b""
        finally:
            writer.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    serving = asyncio.create_task(site.serve())
    await until(lambda: _started(site))
    yield site
    await site.hang_up()
    site.server.should_exit = True
    await serving


async def _started(site: Site) -> bool:
    return site.server.started


def head(*lines: bytes, path: bytes = b"/livez") -> bytes:
    return b"\r\n".join([b"GET " + path + b" HTTP/1.1", b"Host: x", *lines, b"", b""])


async def test_heads_at_the_limit_and_beyond(site):
    url = b"/" + b"a" * (MAX_URL_BYTES - 1)
    assert await site.said(head(path=url)) == b"HTTP/1.1 200 OK"
    assert (await site.said(head(path=url + b"a"))).startswith(b"HTTP/1.1 414")
    many = [b"X-%d: 1" % number for number in range(MAX_HEADERS - 1)]
    assert await site.said(head(*many)) == b"HTTP/1.1 200 OK"
    assert (await site.said(head(*many, b"More: 1"))).startswith(b"HTTP/1.1 431")
    long = b"X: " + b"a" * (MAX_HEAD_BYTES - 20)
    assert await site.said(head(long)) == b"HTTP/1.1 200 OK"
    assert (await site.said(head(long + b"a" * 20))).startswith(b"HTTP/1.1 431")
    assert site.doors.refused == 3


@pytest.mark.parametrize(
    "endless",
    [
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"X: " + b"a" * 8_000 + b"\r\n"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: ", b"a" * 65_536),
        (b"GET /", b"a" * 65_536),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"a:\r\n" * 16_384),
        (b"", b"\r\n" * 32_768),
        (b"GET /livez HTTP/1.1\r\n", b"a" * 65_536),
    ],
)
async def test_a_head_without_end_is_cut_off(site, endless):
    begin, more = endless
    reader, writer = await site.connect()
    writer.write(begin)
    assert await _cut_off(reader, writer, more)


@pytest.mark.parametrize(
    "nonsense",
    [b"\x00" * 64, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET http://[ HTTP/1.1\r\n\r\n", "GET /é HTTP/1.1\r\n\r\n".encode()],
)
async def test_nonsense_is_answered_once_and_closed(site, nonsense):
    reader, writer = await site.connect()
    writer.write(nonsense)
    answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.startswith(b"HTTP/1.1 4")
    assert answer.count(b"HTTP/1.1") == 1
    writer.close()


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([b"Host: y"], b"400"),
        ([b"host: x"], b"400"),
        ([b"Authorization: Bearer a", b"authorization: Bearer a"], b"400"),
        ([b"Transfer-Encoding: gzip, chunked"], b"501"),
        ([b"Transfer-Encoding: identity"], b"501"),
        ([b"Transfer-Encoding:  ChUnKeD "], b"200"),
        ([b"Accept: a", b"Accept: b"], b"200"),
    ],
)
async def test_what_another_server_could_read_otherwise_is_refused(site, lines, status):
    """Of two hosts or two tokens a proxy may have judged the other one."""
    sent = head(*lines) + (b"0\r\n\r\n" if lines[0].startswith(b"Transfer") else b"")
    assert (await site.said(sent)).startswith(b"HTTP/1.1 " + status)


async def test_trailers_are_no_headers(site):
    """They come after the body, where nobody before the server has looked for a token."""
    request = b"POST /api/v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    for trailer in (b"Authorization: Bearer token\r\n", b"Host: y\r\nX: y\r\n"):
        assert await site.said(request + trailer + b"\r\n") == b"HTTP/1.1 401 Unauthorized"
    assert (
        await site.said(request.replace(b"\r\nTransfer", b"\r\nAuthorization: Bearer token\r\nTransfer") + b"X: y\r\n\r\n")
    ) == b"HTTP/1.1 200 OK"


async def test_requests_that_nobody_reads_the_answers_of_end_the_connection(site):
    reader, writer = await site.connect()
    assert await _cut_off(reader, writer, GET * 1_000, read=False)
    await until(lambda: _none_open(site))


async def test_a_few_requests_may_be_sent_at_once(site):
    reader, writer = await site.connect()
    writer.write(GET * MAX_PIPELINED)
    answers = await asyncio.wait_for(reader.readexactly(MAX_PIPELINED * len(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n0")), 10)
    assert answers.count(b"200 OK") == MAX_PIPELINED
    writer.close()


@pytest.mark.parametrize(
    ("sent", "answer"), [(b"", b""), (b"GET /livez HT", b"HTTP/1.1 408 Request Timeout"), (head(b"Content-Length: 10") + b"12", b"")]
)
async def test_who_does_not_go_on_is_let_go(site, monkeypatch, sent, answer):
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(connection, "BODY_SECONDS", 0.2)
    assert await site.said(sent) == answer
    assert site.doors.refused == 1


async def test_who_does_not_read_is_let_go(site, monkeypatch):
    monkeypatch.setattr(connection, "READ_SECONDS", 0.2)
    _, writer = await site.connect()
    writer.write(head(path=b"/big"))
    await until(lambda: _refused(site))
    await until(lambda: _none_open(site))
    writer.close()


async def test_strangers_only_get_in_each_others_way(site, monkeypatch):
    monkeypatch.setattr(connection, "MAX_STRANGERS", 20)
    site.doors.most = 40
    reader, known = await site.connect()
    known.write(GET)
    assert b"200" in await reader.readline()
    strangers = [await site.connect() for _ in range(60)]
    await until(lambda: _turned_away(site, 40))
    known.write(GET)
    while b"HTTP/1.1 200" not in (line := await asyncio.wait_for(reader.readline(), 10)):
        assert line
    assert await site.said(GET) == b"HTTP/1.1 200 OK"
    for _, writer in [*strangers, (reader, known)]:
        writer.close()


async def test_a_full_house_says_so(site):
    site.doors.most = 2
    friends = [await site.connect() for _ in range(2)]
    for reader, writer in friends:
        writer.write(GET)
        assert b"200" in await reader.readline()
    assert (await site.said()).startswith(b"HTTP/1.1 503")
    for _, writer in friends:
        writer.close()


async def _cut_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, more: bytes, *, read: bool = True) -> bool:
    """Whether the server closes the connection before it was sent 64 MiB."""
    try:
        for _ in range(64 * 1024 * 1024 // len(more)):
            writer.write(more)
            await writer.drain()
            if read and reader.at_eof():
                return True
    except ConnectionError:
        return True
    finally:
        writer.close()
    return False


async def _none_open(site: Site) -> bool:
    return not site.doors.open


async def _refused(site: Site) -> bool:
    return site.doors.refused > 0


async def _turned_away(site: Site, count: int) -> bool:
    return site.doors.turned_away >= count
