"""The database is restored to a point in time while workers and servers go on: what came after that point has never been."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from aiki import Client
from aiki.errors import ApiError
from aiki.protocol import Status
from faults import checks
from faults.installation import Installation
from faults.program import GO
from support.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

RISE = 2**20


@pytest.fixture
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation of its own, whose Postgres archives its log."""
    home = tmp_path_factory.mktemp("restored")
    archive = Path(tempfile.mkdtemp(prefix="aiki-tests-"))  # where whom Postgres runs as can reach it
    settings = {
        "archive_mode": "on",
        "archive_command": f"cp %p {archive}/%f",
        "restore_command": f"cp {archive}/%f %p",
        "recovery_target_name": "here",
        "recovery_target_action": "promote",
    }
    installation = Installation(home, postgres_settings=settings)
    _give_to_postgres(archive, installation)
    yield installation
    installation.close()
    shutil.rmtree(archive)


async def test_nothing_of_after_the_point_is_mixed_with_what_is_restored(installation: Installation, client: Client, unique: str) -> None:
    """S5 S7 S8 S12-S16 S37: a consistent prefix; a live worker's runs of after the point are refused, and done again."""
    installation.worker()
    handles = await checks.started(client, "steps", [3], prefix=f"{unique}-ended")
    await checks.all_ended_right(handles, checks.each(handles, ["s0", "s1", "s2"]))
    working = await client.start("in-step", "gate", ref=f"{unique}-working")
    waiting = await client.start("parked", 0, ref=f"{unique}-waiting")

    async def at_the_point() -> bool:
        return installation.starts("gate").get(str(working.id)) == 1 and (await waiting.refresh()).status is Status.WAITING

    await until(at_the_point)
    copy = await _backup(installation)
    installation.open_gate("gate")
    assert await working.result(20) == ["before", "gate", "after"]
    await waiting.send(GO, "lost")
    assert (await waiting.result(20))[1] == "lost"
    gone = await client.start("steps", 2, ref=f"{unique}-gone")
    assert await gone.result(20) == ["s0", "s1"]
    await _archived(installation)
    (installation.directory / "gate").unlink()

    _restore(installation, copy)

    async def back() -> bool:
        return installation.starts("gate").get(str(working.id)) == 2  # done again: its result was of after the point

    await until(back, seconds=30)
    assert (await waiting.refresh()).status is Status.WAITING
    with pytest.raises(ApiError) as refused:
        await gone.refresh()
    assert refused.value.status == 404
    installation.open_gate("gate")
    await waiting.send(GO, "kept")
    again = await client.start("steps", 2, ref=f"{unique}-gone")
    handles |= {"working": working, "waiting": waiting, "again": again}
    await checks.everything(
        installation,
        handles,
        {
            f"{unique}-ended-0": ["s0", "s1", "s2"],
            "working": ["before", "gate", "after"],
            "waiting": ["before", "kept", "after"],
            "again": ["s0", "s1"],
        },
    )
    assert again.id != gone.id
    assert installation.starts("before") == {str(working.id): 1, str(waiting.id): 1}
    assert (await checks.history(working))[-1].epoch > RISE
    assert (await checks.history(again))[-1].epoch > RISE
    assert "aiki_incarnation 2.0" in await asyncio.to_thread(_metrics, installation)


def _metrics(installation: Installation) -> str:
    with urllib.request.urlopen(f"{installation.server.url}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


async def _backup(installation: Installation) -> Path:
    """A base backup, and the point behind it to which it is going to be restored."""
    copy = installation.home / "copy"
    db = await asyncpg.connect(installation.postgres.url)
    await db.execute("select pg_backup_start('test', true)")
    shutil.copytree(
        installation.postgres.data,
        copy,
        copy_function=_copied,
        ignore=lambda folder, names: names if Path(folder).name == "pg_wal" else ["postmaster.pid"],
    )
    label = await db.fetchval("select labelfile from pg_backup_stop(false)")
    (copy / "backup_label").write_text(label)
    (copy / "recovery.signal").touch()
    await db.execute("select pg_create_restore_point('here')")
    await db.close()
    return copy


async def _archived(installation: Installation) -> None:
    """Wait until the log up to now is in the archive."""
    db = await asyncpg.connect(installation.postgres.url)
    last = await db.fetchval("select pg_walfile_name(pg_switch_wal())")

    async def there() -> bool:
        return await db.fetchval("select last_archived_wal >= $1 from pg_stat_archiver", last)

    await until(there)
    await db.close()


def _restore(installation: Installation, copy: Path) -> None:
    """Put the backup in place of the data, and let Postgres come up at the point. Nobody else is told."""
    installation.postgres.kill()
    data = installation.postgres.data
    _give_to_postgres(copy, installation)
    shutil.move(data, installation.home / "before")
    shutil.move(copy, data)
    installation.postgres.start()


def _give_to_postgres(folder: Path, installation: Installation) -> None:
    owner = installation.postgres.data.stat()
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)


def _copied(source: str, target: str) -> None:
    """A file of a live database may go while it is copied: its log tells of it."""
    with suppress(FileNotFoundError):
        shutil.copy2(source, target)


async def test_a_log_that_postgres_cannot_hand_on_is_a_figure(installation: Installation) -> None:
    """S37: what is not in the archive cannot be restored, so somebody has to be told long before."""
    db = await asyncpg.connect(installation.postgres.url)
    place = Path((await db.fetchval("show archive_command")).split()[-1]).parent
    elsewhere = place.with_name(f"{place.name}-away")

    async def switched_to(figure: bytes) -> bool:
        await db.execute("select pg_switch_wal()")  # the archiver tries again at once, and else after a minute
        async with aiohttp.ClientSession() as session, session.get(f"{installation.server.url}/metrics") as response:
            return b"aiki_database_archive_failing " + figure in await response.read()

    await until(lambda: switched_to(b"0.0"), seconds=30)
    place.rename(elsewhere)
    await until(lambda: switched_to(b"1.0"), seconds=60)
    elsewhere.rename(place)
    await until(lambda: switched_to(b"0.0"), seconds=60)
    await db.close()
