"""What a worker tells of itself: attempts by how they ended, its slots, commits and lease, in a form that Prometheus reads, to whom it concerns."""

from __future__ import annotations

import asyncio
import math
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from aiki import Client, Event, Retry, Run, RunFailed, RunHandle, task, workflow
from aiki.protocol import figures_token
from aiki.worker import Worker
from aiki.worker.metrics.attempts import CANCELLED, FAILED, MOST_ERRORS, MOST_TASKS, AttemptFigures, Durations
from aiki.worker.metrics.exposition import Family, exposition
from aiki.worker.metrics.process import process_families
from aiki.worker.process.health import LARGEST_HEAD, health
from support.ports import free_port
from support.waiting import until
from support.workers import SECONDS, StartWorker

DOCUMENT = Path(__file__).parents[4] / "docs/reference/metrics.md"
TOKEN = "the-worker's-own"
go = Event("go", int)
Figures = dict[tuple[Any, ...], float]


def parsed(text: str) -> Figures:
    """Every sample, by its name and labels."""
    families = text_string_to_metric_families(text)
    return {(sample.name, *sorted(sample.labels.items())): sample.value for family in families for sample in family.samples}


def told(worker: Worker) -> Figures:
    return parsed(exposition(worker._figures()))


def of(name: str, **labels: str) -> tuple[Any, ...]:
    return (name, *sorted(labels.items()))


def ends(figures: Figures, flow: str) -> dict[tuple[str, str, str], float]:
    """Attempts of a workflow's tasks, by task, outcome and kind of error."""
    labelled = [(dict(labels), count) for (name, *labels), count in figures.items() if name == "aiki_task_attempts_total"]
    return {(found["task"], found["outcome"], found["error"]): count for found, count in labelled if found["workflow"] == flow}


# ---- attempts


async def test_attempts_are_counted_by_how_they_ended(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow, again = workflow(unique), Retry.fixed(max_attempts=2, delay=0.01)
    tried: list[int] = []

    @task(retry=again)
    async def flaky() -> None:
        tried.append(1)
        if len(tried) == 1:
            raise ConnectionResetError

    @task(retry=Retry.never())
    async def odd() -> object:
        return object()

    @task(timeout=0.05, retry=Retry.never())
    async def slow() -> None:
        await asyncio.Event().wait()

    @task(timeout=0.05, retry=Retry.never())
    def waits() -> None:
        threading.Event().wait(0.2)

    @flow.v("1")
    async def version(run: Run) -> None:
        await flaky.start(run)
        ended = await asyncio.gather(odd.start(run), slow.start(run), waits.start(run), return_exceptions=True)
        assert [getattr(error, "type", None) for error in ended] == ["PayloadError", "TaskTimeout", "TaskTimeout"]

    worker = await start_worker(flow)
    await (await version.start(client)).result(SECONDS)
    figures = told(worker)
    assert ends(figures, unique) == {
        ("flaky", "failed", "ConnectionResetError"): 1,
        ("flaky", "succeeded", ""): 1,
        ("odd", "failed", "PayloadError"): 1,
        ("slow", "timed_out", ""): 1,
        ("waits", "timed_out", ""): 1,
    }
    assert figures[of("aiki_task_seconds_count", workflow=unique, task="flaky")] == 2
    assert figures[of("aiki_task_seconds_sum", workflow=unique, task="slow")] >= 0.05
    assert figures[of("aiki_task_seconds_bucket", workflow=unique, task="slow", le="0.025")] == 0


async def at_work(client: Client, start_worker: StartWorker, unique: str) -> tuple[Worker, RunHandle[None]]:
    """A worker in the middle of a task that does not end, and the run of it."""
    flow, began = workflow(unique), asyncio.Event()

    @task
    async def endless() -> None:
        began.set()
        await asyncio.Event().wait()

    @flow.v("1")
    async def version(run: Run) -> None:
        await endless.start(run)

    worker = await start_worker(flow)
    run = await version.start(client)
    await asyncio.wait_for(began.wait(), SECONDS)
    return worker, run


async def test_what_nobody_waits_for_is_cancelled(client: Client, start_worker: StartWorker, unique: str) -> None:
    """Given up by the code, and left behind by a run that is over."""
    flow, began = workflow(unique), asyncio.Event()

    @task
    async def endless() -> None:
        began.set()
        await asyncio.Event().wait()

    @flow.v("given-up")
    async def gives_up(run: Run) -> None:
        try:
            async with asyncio.timeout(0.1):
                await endless.start(run)
        except TimeoutError:
            return

    @flow.v("left")
    async def leaves(run: Run) -> None:
        endless.start(run)
        await run.wait(go)

    worker = await start_worker(flow)
    await (await gives_up.start(client)).result(SECONDS)
    assert ends(told(worker), unique) == {("endless", "cancelled", ""): 1}
    began.clear()
    left = await leaves.start(client)
    await asyncio.wait_for(began.wait(), SECONDS)
    await left.send(go, 1)
    await left.result(SECONDS)
    figures = told(worker)
    assert ends(figures, unique) == {("endless", "cancelled", ""): 2}
    assert of("aiki_task_seconds_count", workflow=unique, task="endless") not in figures


async def test_what_a_stopping_worker_does_not_wait_for_is_lost(client: Client, start_worker: StartWorker, unique: str) -> None:
    worker, run = await at_work(client, start_worker, unique)
    session: Any = worker._session
    assert parsed(exposition(session.figures.families()))[of("aiki_tasks_running")] == 1
    await worker.stop(grace_seconds=0)
    assert ends(parsed(exposition(session.figures.families())), unique) == {("endless", "lost", ""): 1}
    await run.cancel()


async def test_a_run_that_is_taken_away_loses_its_attempts(client: Client, start_worker: StartWorker, unique: str) -> None:
    worker, run = await at_work(client, start_worker, unique)
    session: Any = worker._session
    next(iter(session.runs._active.values()))._stale("test")
    assert ends(told(worker), unique) == {("endless", "lost", ""): 1}
    await run.cancel()


def test_names_beyond_the_bounds_are_counted_together() -> None:
    figures = AttemptFigures()
    for number in range(10_000):
        figures.ended("flow", f"task{number}", 0.0, outcome=FAILED, error=f"E{number}")
    figures.succeeded("x" * 101, "task", 0.0)
    samples = parsed(exposition(figures.families()))
    counted = [(dict(labels), count) for (name, *labels), count in samples.items() if name == "aiki_task_attempts_total"]
    assert sum(count for _, count in counted) == 10_001
    assert len({found["task"] for found, _ in counted}) == MOST_TASKS + 1
    assert len({found["error"] for found, _ in counted if found["error"]}) == MOST_ERRORS + 1
    assert {found["workflow"] for found, _ in counted} == {"flow", "other"}


def test_a_duration_is_counted_once_wherever_it_lies() -> None:
    durations = Durations()
    for seconds in (0.0, 0.001, 0.002, 1e9):
        durations.observe(seconds)
    counted = dict(durations.buckets)
    assert (counted[0.001], counted[0.005], counted[math.inf]) == (2, 3, 4)
    assert durations.sum == 1e9 + 0.003


# ---- the worker


async def test_a_worker_tells_of_its_slots_claims_and_commits(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @task
    async def step() -> None: ...

    @flow.v("1")
    async def version(run: Run, fail: bool) -> int:
        await step.start(run)
        if fail:
            raise ValueError
        return await run.wait(go)

    @flow.v("held")
    async def held(run: Run) -> None:
        await hold.start(run)

    began, end = asyncio.Event(), asyncio.Event()

    @task
    async def hold() -> None:
        began.set()
        await end.wait()

    worker = await start_worker(flow, concurrency=7)
    run = await held.start(client)
    await asyncio.wait_for(began.wait(), SECONDS)
    figures = told(worker)
    assert (figures[of("aiki_worker_slots", state="used")], figures[of("aiki_worker_slots", state="free")]) == (1, 6)
    assert figures[of("aiki_worker_activations_total")] == 1
    assert figures[of("aiki_worker_claimed_runs_total")] == 1
    assert figures[of("aiki_worker_claims_total", outcome="failed")] == 0
    end.set()
    await run.result(SECONDS)
    with pytest.raises(RunFailed):
        await (await version.start(client, True)).result(SECONDS)

    async def answered() -> bool:  # the run's end is told to us before the worker has its answer
        return told(worker)[of("aiki_worker_slots", state="used")] == 0

    await until(answered)
    figures = told(worker)
    assert figures[of("aiki_worker_activations_total")] == 2
    assert figures[of("aiki_worker_committed_total")] >= 2
    assert figures[of("aiki_worker_commit_seconds_count")] >= 2
    for name in (
        "commit_queued",
        "commits_in_flight",
        "commit_failures_total",
        "threads_lost",
        "threads_busy",
        "leases_expired_total",
        "polling",
    ):
        assert figures[of(f"aiki_worker_{name}")] == 0, name
    assert figures[of("aiki_worker_heartbeat_age_seconds")] < SECONDS


async def test_threads_that_are_lost_are_told_until_they_come_back(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow, end = workflow(unique), threading.Event()

    @task(timeout=0.05, retry=Retry.never())
    def hangs() -> None:
        end.wait(SECONDS)

    @flow.v("1")
    async def version(run: Run) -> None:
        await hangs.start(run)

    worker = await start_worker(flow)
    run = await version.start(client)
    with pytest.raises(RunFailed):
        await run.result(SECONDS)
    assert told(worker)[of("aiki_worker_threads_lost")] == 1
    end.set()

    async def back() -> bool:
        return told(worker)[of("aiki_worker_threads_lost")] == 0

    await until(back)


async def test_a_heartbeat_without_an_answer_makes_the_last_one_older(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @flow.v("1")
    async def version(run: Run) -> None: ...

    worker = await start_worker(flow)
    heartbeat = worker._session._heartbeat  # type: ignore[union-attr]  # it has started
    heartbeat._url = heartbeat._url._replace(netloc="localhost:1")
    heartbeat._disconnect()
    before = told(worker)
    assert heartbeat._beat() is False
    figures = told(worker)
    assert (
        figures[of("aiki_worker_heartbeats_total", outcome="unanswered")]
        == before[of("aiki_worker_heartbeats_total", outcome="unanswered")] + 1
    )
    assert figures[of("aiki_worker_heartbeat_age_seconds")] > before[of("aiki_worker_heartbeat_age_seconds")]


async def test_the_document_lists_what_a_worker_tells(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @task
    async def step() -> None: ...

    @flow.v("1")
    async def version(run: Run) -> None:
        await step.start(run)

    worker = await start_worker(flow)
    await (await version.start(client)).result(SECONDS)
    table = DOCUMENT.read_text().split("## Of a worker")[1].split("## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", table, re.MULTILINE)
    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    families = list(text_string_to_metric_families(exposition(worker._figures())))
    found = {family.name + ("_total" if family.type == "counter" else ""): family for family in families}
    assert set(found) == set(documented)
    for name, family in found.items():
        kind, labels = documented[name]
        assert family.type == kind, name
        assert [set(sample.labels) - {"le"} for sample in family.samples] == [labels] * len(family.samples), name


def test_what_the_system_does_not_tell_of_the_process_is_left_out(tmp_path: Path) -> None:
    assert [family.name for family in process_families(tmp_path)] == ["process_cpu_seconds_total"]


# ---- the form

NAMES = st.from_regex(r"\A[a-z_]{1,20}\Z")
TEXTS = st.text(max_size=20)
NUMBERS = st.one_of(st.integers(0, 2**53), st.floats(allow_nan=False))


@st.composite
def families(draw: st.DrawFn) -> Family:
    kind = draw(st.sampled_from(["counter", "gauge", "histogram"]))
    name = draw(NAMES) + ("_total" if kind == "counter" else "_value")
    labels = [f"l_{label}" for label in draw(st.lists(NAMES, max_size=3, unique=True))]
    made = Family(name, kind, draw(TEXTS), labels)  # type: ignore[arg-type]  # one of the three
    for values in draw(st.lists(st.tuples(*[TEXTS for _ in labels]), max_size=3, unique=True)):
        if kind == "histogram":
            durations = Durations()
            for seconds in draw(st.lists(st.floats(0, 1e6), max_size=5)):
                durations.observe(seconds)
            made.histograms.append((values, durations.buckets, durations.sum))
        else:
            made.add(*values, value=draw(NUMBERS))
    return made


def written(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


@given(families())
def test_what_is_written_is_what_prometheus_reads(family: Family) -> None:
    (read,) = text_string_to_metric_families(exposition([family]))
    assert read.type == family.kind
    assert read.name == family.name.removesuffix("_total") if family.kind == "counter" else family.name
    samples = {(sample.name, *sample.labels.values()): sample.value for sample in read.samples}
    for values, value in family.series:
        assert samples.pop((family.name, *map(written, values))) == value
    for values, buckets, total in family.histograms:
        known = tuple(map(written, values))
        for bound, count in buckets:
            assert samples.pop((f"{family.name}_bucket", *known, "+Inf" if bound == math.inf else str(bound))) == count
        assert samples.pop((f"{family.name}_sum", *known)) == total
        assert samples.pop((f"{family.name}_count", *known)) == buckets[-1][1]
    assert samples == {}


# ---- the port


@asynccontextmanager
async def port(*, token: str | None = TOKEN, ready: bool = True) -> AsyncIterator[int]:
    figures = AttemptFigures()
    figures.ended("flow", "charge", 0.0, outcome=CANCELLED)
    number = free_port()
    async with health(number, ready=lambda: ready, figures=figures.families, token=lambda: token):
        yield number


async def asked(number: int, request: bytes) -> tuple[int, str, str]:
    """Status, head and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    writer.write(request)
    answer = (await asyncio.wait_for(reader.read(), SECONDS)).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), head, body


def get(path: str, *, shown: str | None = None) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{f'Authorization: Bearer {shown}' if shown else 'Accept: */*'}\r\n\r\n".encode()


async def test_figures_are_for_who_shows_the_worker_s_token_or_the_one_that_reads_figures() -> None:
    async with port() as number:
        for good in (figures_token(TOKEN), TOKEN):
            status, head, body = await asked(number, get("/metrics", shown=good))
            assert status == 200
            assert "Content-Type: text/plain; version=0.0.4" in head
            assert of("aiki_task_attempts_total", workflow="flow", task="charge", outcome="cancelled", error="") in parsed(body)
        for bad in (None, figures_token("another"), "", "x" * 9, figures_token(figures_token(TOKEN)), "\N{SNOWMAN}"):
            status, head, body = await asked(number, get("/metrics", shown=bad))
            assert status == 401, bad
            assert "charge" not in body
            assert "AIKI_METRICS_TOKEN" in body


async def test_where_the_server_asks_for_no_token_the_worker_asks_for_none() -> None:
    async with port(token=None) as number:
        assert (await asked(number, get("/metrics")))[0] == 200


async def test_probes_need_no_token() -> None:
    async with port() as number, port(ready=False) as unready:
        assert (await asked(number, get("/livez")))[0] == 200
        assert (await asked(number, get("/readyz")))[0] == 200
        assert (await asked(unready, get("/readyz")))[0] == 503
        assert (await asked(number, get("/nothing")))[0] == 404


async def test_nonsense_on_the_port_ends_its_connection_and_no_other() -> None:
    async with port() as number:
        for nonsense in (b"\r\n\r\n", b"\xff\xfe\r\n\r\n", b"GET\r\n\r\n", b"GET /metrics HTTP/1.1\r\nAuthorization\r\n\r\n"):
            assert (await asked(number, nonsense))[0] in (401, 404), nonsense
        for cut in (b"GET /livez", b"x" * (2 * LARGEST_HEAD)):
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            writer.write(cut)
            writer.write_eof()
            with suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), SECONDS) == b""
            writer.close()
        assert (await asked(number, get("/livez")))[0] == 200


async def test_the_page_has_the_figures_of_process_and_worker(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @flow.v("1")
    async def version(run: Run) -> None: ...

    worker = await start_worker(flow)
    number = free_port()
    async with health(number, ready=lambda: True, figures=worker._figures, token=lambda: None):
        _, _, body = await asked(number, get("/metrics"))
    figures = parsed(body)
    assert figures[of("process_resident_memory_bytes")] > 1e6
    assert figures[of("process_cpu_seconds_total")] > 0
    assert figures[of("process_start_time_seconds")] > 1e9
    assert of("aiki_worker_slots", state="free") in figures
