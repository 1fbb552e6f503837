"""What the server and its workers need of Redis, tried out command by command, and what its errors mean in plain words.

docs/operate/redis.md lists the same commands, and a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from aiki.protocol import CONSUMER_GROUP

ADD = f"redis.call('XADD', KEYS[1], '*', 'r', ARGV[1]) return redis.call('XINFO', 'CONSUMERS', KEYS[1], '{CONSUMER_GROUP}')"
OLDEST = "Redis or Valkey 6.2"
SERVER_COMMANDS = (
    "DEL", "EVAL", "EXPIRE", "HGET", "HINCRBY", "HINCRBYFLOAT", "HMGET", "PSUBSCRIBE", "PUBLISH", "SUBSCRIBE",
    "XADD", "XGROUP CREATE", "XGROUP DELCONSUMER", "XINFO CONSUMERS", "XINFO GROUPS", "XLEN", "XREADGROUP",
)  # fmt: skip
WORKER_COMMANDS = ("PING", "SUBSCRIBE", "XACK", "XAUTOCLAIM", "XDEL", "XGROUP CREATE", "XREADGROUP")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why Redis cannot be used. `kind` is for metrics; `text` for people, and has nothing in it that Redis or anybody else wrote."""

    kind: str
    text: str


def trouble_of(error: BaseException, command: str = "") -> Trouble:
    """What an error means."""
    said = str(error)
    if isinstance(error, TimeoutError | RedisTimeoutError):
        return Trouble("silent", "Redis does not answer in time.")
    if isinstance(error, AuthenticationError) or said.startswith(("NOAUTH", "WRONGPASS", "Authentication required")):
        return Trouble("refused", "Redis refuses the credentials of AIKI_REDIS_URL.")
    if isinstance(error, NoPermissionError) or said.startswith("NOPERM"):
        return Trouble(
            "forbidden",
            f"The Redis user of AIKI_REDIS_URL may not {command or 'do what is needed'} on keys and channels named aiki:*. docs/operate/redis.md has all that it needs.",
        )
    if isinstance(error, ResponseError):
        return _answered(said, command)
    return Trouble("away", "Redis cannot be reached.")


def _answered(said: str, command: str) -> Trouble:
    if said.lower().startswith(("unknown command", "unknown subcommand")):
        return Trouble(
            "unknown_command", f"Redis does not know {command or 'a command'}: Aiki needs {OLDEST} or newer, with no command renamed."
        )
    if "used memory > 'maxmemory'" in said:
        return Trouble(
            "full", "Redis is full (its maxmemory is reached) and takes no writes. Raise maxmemory, or find out what else fills it."
        )
    if "read only replica" in said:
        return Trouble("read_only", "Redis is a read-only replica: AIKI_REDIS_URL must lead to the primary.")
    return Trouble("failing", f"Redis fails at {command or 'what it is asked'}; its own log says why.")


async def check_commands(redis: Redis, key: str) -> Trouble | None:
    """Whether everything that is needed works, on a key of our own; the first trouble where something does not."""
    counts = f"{key}:counts"
    wanted: list[tuple[str | int | float, ...]] = [
        ("PING",),
        ("DEL", key, counts),
        ("XGROUP", "CREATE", key, CONSUMER_GROUP, "0", "MKSTREAM"),
        ("XADD", key, "*", "r", "1"),
        ("XLEN", key),
        ("XREADGROUP", "GROUP", CONSUMER_GROUP, "check", "COUNT", 10, "STREAMS", key, ">"),
        ("XAUTOCLAIM", key, CONSUMER_GROUP, "check", 0, "0-0", "COUNT", 10),
        ("XACK", key, CONSUMER_GROUP, "0-1"),
        ("XDEL", key, "0-1"),
        ("XINFO", "CONSUMERS", key, CONSUMER_GROUP),
        ("XINFO", "GROUPS", key),
        ("EVAL", ADD, 1, key, "2"),
        ("XGROUP", "DELCONSUMER", key, CONSUMER_GROUP, "check"),
        ("HINCRBY", counts, "n", 1),
        ("HINCRBYFLOAT", counts, "seconds", 0.5),
        ("HGET", counts, "n"),
        ("HMGET", counts, "seconds", "n"),
        ("EXPIRE", counts, 60),
        ("PUBLISH", "aiki:check", ""),
        ("DEL", key, counts),
    ]
    pipeline = redis.pipeline(transaction=False)
    for command in wanted:
        pipeline.execute_command(*command)
    answers = await pipeline.execute(raise_on_error=False)
    for command, answer in zip(wanted, answers, strict=True):
        if isinstance(answer, ResponseError | RedisError):
            two = command[0] in ("XGROUP", "XINFO")
            return trouble_of(answer, " ".join(map(str, command[: 1 + two])))
    return None
