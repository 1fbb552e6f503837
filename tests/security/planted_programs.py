"""Secrets planted in programs: what Python and libraries say of errors by themselves, what a value shows of itself, and what the command line repeats."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from os import environ

from security.plants import Plants

UNCAUGHT = """
import asyncio, gc, sys, threading
secret = json.load(sys.stdin)

async def main():
    async def fails(what):
        raise ValueError(f"cannot charge {what}")
    task = asyncio.create_task(fails(secret["task"]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    gc.collect()

    def fails_in_a_thread(what):
        raise KeyError(what)
    thread = threading.Thread(target=fails_in_a_thread, args=(secret["thread"],))
    thread.start()
    thread.join()

    class Finalized:
        def __del__(self):
            raise ValueError(secret["finalizer"])
    Finalized()
    del Finalized
    gc.collect()

asyncio.run(main(), debug=True)
error = ValueError(secret["end"])
error.add_note(secret["note"])
raise ExceptionGroup(secret["group"], [error])
"""
"""Errors that nobody catches."""
SET_UP: Mapping[str, str] = {
    "a worker of the command line": "import json; from aiki.cli.logs import set_up; set_up()",
    "a server": "import json; from aiki_server.logs import configure; configure('DEBUG')",
    "an operator": "import json; from aiki_operator.reporting.telemetry import log_json; log_json('debug')",
}
LIBRARIES = """
import asyncio, json, logging, sys
import aiohttp, asyncpg, pydantic
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from aiki.errors import ServerUnreachable
secret = json.load(sys.stdin)
log = logging.getLogger("aiki.worker")

class Card(pydantic.BaseModel):
    number: int

async def http(): await aiohttp.ClientSession().get(f"http://u:{secret['http']}@h:x/")
async def loop_back(): await aiohttp.ClientSession().get(f"http://u:{secret['http']}@127.0.0.1:1/?token={secret['query']}")
async def header(): await aiohttp.ClientSession().get("http://127.0.0.1:1/", headers={"Authorization": f"Bearer {secret['http']}" + chr(10)})
async def postgres(): await asyncpg.connect(f"postgresql://u:{secret['postgres']}@127.0.0.1:1/d?sslmode=disable")
async def odd_postgres(): await asyncpg.connect(f"postgresql://u:{secret['postgres']}/@127.0.0.1:x/d")
async def redis(): await Redis.from_url(f"redis://u:{secret['redis']}@127.0.0.1:1").ping()
async def old_redis(): raise ResponseError(f"unknown command `AUTH`, with args beginning with: `u`, `{secret['redis']}`, ")
async def modifier(): raise ResponseError(f"Error in ACL SETUSER modifier '>{secret['redis']}': Syntax error")
async def document(): Card.model_validate({"number": secret["document"]})
async def number(): int(secret["document"])

async def main():
    for call in (http, loop_back, header, postgres, odd_postgres, redis, old_redis, modifier, document, number):
        try:
            await call()
        except Exception as error:
            log.warning("failed", extra={"error": error, "errors": [error], "by": {"name": error}})
            log.error("failed", exc_info=error)

asyncio.run(main())
"""
"""What libraries say of what they were given."""
OWN_FORMATTER = """
import asyncio, json, logging, sys
logging.basicConfig(level=logging.DEBUG)
from aiki.shared.redaction import shown
from aiki.worker.background import BackgroundTasks
secret = json.load(sys.stdin)

async def fails():
    try:
        raise KeyError(secret["cause"])
    except KeyError as error:
        raise ValueError(secret["background"]) from error

async def main():
    background = BackgroundTasks("of the test")
    background.start(fails())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await background.close()

asyncio.run(main())
"""
"""A worker in a program that has set up its log by itself."""
SHOWN = """
import json, pickle, sys
from aiki import ApiError, Client, Worker
from aiki.client.transport import Transport
from aiki.protocol import Problem, Registered
from aiki_operator.reconcile.access import ServerAccess
from aiki_operator.server_api import ServerApi
from aiki_operator.spec.server import Allowed
from aiki_server.engine.access.redis_users import RedisUsers, Urls
from aiki_server.settings import Settings
from aiki_server.store.redis_users import User
secret = json.load(sys.stdin)
client = Client(f"http://u:{secret['url']}@h", secret["token"])
redis = f"redis://u:{secret['redis']}@h"
settings = Settings.from_environment({
    "AIKI_DATABASE_URL": f"postgresql://u:{secret['url']}@h/d", "AIKI_REDIS_URL": redis, "AIKI_WORKER_REDIS_URL": redis,
    "AIKI_TOKENS": f"team-a:{secret['token']}", "AIKI_CLIENT_TOKENS": f"team-a:{secret['client']}", "AIKI_METRICS_TOKEN": secret["metrics"],
})
registered = Registered.model_construct(redis_url=redis)
for value in (
    client, client.transport, client.transport.credentials, Worker(client), settings, registered, User("u", "team-a", secret["redis"]),
    Urls(settings.redis_url, settings.worker_redis_url), ServerAccess(f"http://h", {"team-a": secret["token"]}, Allowed()), ServerApi(None, "http://h", secret["token"]),
):
    print(repr(value), str(value), f"{value}")
"""
"""What values show that hold credentials."""
COMMANDS = """
import io, json, os, sys
from contextlib import redirect_stderr, redirect_stdout
from aiki.cli import main
before = dict(os.environ)
for arguments, changes in json.load(sys.stdin):
    os.environ.update(changes)
    sys.argv = ["aiki", *arguments]
    try:
        main()
    except SystemExit as end:
        print("ended with", end.code)
    os.environ.clear()
    os.environ.update(before)
"""


def of_programs(plants: Plants) -> list[str]:
    """What these programs write."""
    breaches: list[str] = []
    for name, set_up in SET_UP.items():
        secrets = {
            place: plants.plant(f"the error of {place} in {name}") for place in ("task", "thread", "finalizer", "end", "note", "group")
        }
        breaches += _found(plants, set_up + UNCAUGHT, secrets, f"what {name} writes of errors that nobody catches", at_least=4)
        given = {
            place: plants.plant(f"a {place} given to a library by {name}") for place in ("http", "query", "postgres", "redis", "document")
        }
        breaches += _found(plants, set_up + LIBRARIES, given, f"what {name} writes of libraries", at_least=20)
    causes = {place: plants.plant(f"the {place} of an error in a program of one's own") for place in ("background", "cause")}
    breaches += _found(plants, OWN_FORMATTER, causes, "the log of a program with its own formatter", at_least=2)
    held = {place: plants.plant(f"a {place} in a value") for place in ("url", "token", "redis", "client", "metrics")}
    breaches += _found(plants, SHOWN, held, "what a value shows of itself", at_least=10)
    asked = _commands(plants)
    return breaches + _found(plants, COMMANDS, asked, "what the command line says", at_least=len(asked))


def _commands(plants: Plants) -> Sequence[tuple[Sequence[str], Mapping[str, str]]]:
    """Arguments and changes of the environment, each with a secret in a wrong place."""
    secret = plants.plant
    of_url = {
        "a URL of nobody": f"http://u:{secret('the URL of nobody')}@127.0.0.1:1",
        "a URL with a wrong port": f"http://u:{secret('a URL with a wrong port')}@127.0.0.1:x",
        "a URL without a scheme": f"u:{secret('a URL without a scheme')}@127.0.0.1:1",
        "a URL of another scheme": f"ftp://u:{secret('a URL of another scheme')}@127.0.0.1",
    }
    asked: list[tuple[Sequence[str], Mapping[str, str]]] = [(["runs", "--url", url], {}) for url in of_url.values()]
    asked += [(["runs"], {"AIKI_URL": url}) for url in of_url.values()]
    nobody = "http://127.0.0.1:1"
    return [
        *asked,
        (["runs", "--url", nobody, "--token", secret("a token of a command line")], {}),
        (["runs", "--url", nobody, "--json"], {"AIKI_TOKEN": secret("a token of the environment")}),
        (["runs", "--help"], {"AIKI_TOKEN": secret("a token while help is asked for")}),
        (["runs", f"--tokne={secret('a token of a misspelt option')}"], {}),
        (["start", "x", "--input", secret("an input that is no JSON")], {}),
        (["start", "x", "--input", f'{{"a": {secret("an input that is half JSON")}'], {}),
        (["start", "x", "--input", "@/nowhere"], {"AIKI_TOKEN": secret("a token beside a file that is not there")}),
        (["runs", "--token", f"{secret('a token that is no text')}\udcff"], {}),
        (["worker", "security.nowhere", "--token", secret("a token of a worker without a module")], {}),
    ]


def _found(plants: Plants, program: str, given: object, where: str, *, at_least: int) -> list[str]:
    """The secrets in what a program writes; it must write something, or it was not tried."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        input=json.dumps(given),
        env=environ,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
    )
    said = done.stdout + done.stderr
    if said.count("\n") < at_least:
        return [f"{where} is too little to look through: {said[-2000:]}"]
    return plants.found(said, where)
