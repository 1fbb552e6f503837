"""Scenario 9: the managed Postgres is backed up as it runs, and a new AikiServer begins at a point in time of it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from e2e.conftest import WORKLOAD, Figure
from e2e.external import STORE, store_secret
from e2e.kube import Kube, named, time_until
from e2e.service import Service, reach

pytestmark = pytest.mark.asyncio(loop_scope="session")

WORKER = {"worker": "by-hand", "pool": "by-hand", "concurrency": 10, "workflows": [{"workflow": "held", "version": "1.0"}]}
DELETED = {"deletionPolicy": "Delete"}


async def test_a_restore_to_a_point_in_time_goes_on_from_there(aiki: Kube, figure: Figure) -> None:
    kept = {**DELETED, "backup": {"schedule": "0 3 * * *", "volume": {"size": "1Gi", "deletionPolicy": "Delete"}}}
    await aiki.apply(named("AikiServer", "first", {"database": {"managed": kept}}))
    try:
        await aiki.ready("AikiServer", "first")
        took = await time_until("the first backup is taken", lambda: _backed_up(aiki, "first", "True"), 60)
        figure("9 the first backup: after the server was ready", f"{took:.1f} s")
        async with reach(aiki, "first") as first:
            before, at, claimed = await _history_of(first)
        began = time.monotonic()
        await _log_is_kept(aiki, "first")
        restore = {"volume": {"claimName": "first-postgres-backup"}, "time": at.isoformat().replace("+00:00", "Z")}
        await aiki.apply(named("AikiServer", "second", {"database": {"managed": {**DELETED, "restoreFrom": restore}}}))
        await aiki.ready("AikiServer", "second", 180)
        figure("9 a restore to a point in time: ready after", f"{time.monotonic() - began:.1f} s")
        async with reach(aiki, "second") as second:
            await _is_as_it_was(second, before, claimed)
            await _goes_on(aiki, second, before)
        await _never_again(aiki)
    finally:
        for name in ("second", "first"):
            await aiki.kubectl("delete", "aikiserver", name, "--ignore-not-found")
        await aiki.kubectl("delete", "aikiworkerpool", "after", "--ignore-not-found")


async def test_a_restore_from_a_store_that_speaks_s3_goes_on_from_its_end(aiki: Kube, figure: Figure) -> None:
    await aiki.apply(*STORE)
    s3 = {"endpoint": "store:9000", "bucket": "kept", "prefix": "third", "pathStyle": True}
    s3 |= {"credentialsSecretRef": {"name": "store"}, "caSecretRef": {"name": "store"}}
    try:
        await aiki.kubectl("rollout", "status", "deployment/store", "--timeout=120s")
        await aiki.apply(store_secret(await aiki.kubectl("exec", "deployment/store", "--", "cat", "/tmp/ca.crt")))
        await aiki.apply(named("AikiServer", "third", {"database": {"managed": {**DELETED, "backup": {"s3": s3}}}}))
        await aiki.ready("AikiServer", "third")
        await time_until("the first backup is in the store", lambda: _backed_up(aiki, "third", "True"), 60)
        async with reach(aiki, "third") as third:
            (run,) = await third.start("napping", [0.0], pool="after")
        await _log_is_kept(aiki, "third")
        began = time.monotonic()
        await aiki.apply(named("AikiServer", "fourth", {"database": {"managed": {**DELETED, "restoreFrom": {"s3": s3}}}}))
        await aiki.ready("AikiServer", "fourth", 180)
        figure("9 a restore from S3: ready after", f"{time.monotonic() - began:.1f} s")
        async with reach(aiki, "fourth") as fourth:
            assert (await fourth.run(run))["status"] == "queued"
    finally:
        for name in ("fourth", "third"):
            await aiki.kubectl("delete", "aikiserver", name, "--ignore-not-found")
        await aiki.kubectl("delete", "deployment/store", "service/store", "secret/store", "--ignore-not-found")


async def test_what_cannot_be_is_refused_where_it_is_typed(aiki: Kube) -> None:
    s3 = {"endpoint": "s3.example.com", "bucket": "kept", "prefix": "a", "credentialsSecretRef": {"name": "store"}}
    external = {"type": "External", "external": {"secretRef": {"name": "pg"}}}
    for database, words in (
        ({"managed": {"backup": {"volume": {}, "s3": s3}}}, "backups go to one store"),
        ({"managed": {"backup": {"schedule": "0 3 * * *"}}}, "backups go to one store"),
        ({"managed": {"backup": {"volume": {}, "schedule": "at night"}}}, "schedule"),
        ({"managed": {"backup": {"volume": {}, "schedule": "0 24 * * *"}}}, "schedule"),
        ({"managed": {"restoreFrom": {"time": "2026-01-01T00:00:00Z"}}}, "a restore reads one store"),
        ({"managed": {"restoreFrom": {"volume": {"claimName": "c"}, "time": "yesterday"}}}, "time"),
        ({"managed": {"backup": {"s3": s3}, "restoreFrom": {"s3": s3}}}, "need a place of their own"),
        ({**external, "managed": {"backup": {"volume": {}}}}, "database.managed belongs to type Managed"),
    ):
        said = await aiki.apply(named("AikiServer", "refused", {"database": database}), ok=False)
        assert words in said, (database, said)
    patch = {"spec": {"database": {"managed": {"restoreFrom": {"volume": {"claimName": "c"}}}}}}
    said = await aiki.kubectl("patch", "aikiserver/aiki", "--type=merge", "--patch", json.dumps(patch), ok=False)
    assert "never overwritten" in said, said


async def _history_of(service: Service) -> tuple[dict[str, Any], datetime, dict[str, Any]]:
    """A run of which one step is done, then a point in time, then a step more and another run; the run, the point, the claim."""
    assert (await service.call("POST", "/worker/register", WORKER))[0] == 200
    (run,) = await service.start("held", [1], pool="by-hand")
    status, answer = await service.call("POST", "/worker/claim", {"worker": "by-hand", "runs": [run]})
    assert (status, [one["id"] for one in answer["runs"]]) == (200, [run]), answer
    (claimed,) = answer["runs"]
    assert await _commit(service, claimed, number=1, step="before") == "ok"
    before = {**await service.run(run), "history": await service.history(run)}
    await _next_second()
    at = datetime.now(UTC)
    await _next_second()
    assert await _commit(service, claimed, number=2, step="after") == "ok"
    (late,) = await service.start("napping", [0.0], pool="after")
    return {**before, "late": late}, at, claimed


async def _next_second() -> None:
    """Waits for more than a second of the clock, because pgBackRest tells points in time apart by the second."""
    began = time.time()

    async def passed() -> bool:
        return time.time() > began + 1.1

    await time_until("the next second has begun", passed, 5)


async def _commit(service: Service, claimed: dict[str, Any], *, number: int, step: str) -> str:
    """Commits a state as a worker does; the outcome of the commit."""
    op = {"run": claimed["id"], "epoch": claimed["epoch"], "number": number, "state": json.dumps({"step": step})}
    status, answer = await service.call("POST", "/worker/commit", {"worker": "by-hand", "ops": [op]})
    assert status == 200, answer
    outcome: str = answer["answers"][0]["outcome"]
    return outcome


async def _log_is_kept(kube: Kube, server: str) -> None:
    """The log of Postgres goes into the store by itself within a minute; whoever cannot wait says so."""
    words = (
        "exec",
        f"{server}-postgres-0",
        "--container=postgres",
        "--",
        "psql",
        "--username=postgres",
        "--tuples-only",
        "--no-align",
        "--command",
    )
    (segment,) = (await kube.kubectl(*words, "select pg_walfile_name(pg_switch_wal())")).split()

    async def kept() -> bool:
        return (await kube.kubectl(*words, f"select last_archived_wal >= '{segment}' from pg_stat_archiver")).strip() == "t"

    await time_until("the log is in the store", kept, 30)


async def _is_as_it_was(service: Service, before: dict[str, Any], claimed: dict[str, Any]) -> None:
    run = before["id"]
    now = await service.run(run)
    history = await service.history(run)
    assert history[: len(before["history"])] == before["history"]
    assert (now["workflow"], now["state"]) == ("held", {"step": "before"}), now
    assert (await service.call("GET", f"/runs/{before['late']}"))[0] == 404
    assert await _commit(service, claimed, number=2, step="too late") == "stale"
    assert (await service.run(run))["state"] == {"step": "before"}


async def _goes_on(kube: Kube, service: Service, before: dict[str, Any]) -> None:
    """The run is claimed again under an epoch beyond any before, and a pool works."""
    assert (await service.call("POST", "/worker/register", {**WORKER, "number": 0}))[0] == 200

    async def again() -> list[Any]:
        _, answer = await service.call("POST", "/worker/claim", {"worker": "by-hand", "runs": [before["id"]]})
        found: list[Any] = answer["runs"]
        return found

    await time_until("the run is claimed again", again, 60)
    await kube.apply(named("AikiWorkerPool", "after", {"serverRef": {"name": "second"}, "image": WORKLOAD, "minReplicas": 1}))
    await kube.ready("AikiWorkerPool", "after")
    await service.finished(await service.start("napping", [0.0], pool="after"), 60)


async def _never_again(kube: Kube) -> None:
    """A Postgres that starts anew restores nothing: what was done after the restore is there."""
    async with reach(kube, "second") as service:
        (run,) = await service.start("napping", [0.0], pool="after")
        await service.finished([run], 60)
        before = (await kube.get("Pod", "second-postgres-0") or {})["metadata"]["uid"]
        await kube.kubectl("delete", "pod", "second-postgres-0")

        async def restarted() -> bool:
            return ((await kube.get("Pod", "second-postgres-0")) or {}).get("metadata", {}).get("uid") not in (None, before)

        await time_until("Postgres has begun again", restarted, 60)
        await kube.ready("AikiServer", "second")
        assert (await service.run(run))["status"] == "completed"


async def _backed_up(kube: Kube, name: str, word: str) -> bool:
    return bool((await kube.condition("AikiServer", name, "BackupReady")).get("status") == word)
