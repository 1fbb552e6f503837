"""Who has a token of one namespace reaches nothing of another in Redis, and nothing of the servers'. I45, S16, I46."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from aiki import Client, Run, workflow
from aiki.shared.redis_link import Subscription, connection
from aiki.worker import Worker
from aiki_server.engine.access import redis_users
from aiki_server.engine.access.redis_users import AGED_SECONDS
from aiki_server.local.valkey import Valkey
from support.fake_worker import FakeWorker
from support.server import ServerProcess
from support.waiting import until

PASSWORD = "redis-secret-77aa"
STREAM = "aiki:{%s:main}:flow:1.0"


@pytest.fixture
async def guarded(tmp_path_factory):
    """A Redis that asks for a password: the client that may do everything, and the URL."""
    valkey = Valkey(tmp_path_factory.mktemp("guarded"))
    valkey.start()
    async with Redis.from_url(valkey.url) as redis:
        await redis.config_set("requirepass", PASSWORD)
    url = f"unix://:{PASSWORD}@{valkey.socket}"
    async with Redis.from_url(url) as redis:
        yield redis, url
    valkey.stop()


@pytest.fixture
async def api(start_server, guarded, db):
    _, url = guarded
    await db.execute("delete from redis_users")
    return await start_server(redis_url=url, worker_redis_url=url)


async def reaches(url):
    return connection(url, answer_seconds=1.0)


async def test_each_namespace_has_a_user_of_its_own(api, guarded):
    admin, _ = guarded
    mine = await FakeWorker(api, "w1").register()
    theirs = await FakeWorker(api.as_("other-token"), "w1").register()
    urls = [worker.registered["redis_url"] for worker in (mine, theirs)]
    assert urls[0] != urls[1]
    assert not any(PASSWORD in url for url in urls)
    assert (await mine.heartbeat())["redis_url"] == urls[0]
    async with await reaches(urls[0]) as redis:
        await redis.xgroup_create(STREAM % "default", "workers", id="0", mkstream=True)
        await redis.xreadgroup("workers", "w1", {STREAM % "default": ">"})
        await redis.xautoclaim(STREAM % "default", "workers", "w1", 0)
        await redis.xack(STREAM % "default", "workers", "1-1")
        await redis.xdel(STREAM % "default", "1-1")
        channel = Subscription(redis, channels=[mine.registered["inbox_channel"]])
        await channel.open()
        await channel.message()
        await admin.publish(mine.registered["inbox_channel"], "hello")
        assert await until(channel.message) == (mine.registered["inbox_channel"], b"hello")
        await channel.close()


FORBIDDEN = [
    ("XREADGROUP", "GROUP", "workers", "w1", "STREAMS", STREAM % "other", ">"),
    ("XREADGROUP", "GROUP", "workers", "w1", "STREAMS", "aiki:{default2:main}:flow:1.0", ">"),
    ("XDEL", STREAM % "other", "1-1"),
    ("XADD", STREAM % "default", "*", "r", "x"),
    ("XRANGE", STREAM % "default", "-", "+"),
    ("SUBSCRIBE", "aiki:inbox:other:w1"),
    ("SUBSCRIBE", "aiki:inbox:default2:w1"),
    ("SUBSCRIBE", "aiki:wake"),
    ("SUBSCRIBE", "aiki:registry"),
    ("SUBSCRIBE", "aiki:done:default"),
    ("PSUBSCRIBE", "aiki:*"),
    ("PUBLISH", "aiki:wake", "default:main"),
    ("PUBLISH", "aiki:registry", ""),
    ("PUBLISH", "aiki:done:other", "x"),
    ("PUBLISH", "aiki:inbox:other:w1", "x"),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("FLUSHALL",),
    ("CONFIG", "GET", "requirepass"),
    ("CONFIG", "SET", "maxmemory", "1"),
    ("REPLICAOF", "127.0.0.1", "9"),
    ("ACL", "LIST"),
    ("CLIENT", "LIST"),
    ("EVAL", "return 1", "0"),
    ("MIGRATE", "127.0.0.1", "9", "nokey", "0", "10"),
    ("PUBSUB", "CHANNELS"),
    ("HSET", "aiki:{default:main}:arrivals:1", "n", "9"),
]


async def test_a_user_may_do_nothing_else(api):
    url = (await FakeWorker(api, "w1").register()).registered["redis_url"]
    async with await reaches(url) as redis:
        for command in FORBIDDEN:
            with pytest.raises(NoPermissionError):
                await redis.execute_command(*command)


async def test_users_are_made_again_after_redis_lost_them(api, guarded):
    admin, _ = guarded
    url = (await FakeWorker(api, "w1").register()).registered["redis_url"]
    name = url.split("//")[1].split(":")[0]
    await admin.execute_command("ACL", "DELUSER", name)

    async def answers():
        try:
            async with await reaches(url) as redis:
                return await redis.ping()
        except RedisError:
            return False

    assert not await answers()
    await until(answers, seconds=20)


PASSING = [
    "BUSY Redis is busy running a script.",
    "MASTERDOWN Link with MASTER is down.",
    "TRYAGAIN later",
    "CLUSTERDOWN The cluster is down",
]


@pytest.mark.parametrize("said", PASSING)
async def test_what_passes_by_is_no_refusal_for_ever(api, guarded, monkeypatch, said):
    """S16: namespaces keep their users though Redis could not be asked about them once."""
    engine = api.app._drain.__self__.engine
    asked = []

    async def busy(redis, *command):
        asked.append(command)
        monkeypatch.undo()
        raise ResponseError(said)

    monkeypatch.setattr(redis_users, "_acl", busy)
    engine.redis_users.lost()
    await until(lambda: found(asked))
    await until(lambda: found(engine.circuit.usable))
    assert engine.redis_users.access is redis_users.Access.USERS
    assert (await FakeWorker(api, "w1").register()).registered["redis_url"] is not None


async def found(what):
    return bool(what)


@pytest.mark.parametrize(
    "error",
    [
        NoPermissionError("this user has no permissions to run the 'acl' command"),
        ResponseError("unknown command 'ACL'"),
        ResponseError("ERR no"),
    ],
)
async def test_a_refusal_is_said_and_not_asked_again(api, monkeypatch, error):
    engine = api.app._drain.__self__.engine

    async def refuse(redis, *command):
        raise error

    monkeypatch.setattr(redis_users, "_acl", refuse)
    engine.redis_users.lost()
    await until(lambda: found(engine.redis_users.complaint()))
    assert engine.circuit.usable


async def test_all_servers_name_the_same_user(api, start_server, guarded):
    _, url = guarded
    second = await start_server(redis_url=url, worker_redis_url=url)
    found = {(await FakeWorker(server, name).register()).registered["redis_url"] for server, name in ((api, "w1"), (second, "w2"))}
    assert len(found) == 1


async def test_a_user_goes_with_the_tokens_of_its_namespace(api, start_server, guarded, db):
    """Another token, another user; the old one is deleted once no server has needed it for a while."""
    admin, url = guarded
    before = (await FakeWorker(api, "w1").register()).registered["redis_url"]
    tokens = {"token": "default", "third-token": "other"}
    third = await start_server(redis_url=url, worker_redis_url=url, tokens=tokens)
    assert (await FakeWorker(third, "w1").register()).registered["redis_url"] == before
    replaced = (await FakeWorker(third.as_("third-token"), "w1").register()).registered["redis_url"]
    await db.execute("insert into redis_users values ('aiki-gone-1', 'gone', 'x', now() - $1 * interval '1 second')", AGED_SECONDS + 1)
    await admin.execute_command("ACL", "SETUSER", "aiki-gone-1", "on", "nopass")

    async def gone():
        return b"aiki-gone-1" not in await admin.execute_command("ACL", "USERS")

    await until(gone, seconds=20)
    await until(lambda: _counted(db, 3))
    assert replaced.split("//")[1].split(":")[0].encode() in await admin.execute_command("ACL", "USERS")


async def _counted(db, wanted):
    return await db.fetchval("select count(*) from redis_users") == wanted


async def test_without_users_several_namespaces_poll_and_it_is_said(start_server, guarded):
    """Where the server may make no users, and where Redis lets in whoever comes."""
    admin, url = guarded
    await admin.execute_command("ACL", "SETUSER", "plain", "on", ">pw", "allkeys", "allchannels", "+@all", "-acl")
    plain = url.replace(f":{PASSWORD}", "plain:pw")
    await admin.execute_command("ACL", "SETUSER", "default", "nopass")
    for reached in (plain, url.replace(f":{PASSWORD}@", "")):
        api = await start_server(redis_url=reached, worker_redis_url=reached)
        assert (await FakeWorker(api, "w1").register()).registered["redis_url"] is None
        said = (await api.as_(None).get("/readyz")).body.decode()
        assert "Workers are given no Redis and poll" in said
        assert b'aiki_redis_access{kind="none"} 1.0' in (await api.get("/metrics")).body


async def test_without_users_a_single_namespace_shares_the_servers_credentials_and_it_is_said(start_server, guarded):
    admin, url = guarded
    await admin.execute_command("ACL", "SETUSER", "plain", "on", ">pw", "allkeys", "allchannels", "+@all", "-acl")
    plain = url.replace(f":{PASSWORD}", "plain:pw")
    api = await start_server(redis_url=plain, worker_redis_url=plain, tokens={"token": "default"})
    assert (await FakeWorker(api, "w1").register()).registered["redis_url"] == plain
    said = (await api.as_(None).get("/readyz")).body.decode()
    assert "given the server's own Redis credentials" in said
    assert "plain" not in said
    assert "pw" not in said


async def test_an_open_default_user_protects_nothing(start_server, guarded):
    admin, url = guarded
    await admin.execute_command("ACL", "SETUSER", "named", "on", ">pw", "allkeys", "allchannels", "+@all")
    await admin.execute_command("ACL", "SETUSER", "default", "nopass")
    named = url.replace(f":{PASSWORD}", "named:pw")
    api = await start_server(redis_url=named, worker_redis_url=named)
    assert (await FakeWorker(api, "w1").register()).registered["redis_url"] is None


async def test_credentials_that_somebody_chose_for_workers_are_given(start_server, guarded):
    _, url = guarded
    chosen = url.replace(f":{PASSWORD}", "worker:chosen")
    api = await start_server(redis_url=url, worker_redis_url=chosen, tokens={"token": "default"})
    assert (await FakeWorker(api, "w1").register()).registered["redis_url"] == chosen


async def test_a_token_of_clients_is_no_workers(start_server, settings):
    tokens = {**settings.tokens, "client-token": "default"}
    api = await start_server(tokens=tokens, client_tokens=frozenset({"client-token"}))
    client = api.as_("client-token")
    assert (await client.post("/api/v1/runs", {"workflow": "flow"})).status == 201
    assert (await client.get("/api/v1/pools/load")).status == 200
    body = {"worker": "w1", "pool": "main", "concurrency": 1, "workflows": [{"workflow": "flow", "version": "1.0"}]}
    for path in ("worker/register", "worker/heartbeat", "worker/claim", "worker/deregister", "workers/w1/lost", "pods/p/lost"):
        assert (await client.post(f"/api/v1/{path}", body)).status == 403, path
    assert (await client.request("PUT", "/api/v1/pools/main", value={"versioning": "Pinned"})).status == 403
    assert (await api.post("/api/v1/worker/register", body)).status == 200


flow = workflow("users-flow")


@flow.v("1.0")
async def flow_v1(run: Run, n: int) -> int:
    return n


async def test_real_workers_of_two_namespaces_work_with_their_users(guarded, own_database, db, tmp_path):
    """Nothing is polled for: Redis is used, by either namespace's worker, and no log has a password (I46)."""
    admin, url = guarded
    server = ServerProcess(
        own_database,
        url,
        log=tmp_path / "server.log",
        settings={"AIKI_TOKENS": "team-a:secret-of-a,team-b:secret-of-b", "AIKI_LEASE_SECONDS": "3"},
    )
    server.start()
    try:
        for token in ("secret-of-a", "secret-of-b"):
            async with Client(server.url, token=token) as client:
                worker = Worker(client, workflows=[flow])
                await worker.start()
                for n in range(5):
                    assert await (await flow_v1.start(client, n)).result(timeout=20) == n
                await worker.stop(grace_seconds=1)
        keys = {key.decode() for key in await admin.keys("aiki:{team*users-flow*")}
        assert keys == {"aiki:{team-a:default}:users-flow:1.0", "aiki:{team-b:default}:users-flow:1.0"}
        await admin.config_set("maxmemory", "1")
        await until(lambda: "redis cannot be used" in server.log.read_text())
    finally:
        server.stop()
    said = server.log.read_text()
    assert "redis users made" in said
    assert PASSWORD not in said
    for name in (await admin.execute_command("ACL", "USERS"))[:]:
        assert name == b"default" or name.decode().split("-")[-1] not in said
