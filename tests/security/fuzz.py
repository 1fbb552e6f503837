"""Bodies and raw requests that no client would send, against a server whose loop is watched.

What is counted: answers of 500, turns of the server's loop that took longer than 50 ms of processor time, and the memory that the
server and the process beside it had at most. A seed is printed with every breach, so that it can be sent again.
"""

from __future__ import annotations

import asyncio
import copy
import json
import random
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp

from security.probed import HELD_SECONDS
from security.row import Row
from security.stage import Stage, stage

BODIES, RAW = 200_000, 100_000
AT_ONCE = 8
RAW_AT_ONCE = 32
PIECE_BYTES = 1 << 19
"""A larger body is sent in pieces."""
ANSWER_SECONDS = 0.2
"""For a raw request: what is no whole request has no answer."""
MOST_ANSWER_BYTES = 24 * 1024 * 1024
"""What runs bring has 16 MiB as it is stored, and is escaped in an answer."""
LIMIT_MIB = 1_024
"""What a server's pod may have, the process beside it included."""
CROWDED_ONE_IN = 200
CROWD = 490
"""Versions of each of ten builds: nearly the 5,000 that a namespace may register."""
RUN = "0" * 32
WORKFLOW = {"workflow": "flow", "version": "1.0"}
COMMIT = {
    "run": RUN, "epoch": 1, "number": 1, "entries": '[{"k":"call","c":0,"a":"task:t:1"}]', "count": 1, "steps": 1, "consumed": [1], "cancel_children": [RUN],
    "children": [{"id": RUN, "workflow": "flow", "input": "1"}], "state": "{}", "park": {"inbox_seen": 0, "due_at": 5, "events": ["go"], "children": True, "waits": [{"kind": "event", "name": "go"}]},
}  # fmt: skip
FINISH = {
    "run": RUN,
    "epoch": 1,
    "number": 1,
    "entries": '[{"k":"completed","at":1}]',
    "count": 1,
    "finish": {"status": "completed", "output": "1", "inbox_seen": 0},
}
SAMPLES: Sequence[tuple[str, Any]] = [
    (
        "runs",
        {
            **WORKFLOW,
            "pool": "main",
            "input": {"a": [1, 2.5, None]},
            "ref": "ref",
            "on_conflict": "existing",
            "start_at": "2030-01-01T00:00:00Z",
        },
    ),
    ("runs:batch", {"runs": [{**WORKFLOW, "input": 1}, {**WORKFLOW, "ref": "other"}]}),
    (f"runs/{RUN}/events", {"name": "go", "payload": {"x": 1}, "id": "e1"}),
    (f"runs/{RUN}/cancel", {"reason": "enough"}),
    ("worker/register", {"worker": "w1", "pool": "main", "build": "b", "pod": "p", "concurrency": 5, "workflows": [WORKFLOW]}),
    ("worker/heartbeat", {"worker": "w1", "active": 1}),
    ("worker/claim", {"worker": "w1", "runs": [RUN], "limit": 5, "held": [RUN], "carries": [WORKFLOW]}),
    ("worker/claim", {"worker": "w1", "limit": 5}),
    ("worker/inbox", {"worker": "w1", "runs": [{"run": RUN, "epoch": 1, "inbox_seen": 0}]}),
    ("worker/replay", {"worker": "w1", "run": RUN, "epoch": 1, "chunk": 0, "item": 0, "inbox_seq": 1}),
    ("worker/commit", {"worker": "w1", "ops": [COMMIT]}),
    ("worker/commit", {"worker": "w1", "ops": [FINISH]}),
    ("worker/deregister", {"worker": "w9"}),
    ("workers/w1/drain", {"drain": False}),
    ("pools/main", {"versioning": "ByVersion"}),
]
ODD: Sequence[Any] = [
    None, True, -1, 0, 1, 2**31, 2**63, -(2**63) - 1, 10**30, 10**400, 0.5, 1.0, -0.0, 1e300, "", "\x00", "\ud800", "a,b", "a b", "é", "\u202e", "x" * 300, "x" * 70_000, "'\"\\", "[", "null",
    [], {}, [[]], [None] * 50, {"k": []}, {"\ud800": 1}, {'a","b': 1}, '[{"k":[]}]', '[{"k":"done","c":0,"v":1,"\\ud800":1}]', '[{"k":"began","at":1e400}]', "{}" * 3, "9" * 5_000,
]  # fmt: skip
HEAVY: Sequence[Callable[[], tuple[str, bytes]]] = [
    lambda: ("worker/commit", _op(consumed=[1.0] * 3_000_000)),
    lambda: ("worker/commit", _op(cancel_children=["x"] * 2_500_000)),
    lambda: ("worker/commit", _op(children=[0] * 5_000_000)),
    lambda: ("worker/commit", _op(entries="[" + "{}," * 1_000_000 + "{}]", count=1_000_001)),
    lambda: ("worker/commit", _op(state="[" + "[]," * 600_000 + "[]]")),
    lambda: ("worker/claim", json.dumps({"worker": "w1", "held": ["x"] * 300_000}).encode()),
    lambda: ("worker/register", json.dumps({"worker": "w1", "pool": "p", "concurrency": 1, "workflows": [0] * 600_000}).encode()),
    lambda: ("runs", b'{"workflow":"flow",' + b",".join(b'"a%06d":0' % index for index in range(300_000)) + b"}"),
    lambda: ("runs", b'{"workflow":"flow","ref":"dense","input":[' + b"{}," * 690_000 + b"{}]}"),
    lambda: ("runs", b'{"workflow":"flow","input":' + b"[" * 2_000_000),
    lambda: (
        "runs:batch",
        b'{"runs":[' + b",".join([b'{"workflow":"f",' + b",".join(b'"a%03d":0' % i for i in range(300)) + b"}"] * 990) + b"]}",
    ),
    lambda: ("runs:batch", b'{"runs":[' + b",".join([b'{"workflow":"crowded"}'] * 1_000) + b"]}"),
]
LISTS = ("workflows", "workers", "pools/load", "pools/crowd/load", "runs?limit=1000")
"""Asked for when a namespace has registered much."""
HEADS: Sequence[bytes] = [
    b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /api/v1/runs?limit=5 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer TOKEN\r\n\r\n",
    b'POST /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer TOKEN\r\nContent-Type: application/json\r\nContent-Length: 19\r\n\r\n{"workflow":"flow"}',
    b'POST /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer TOKEN\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n13\r\n{"workflow":"flow"}\r\n0\r\n\r\n',
    b"GET /api/v1/runs/" + RUN.encode() + b"/history?after=1 HTTP/1.0\r\nAuthorization: Bearer TOKEN\r\n\r\n",
]
PIECES: Sequence[bytes] = [
    b"\x00", b"\r\n", b"\r", b"\n", b" ", b":", b"%", b"%00", b"%ff", b"\xff\xfe", b"../", b"?", b"#", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Expect: 100-continue\r\n", b"Upgrade: websocket\r\nConnection: upgrade\r\n", b"X: " + b"a" * 9_000 + b"\r\n", b"A:\r\n" * 80, b"a" * 9_000, b"HTTP/2", b"PRI * HTTP/2.0\r\n\r\n",
]  # fmt: skip


def measure(home: Path, seconds: float) -> Sequence[Row]:
    """The rows of the table: as many bodies and raw requests as the table wants, or as the time allows."""
    probed = home / "held"
    program = (str(Path(__file__).with_name("probed.py")), str(probed))
    limits = {"AIKI_QUOTA_REQUESTS_PER_SECOND": "0", "AIKI_QUOTA_OPEN_RUNS": "0"}
    with stage(home, namespaces=("fuzz", "crowd"), settings=limits, program=program, traced=False) as on:
        return asyncio.run(fuzzed(on, seconds, probed))


async def fuzzed(on: Stage, seconds: float, probed: Path) -> list[Row]:
    """Send what nobody would, and look at what came of it."""
    clock = asyncio.get_running_loop().time
    seed = random.randrange(2**32)
    statuses: Counter[int] = Counter()
    breaches: list[str] = []
    peak = [0]
    watching = asyncio.create_task(_watch(on.pid, peak))
    try:
        async with _session(on, "fuzz") as session, _session(on, "crowd") as crowded:
            for one in (session, crowded):
                await one.post(f"{on.url}/api/v1/worker/register", json=dict(SAMPLES[4][1]))
            for crowd in _crowds():
                await _send(crowded, on.url, "worker/register", crowd, statuses=statuses, breaches=breaches, note="crowd")
            for path in LISTS:
                await _read(crowded, f"{on.url}/api/v1/{path}", statuses=statuses, breaches=breaches)
            for make in HEAVY:
                await _send(session, on.url, *make(), statuses=statuses, breaches=breaches, note="heavy")
            begun = clock()
            bodies = _Share(BODIES, begun + seconds * 0.65, clock)
            await asyncio.gather(
                *(
                    _bodies((session, crowded), on.url, bodies, random.Random(seed + lane), statuses, breaches, seed)
                    for lane in range(AT_ONCE)
                )
            )
        raw = _Share(RAW, begun + seconds, clock)
        await asyncio.gather(*(_raw(on, raw, random.Random(seed - lane - 1), statuses, breaches, seed) for lane in range(RAW_AT_ONCE)))
    finally:
        watching.cancel()
    held = [float(line) for line in probed.read_text().split()] if probed.exists() else []
    long = [f"the loop was held for {1000 * one:.0f} ms (seed {seed})" for one in held if one > HELD_SECONDS]
    mib = peak[0] // 1024
    if not (bodies.done and raw.done):
        breaches.append(f"{bodies.done} bodies and {raw.done} raw requests were sent: nothing was shown (seed {seed})")
    shown = ", ".join(f"{count:,} × {status}" for status, count in sorted(statuses.items()))
    return [
        Row(f"{bodies.done:,} bodies, {raw.done:,} raw requests", "0 × 500", f"{statuses[500]} × 500 ({shown})", breaches),
        Row(
            "event loop while they are answered",
            "0 × held > 50 ms",
            f"{len(long)} × held, longest {1000 * max(held, default=0.0):.0f} ms",
            long,
        ),
        Row("memory meanwhile", f"≤ {LIMIT_MIB} MiB", f"{mib} MiB", [f"{mib} MiB (seed {seed})"] if mib > LIMIT_MIB else []),
    ]


class _Share:
    """So many, or until then."""

    def __init__(self, most: int, until: float, clock: Callable[[], float]) -> None:
        self.done = 0
        self._most, self._until, self._clock = most, until, clock

    def __iter__(self) -> Iterator[int]:
        while self.done < self._most and self._clock() < self._until:
            self.done += 1
            yield self.done


def _session(on: Stage, namespace: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(headers={"Authorization": f"Bearer {on.tokens[namespace]}", "Content-Type": "application/json"})


async def _bodies(
    sessions: tuple[aiohttp.ClientSession, aiohttp.ClientSession],
    url: str,
    share: _Share,
    chance: random.Random,
    statuses: Counter[int],
    breaches: list[str],
    seed: int,
) -> None:
    """Now and then one to the namespace that has registered all that it may: whatever changes there is read again whole."""
    for number in share:
        path, sample = chance.choice(SAMPLES)
        session = sessions[number % CROWDED_ONE_IN == 0]
        await _send(session, url, path, mutated(sample, chance), statuses=statuses, breaches=breaches, note=f"body {number}, seed {seed}")


async def _send(
    session: aiohttp.ClientSession, url: str, path: str, body: bytes, *, statuses: Counter[int], breaches: list[str], note: str
) -> None:
    method = "PUT" if path.startswith("pools/") else "POST"
    try:
        async with session.request(method, f"{url}/api/v1/{path}", data=BytesIO(body) if len(body) > PIECE_BYTES else body) as answer:
            told = await answer.read()
            status = answer.status
    except aiohttp.ClientError as error:
        breaches.append(f"{path} was not answered: {type(error).__name__} ({note})")
        return
    statuses[status] += 1
    if status >= 500 and status != 503:
        breaches.append(f"{path} was answered {status}: {body[:300]!r} ({note})")
    if len(told) > MOST_ANSWER_BYTES:
        breaches.append(f"{path} was answered with {len(told)} bytes ({note})")
    if b"Traceback" in told:
        breaches.append(f"{path} was answered with a traceback ({note})")


async def _raw(on: Stage, share: _Share, chance: random.Random, statuses: Counter[int], breaches: list[str], seed: int) -> None:
    port = urllib.parse.urlsplit(on.url).port
    for number in share:
        sent = chance.choice(HEADS).replace(b"TOKEN", on.tokens["fuzz"].encode())
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(sent) + 1)
            piece = chance.choice(PIECES)
            sent = chance.choice((sent[:at] + piece + sent[at:], sent[:at], sent[:at] + piece + sent[at + len(piece) :], sent + sent[:at]))
        answer = b""
        with suppress(ConnectionError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(sent)
                async with asyncio.timeout(ANSWER_SECONDS):
                    answer = await reader.read(4_096)
            finally:
                writer.close()
        status = int(answer[9:12]) if answer[9:12].isdigit() else 0
        statuses[status] += 1
        if status == 500:
            breaches.append(f"{sent[:300]!r} was answered 500 (raw request {number}, seed {seed})")


async def _read(session: aiohttp.ClientSession, url: str, *, statuses: Counter[int], breaches: list[str]) -> None:
    async with session.get(url) as answer:
        told = await answer.read()
    statuses[answer.status] += 1
    if answer.status != 200 or len(told) > MOST_ANSWER_BYTES:
        breaches.append(f"{url} was answered {answer.status} with {len(told)} bytes")


def _crowds() -> Iterator[bytes]:
    """Registrations: ten builds of a pool, of one workflow and of many, as many as a namespace may have."""
    for build in range(5):
        for name in ("crowded", "crowded-%d"):
            versions = [{"workflow": name % number if "%" in name else name, "version": f"{build}.{number}"} for number in range(CROWD)]
            yield json.dumps(
                {"worker": f"{name[-1]}{build}", "pool": "crowd", "build": f"b{build}{name[-1]}", "concurrency": 1, "workflows": versions}
            ).encode()


def mutated(sample: Any, chance: random.Random) -> bytes:
    """A body that is nearly a good one."""
    value = copy.deepcopy(sample)
    for _ in range(chance.randint(0, 3)):
        places = list(_places(value))
        parent, key = chance.choice(places)
        match chance.randrange(4):
            case 0 if isinstance(parent, dict):
                parent[str(chance.choice(("more", "k", "\x00", "workflow", "ops", "runs")))] = copy.deepcopy(chance.choice(ODD))
            case 1 if isinstance(parent, dict):
                del parent[key]
                if not value:
                    return b"{}"
            case _:
                parent[key] = copy.deepcopy(chance.choice(ODD))
    body = json.dumps(value).encode()
    match chance.randrange(12):
        case 0:
            at = chance.randrange(len(body))
            return body[:at] + bytes([chance.randrange(256)]) + body[at + 1 :]
        case 1:
            return body[: chance.randrange(len(body))]
        case 2:
            return body.replace(b"1", chance.choice((b"NaN", b"1e400", b"-0", b"01", b"1.0")), 1)
        case _:
            return body


def _places(value: Any) -> Iterable[tuple[Any, Any]]:
    keys: Iterable[Any] = value.keys() if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        yield value, key
        if isinstance(value[key], (dict, list)) and value[key]:
            yield from _places(value[key])


def _op(**members: Any) -> bytes:
    return json.dumps({"worker": "w1", "ops": [{"run": RUN, "epoch": 1, "number": 1, **members}]}, separators=(",", ":")).encode()


async def _watch(pid: int, peak: list[int]) -> None:
    """The most that the server and its children had at one time."""
    while True:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        peak[0] = max(peak[0], sum(map(_resident_kib, [str(pid), *children])))
        await asyncio.sleep(0.05)


def _resident_kib(pid: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0  # ended meanwhile
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)
