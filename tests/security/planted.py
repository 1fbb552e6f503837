"""I46: secrets planted in payloads, headers, URLs and settings, and looked for in everything that is written anywhere.

The parts are real: a server with passwords of odd characters, a worker that runs workflows which fail in all ways, a Postgres that refuses
rows, a Redis and a Postgres that go away. What is searched: the logs of all of them, the figures, and what refusals say.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from os import environ
from pathlib import Path
from urllib.parse import quote

import aiohttp
import asyncpg
from redis.asyncio import Redis

from security.planted_operator import of_operator
from security.planted_programs import of_programs
from security.plants import Plants
from security.row import Row
from security.stage import Stage, stage
from support.ports import free_port
from support.waiting import until

WAYS = ("task", "wait", "misfit", "raise", "type", "lost", "key", "return")
ODD = "p@ss/w#rd?&:[%41]"
"""What a password may hold and a URL takes for something else."""
AWAY_SECONDS = 3.0
START_ALL = """
import json, os, sys, traceback
from aiki_server.main import main
for changes in json.load(sys.stdin):
    before = dict(os.environ)
    os.environ.update(changes)
    for command in ("serve", "migrate"):
        try:
            main([command])
        except (Exception, SystemExit):
            traceback.print_exc()
    os.environ.clear()
    os.environ.update(before)
"""
"""In one process, for starting one costs more than trying."""


def measure(home: Path, seconds: float) -> Sequence[Row]:
    """The row of the table; it takes as long as it takes."""
    plants = Plants()
    breaches = _of_bad_settings(plants) + of_programs(plants) + asyncio.run(of_operator(plants))
    with stage(home, namespaces=["team-a"]) as on:
        breaches += asyncio.run(_planted(on, plants))
    breaches += [found for path in sorted(home.rglob("*.log")) for found in plants.found(path.read_text(errors="replace"), path.name)]
    return [Row("planted secrets", "0 found outside their place", f"{len(breaches)} of {len(plants)}", sorted(set(breaches)))]


async def _planted(on: Stage, plants: Plants) -> list[str]:
    environment = await _odd_users(on, plants)
    plants.known(on.tokens["team-a"], "the token of a namespace")
    with _running("odd-server", ["-m", "aiki_server"], on.log.parent, environment), _worker(on, environment):
        url = f"http://127.0.0.1:{environment['AIKI_PORT']}"
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {on.tokens['team-a']}"}) as session:
            await _until_ready(session, url)
            breaches = await _runs(session, url, plants)
            breaches += await _strange_requests(session, url, plants)
            breaches += await _refused_rows(on, session, url, plants)
            await _outage(on, session, url, plants)
            async with session.get(f"{url}/metrics") as answer:
                breaches += plants.found(await answer.text(), "/metrics")
    return breaches


async def _odd_users(on: Stage, plants: Plants) -> dict[str, str]:
    """The environment of a server whose passwords have odd characters."""
    database, redis = plants.plant("the password of Postgres", prefix=ODD), plants.plant("the password of Redis", prefix=ODD)
    connection = await asyncpg.connect(on.stack.postgres.url)
    await connection.execute(f"create role odd login superuser password '{database}'")
    await connection.close()
    async with Redis.from_url(on.stack.valkey.url) as client:
        await client.execute_command("ACL", "SETUSER", "odd", "on", f">{redis}", "~*", "&*", "+@all")
    return {
        "AIKI_DATABASE_URL": f"postgresql://odd:{quote(database, safe='')}@/postgres?host={on.stack.postgres.sockets}",
        "AIKI_REDIS_URL": f"unix://odd:{quote(redis, safe='')}@{on.stack.valkey.socket}",
        "AIKI_TOKENS": f"team-a:{on.tokens['team-a']}",
        "AIKI_PORT": str(free_port()),
        "AIKI_LOG_LEVEL": "DEBUG",
    }


@contextmanager
def _running(name: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    with (folder / f"{name}.log").open("ab") as output:
        process = subprocess.Popen([sys.executable, *arguments], stdout=output, stderr=output, env={**environ, **environment})
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def _worker(on: Stage, environment: Mapping[str, str]) -> AbstractContextManager[None]:
    arguments = ["-m", "aiki.cli", "worker", "security.planted_flows", "--url", f"http://127.0.0.1:{environment['AIKI_PORT']}"]
    tests = str(Path(__file__).parents[1])
    return _running("worker", arguments, on.log.parent, {"AIKI_TOKEN": on.tokens["team-a"], "PYTHONPATH": tests})


async def _until_ready(session: aiohttp.ClientSession, url: str) -> None:
    async def has_workflows() -> bool:
        try:
            async with session.get(f"{url}/api/v1/workflows") as answer:
                return answer.status == 200 and bool((await answer.json())["workflows"])
        except aiohttp.ClientError:
            return False

    await until(has_workflows, "a worker to register", seconds=60)


async def _runs(session: aiohttp.ClientSession, url: str, plants: Plants) -> list[str]:
    """Every way in which a run may bring its payload somewhere."""
    breaches: list[str] = []
    for way in WAYS:
        body = {
            "workflow": "planted",
            "input": {"way": way, "secret": plants.plant(f"the input of a run that ends by `{way}`")},
            "ref": plants.plant(f"the ref of a run that ends by `{way}`"),
        }
        async with session.post(f"{url}/api/v1/runs", json=body) as answer:
            run = (await answer.json())["id"]
        if way == "wait":
            for name, secret in (
                ("go", plants.plant("an event")),
                (plants.plant("the name of an event"), plants.plant("an event that nobody awaits")),
            ):
                event = {"name": name, "payload": secret, "id": plants.plant("the id of an event")}
                async with session.post(f"{url}/api/v1/runs/{run}/events", json=event):
                    pass
        if way == "misfit":
            breaches += await _misfits(session, f"{url}/api/v1/runs/{run}", plants)
        async with session.get(f"{url}/api/v1/runs/{run}/result?timeout=10") as answer:
            await answer.read()
        async with session.post(f"{url}/api/v1/runs/{run}/cancel", json={"reason": plants.plant("the reason of a cancellation")}):
            pass
    return breaches


async def _misfits(session: aiohttp.ClientSession, run: str, plants: Plants) -> list[str]:
    """Payloads that do not fit: one that the server refuses, and one that pauses the run, which is then cancelled."""
    refused = {"name": "counted", "payload": {plants.plant("the name of a member that does not fit"): plants.plant("what does not fit")}}
    async with session.post(f"{run}/events", json=refused) as answer:
        assert answer.status == 422, await answer.text()
        breaches = plants.found(await answer.text(), "the refusal of an event")
    for event in ({"name": "counted", "payload": {}}, {"name": "unknown", "payload": plants.plant("an event that pauses a run")}):
        async with session.post(f"{run}/events", json=event) as answer:
            assert answer.status == 201, await answer.text()
    async with asyncio.timeout(30):
        while True:
            async with session.get(run) as answer:
                found = await answer.json()
            if found["status"] == "paused":
                break
            await asyncio.sleep(0.05)
    breaches += plants.found(str(found["error"]), "the error of a run that an event has paused")
    async with session.post(f"{run}/cancel", json={}) as answer:
        await answer.read()
    return breaches


async def _strange_requests(session: aiohttp.ClientSession, url: str, plants: Plants) -> list[str]:
    """What a refusal says."""
    secret = plants.plant
    asked: list[tuple[str, str, dict[str, str], object]] = [
        ("GET", f"/api/v1/runs/{secret('a path')}", {}, None),
        ("GET", f"/api/v1/runs/by-ref/{secret('a ref in a path')}", {}, None),
        ("GET", f"/api/v1/runs?cursor={secret('a query')}", {}, None),
        ("GET", f"/api/v1/runs?{secret('the name of a parameter')}=1&limit={secret('a number')}", {}, None),
        ("GET", f"/{secret('a path of nobody')}", {}, None),
        ("GET", "/api/v1/runs", {"Authorization": f"Bearer {secret('a wrong token')}"}, None),
        ("GET", "/api/v1/runs", {"Authorization": f"Basic {secret('another scheme')}"}, None),
        ("GET", "/api/v1/runs", {"Authorization": f"Basic {plants.known(b64encode(secret('a password of Basic').encode()).decode(), 'a password of Basic')}"}, None),
        ("GET", f"/api/v1/runs?access_token={secret('a token in a query')}&status={secret('a status')}", {}, None),
        ("GET", f"/api/v1/runs?parent={secret('a parent')}&workflow={secret('a workflow')}%0A", {}, None),
        ("GET", f"/api/v1/runs/{'0' * 32}/history?after={secret('a place in a history')}", {}, None),
        ("GET", f"/api/v1/runs/{'0' * 32}/result?timeout={secret('a timeout')}", {}, None),
        ("GET", f"/metrics?token={secret('a token for figures in a query')}", {"Authorization": "Bearer wrong"}, None),
        ("POST", f"/api/v1/runs/{'0' * 32}/events", {}, {"name": secret("the name of an event") + " ", "payload": 1}),
        ("POST", f"/api/v1/runs/{'0' * 32}/cancel", {}, {"reason": [secret("a reason that is no text")]}),
        ("POST", "/api/v1/runs", {}, {"workflow": "x", "ref": secret("what is no ref") + "\n"}),
        ("POST", "/api/v1/worker/claim", {}, {"worker": secret("an unknown worker"), "limit": 1}),
        ("POST", "/api/v1/worker/commit", {}, {"worker": "w", "ops": [{"run": "0" * 32, "epoch": 1, "number": 1, "count": 1, "entries": json.dumps([{"k": secret("a kind of entry")}])}]}),
        ("PUT", f"/api/v1/pools/{secret('a pool')}%20", {}, {"versioning": secret("a versioning")}),
        ("GET", "/api/v1/runs", {"Cookie": secret("a cookie"), "X-Strange": secret("a header"), "Origin": f"http://{secret('an origin')}"}, None),
        ("GET", "/api/v1/runs", {"Host": secret("a host")}, None),
        ("POST", "/api/v1/runs", {"Content-Type": f"text/{secret('a content type')}"}, b"{}"),
        ("POST", "/api/v1/runs", {}, f'{{"workflow": "x", "input": "{secret("a text that does not end")}'.encode()),
        ("POST", "/api/v1/runs", {}, f'{{"workflow": "x", "input": {{"a": 1e999, "b": "{secret("beside a bad number")}"}}}}'.encode()),
        ("POST", "/api/v1/runs", {}, {"workflow": secret("what is no name") + "!", "input": 1}),
        ("POST", "/api/v1/runs", {}, {"workflow": "x", secret("the name of a member"): 1}),
        ("POST", "/api/v1/runs", {}, {"workflow": "x", "start_at": secret("what is no instant")}),
        ("POST", "/api/v1/runs:batch", {}, {"runs": [{"workflow": 1, "input": secret("a batch")}]}),
        ("POST", "/api/v1/worker/commit", {}, {"worker": "w", "ops": [{"run": secret("an op"), "epoch": "x"}]}),
        ("POST", "/api/v1/worker/register", {}, {"worker": secret("a worker") + " ", "pool": "p"}),
    ]  # fmt: skip
    breaches: list[str] = []
    for method, path, headers, body in asked:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"} if data is not None else {}
        async with session.request(method, url + path, data=data, headers={**kind, **headers}) as answer:
            said = await answer.text()
            if answer.status >= 400:
                breaches += plants.found(f"{said}{answer.headers}", f"the answer {answer.status} to {method}")
    return breaches


async def _refused_rows(on: Stage, session: aiohttp.ClientSession, url: str, plants: Plants) -> list[str]:
    """Postgres refuses what is to be written, and quotes it."""
    database = await asyncpg.connect(on.stack.postgres.url)
    await database.execute("alter table runs add constraint planted check (input not like '%PLANTED%ROW%') not valid")
    await database.execute("alter table inbox add constraint planted check (payload not like '%PLANTED%ROW%') not valid")
    async with session.post(f"{url}/api/v1/runs", json={"workflow": "planted", "input": {"way": "wait", "secret": "-"}}) as answer:
        run = (await answer.json())["id"]
    breaches: list[str] = []
    for path, body in (
        ("/api/v1/runs", {"workflow": "planted", "input": plants.plant("a row that Postgres refuses") + "ROW"}),
        ("/api/v1/runs:batch", {"runs": [{"workflow": "planted", "input": plants.plant("a batch that Postgres refuses") + "ROW"}]}),
        (f"/api/v1/runs/{run}/events", {"name": "go", "payload": plants.plant("an event that Postgres refuses") + "ROW"}),
    ):
        async with session.post(url + path, json=body) as answer:
            breaches += plants.found(await answer.text(), f"the answer {answer.status}")
            if answer.status < 500:
                breaches.append(f"Postgres was to refuse a row, and {path} answered {answer.status}")
    await database.execute("alter table runs drop constraint planted")
    await database.execute("alter table inbox drop constraint planted")
    await database.close()
    return breaches


async def _outage(on: Stage, session: aiohttp.ClientSession, url: str, plants: Plants) -> None:
    """Redis and Postgres go away, and everybody says so."""
    on.stack.valkey.kill()
    on.stack.postgres.kill()
    body = {"workflow": "planted", "input": plants.plant("a run while the database was away")}
    with suppress(TimeoutError, aiohttp.ClientError):
        async with session.post(f"{url}/api/v1/runs", json=body, timeout=aiohttp.ClientTimeout(total=AWAY_SECONDS)) as answer:
            await answer.read()
    on.stack.postgres.start()
    on.stack.valkey.start()


def _of_bad_settings(plants: Plants) -> list[str]:
    """What a server says that cannot start."""
    secret = plants.plant
    base = {
        "AIKI_DATABASE_URL": "postgresql://u@/none?host=/nowhere&sslmode=nonsense",
        "AIKI_TOKENS": "default:token-of-default",
        "AIKI_PORT": "1",
    }
    tried: Sequence[Mapping[str, str]] = [
        {"AIKI_TOKENS": f"{secret('a swapped token')}+/=:team-a"},
        {"AIKI_TOKENS": f"team-a:{secret('a token with a blank')} x"},
        {"AIKI_TOKENS": f"team-a:{secret('a token with a comma')},{secret('the rest of it')}!"},
        {"AIKI_DATABASE_URL": f"postgresql://u:{secret('a password with a slash', prefix='a/b#')}@host/d"},
        {"AIKI_DATABASE_URL": f"postgresql://u:x:{secret('a password with a colon')}@host:5432x/d"},
        {"AIKI_DATABASE_URL": f"postgresql://u:[{secret('a password with a bracket')}@host/d"},
        {"AIKI_DATABASE_URL": f"mysql://u:{secret('a password of another database')}@host/d"},
        {"AIKI_DATABASE_URL": secret("what is no URL")},
        {"AIKI_REDIS_URL": f"redis://:{secret('a password of Redis', prefix='a@b/')}@host:x/0"},
        {"AIKI_REDIS_URL": f"http://:{secret('a password of no Redis')}@host/0"},
        {"AIKI_PORT": secret("a port")},
        {"AIKI_DATABASE_URL": f"postgresql://u@/none?host=/nowhere&sslmode=nonsense&password={secret('a password in a query')}"},
        {"AIKI_DATABASE_URL": f"postgresql://u@/none?host=/nowhere&sslmode=nonsense&passwd={secret('a setting that is none')}"},
        {"AIKI_DATABASE_URL": f"postgresql://u@/none?host=/nowhere&sslmode={secret('a mode that is none')}"},
        {"AIKI_REDIS_URL": f"redis://h/0?password={secret('a password of Redis in a query')}&db={secret('a number of a database')}"},
        {"PGPASSWORD": secret("a password of its own")},
        {"AIKI_TOKENS": f"{secret('a token before the namespace')}:default"},
        {"AIKI_TOKENS": f"{secret('a token before a new namespace')}:payments"},
        {"AIKI_CLIENT_TOKENS": f"team-a:{secret('a token of clients twice')},team-b:{list(plants.places())[-1]}"},
        {"AIKI_CLIENT_TOKENS": "default:token-of-default"},
        {"AIKI_METRICS_TOKEN": f"{secret('a token for figures')} x"},
        {"AIKI_LEASE_SECONDS": secret("a lease"), "AIKI_FAULT": secret("a fault")},
        {"AIKI_FAULT": secret("a fault alone")},
        {"AIKI_LOG_LEVEL": secret("a level")},
        {"AIKI_ALLOWED_HOSTS": secret("a host")},
    ]
    done = subprocess.run(
        [sys.executable, "-c", START_ALL],
        input=json.dumps(tried),
        env={**environ, **base},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return plants.found(done.stdout + done.stderr, "what a server says that cannot start")
