"""What came of runs is counted as it happens, named within bounds, and told to nobody whom it does not concern."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aiki_server.api.health.outcomes import MOST_PLACES, _oldest
from aiki_server.engine.commit.after_commit import Conclusion
from aiki_server.engine.runtime.histogram import SECONDS, Histogram
from aiki_server.engine.watch.outcomes import MOST_ERRORS, MOST_POOLS, MOST_WORKFLOWS, Outcomes, queued_by
from aiki_server.model.rows import Item
from aiki_server.model.sweeps import Backlog
from support.fake_worker import FakeWorker
from support.waiting import until

DOCUMENT = Path(__file__).parents[3] / "docs/reference/metrics.md"


async def figures(api):
    """Every sample, by its name and labels."""
    families = text_string_to_metric_families((await api.get("/metrics")).body.decode())
    return {(sample.name, *sorted(sample.labels.items())): sample.value for family in families for sample in family.samples}


def of(name, **labels):
    return (name, *sorted(labels.items()))


def ended(**labels):
    return of("aiki_runs_ended_total", namespace="default", workflow="flow", **labels)


async def test_runs_that_ended_are_counted_by_workflow_status_and_error(api, worker):
    await worker.finish(await worker.start_and_claim())
    await worker.finish(await worker.start_and_claim())
    await worker.commit(worker.finishing(await worker.start_and_claim(), status="failed"))
    unstarted = (await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"]
    await api.post(f"/api/v1/runs/{unstarted}/cancel")
    found = await figures(api)
    assert found[ended(status="completed", error="")] == 2
    assert found[ended(status="failed", error="E")] == 1
    assert found[ended(status="cancelled", error="Cancelled")] == 1


async def test_a_repeated_end_is_counted_once(api, worker):
    op = worker.finishing(await worker.start_and_claim())
    for _ in range(3):
        await worker.commit(op)
    assert (await figures(api))[ended(status="completed", error="")] == 1


async def test_how_long_a_run_was_queued_is_told_by_what_queued_it(api, worker):
    run = await worker.start_and_claim()
    await worker.commit(worker.parking(run, events=["go"]))
    await api.post(f"/api/v1/runs/{run}/events", {"name": "go"})
    await worker.claim(run)
    await worker.commit(worker.op(run, release=True))
    await worker.claim(run)
    found = await figures(api)
    for by in ("start", "event", "released"):
        assert found[of("aiki_queued_seconds_count", namespace="default", pool="main", cause=by)] == 1
    assert found[of("aiki_event_delivery_seconds_count", namespace="default", pool="main")] == 1


async def test_a_scheduled_run_is_queued_from_its_time_on_and_not_from_its_start(api, worker, engine, db):
    run = (await api.post("/api/v1/runs", {"workflow": "flow", "start_at": "2999-01-01T00:00:00Z"})).json()["id"]
    await db.execute("update runs set created_at = now() - interval '1 day', due_at = now() where id = $1", run)

    async def queued():
        return (await api.get(f"/api/v1/runs/{run}")).json()["status"] == "queued"

    engine.timers.hint(datetime.now(UTC))
    await until(queued)
    await worker.claim(run)
    found = await figures(api)
    assert found[of("aiki_queued_seconds_count", namespace="default", pool="main", cause="timer")] == 1
    assert found[of("aiki_queued_seconds_sum", namespace="default", pool="main", cause="timer")] < 3600
    assert of("aiki_queued_seconds_count", namespace="default", pool="main", cause="start") not in found


async def test_an_event_for_a_run_in_hand_counts_once_however_often_the_worker_asks(api, worker):
    run = await worker.start_and_claim()
    await api.post(f"/api/v1/runs/{run}/events", {"name": "go"})
    await worker.inbox(run, inbox_seen=0)
    await worker.inbox(run, inbox_seen=1)
    assert (await figures(api))[of("aiki_event_delivery_seconds_count", namespace="default", pool="main")] == 1


async def test_each_pool_has_latencies_of_its_own(api):
    for pool in ("fast", "slow"):
        worker = await FakeWorker(api, pool, pool=pool).register()
        for _ in range(2 if pool == "slow" else 1):
            run = await worker.start_and_claim(pool=pool)
            await api.post(f"/api/v1/runs/{run}/events", {"name": "go"})
            await worker.inbox(run, inbox_seen=0)
    found = await figures(api)
    for pool, runs in (("fast", 1), ("slow", 2)):
        assert found[of("aiki_queued_seconds_count", namespace="default", pool=pool, cause="start")] == runs
        assert found[of("aiki_event_delivery_seconds_count", namespace="default", pool=pool)] == runs


async def test_an_event_that_comes_back_with_a_commit_counts_for_the_worker_s_pool(api, worker):
    run = await worker.start_and_claim()
    await api.post(f"/api/v1/runs/{run}/events", {"name": "go"})
    await worker.commit(worker.parking(run, events=["go"], inbox_seen=0))
    assert (await figures(api))[of("aiki_event_delivery_seconds_count", namespace="default", pool="main")] == 1


def test_pools_beyond_the_bound_are_counted_together():
    outcomes, now = Outcomes(), datetime.now(UTC)
    item = Item(UUID(int=1), 1, "event", "go", None, None, None, None, now)
    for number in range(1_000):
        outcomes.handed_over("a", f"pool{number}", [item], now=now)
    outcomes.handed_over("b", "pool999", [item], now=now)
    assert len(outcomes.tenants["a"].events) == MOST_POOLS + 1
    assert outcomes.tenants["a"].events["other"].buckets[-1][1] == 1_000 - MOST_POOLS
    assert set(outcomes.tenants["b"].events) == {"pool999"}


async def test_the_oldest_queued_run_of_a_workflow_is_told(api, worker, engine, db):
    await api.post("/api/v1/runs", {"workflow": "flow"})
    await db.execute("update runs set updated_at = now() - interval '100 seconds'")
    engine.sweeper.hurry()
    name = of("aiki_queued_oldest_seconds", namespace="default", pool="main", workflow="flow")

    async def told():
        return (await figures(api)).get(name, 0) >= 100

    await until(told)


async def test_requests_are_counted_by_route_and_never_by_what_was_asked_for(api, worker):
    run = await worker.start_and_claim()
    await api.get(f"/api/v1/runs/{run}")
    for path in ("/api/v1/runs/nonsense", "/api/v1/nonsense", "/nonsense", "/api/v1/runs/by-ref/secret"):
        await api.get(path)
    await api.request("BREW", "/api/v1/runs")
    found = await figures(api)
    assert found[of("aiki_http_requests_total", method="POST", route="/api/v1/runs", status="2xx")] == 1
    assert found[of("aiki_http_requests_total", method="GET", route="/api/v1/runs/{run}", status="2xx")] == 1
    assert found[of("aiki_http_requests_total", method="GET", route="/api/v1/runs/{run}", status="4xx")] == 1
    assert found[of("aiki_http_requests_total", method="GET", route="other", status="4xx")] == 2
    assert found[of("aiki_http_request_seconds_count", method="GET", route="/api/v1/runs/{run}")] == 2
    text = (await api.get("/metrics")).body.decode()
    assert "nonsense" not in text
    assert "secret" not in text
    assert "BREW" not in text


async def test_a_tenant_is_told_of_no_other_ones_outcomes(start_server):
    api = await start_server(metrics_token="look")
    for token, workflow in (("token", "mine"), ("other-token", "theirs")):
        worker = await FakeWorker(api.as_(token), "w1").register((workflow, "1.0"))
        run = (await worker.api.post("/api/v1/runs", {"workflow": workflow})).json()["id"]
        await worker.claim(run)
        await worker.finish(run)
    mine, theirs, all_ = [(await api.as_(token).get("/metrics")).body.decode() for token in ("token", "other-token", "look")]
    assert 'workflow="theirs"' not in mine
    assert 'namespace="other"' not in mine
    assert 'workflow="mine"' not in theirs
    assert 'workflow="mine"' in all_
    assert 'workflow="theirs"' in all_


def test_names_beyond_the_bound_are_counted_together():
    outcomes = Outcomes()
    error = '{{"type":"E{}","message":"m"}}'
    outcomes.ended(Conclusion("a", f"flow{number}", "failed", error.format(number)) for number in range(10_000))
    outcomes.ended([Conclusion("b", "flow", "completed", None)])
    kept = outcomes.tenants["a"]
    assert len({workflow for workflow, _, _ in kept.ended}) == MOST_WORKFLOWS + 1
    assert len({kind for _, _, kind in kept.ended}) == MOST_ERRORS + 1
    assert sum(kept.ended.values()) == 10_000
    assert outcomes.tenants["b"].ended == {("flow", "completed", ""): 1}


def test_places_beyond_the_bound_are_told_together():
    found = _oldest([Backlog("a", "main", f"flow{number}", "1", None, 1, float(number)) for number in range(1_000)])
    assert len(found) == MOST_PLACES + 1
    assert found["a", "main", "flow999"] == 999.0
    assert found["a", "other", "other"] == 999.0 - MOST_PLACES


@pytest.mark.parametrize("error", ['{"type":"a\\"b"}', "null", "[]", ""])
def test_an_error_of_another_form_is_counted_nevertheless(error):
    outcomes = Outcomes()
    outcomes.ended([Conclusion("a", "flow", "failed", error)])
    assert outcomes.tenants["a"].ended == {("flow", "failed", "other"): 1}


@pytest.mark.parametrize(
    ("chunk", "found"),
    [
        ('[{"k":"queued","at":17,"by":"event"}]', ("event", 17)),
        ('[{"k":"done","c":1,"v":{"k":"queued","at":5,"by":"event"}},{"k":"queued","at":6,"by":"child"}]', ("child", 6)),
        ('[{"k":"done","at":9,"c":1,"v":{"k":"queued","at":5,"by":"event"}}]', None),
        ('[{"k":"parked","at":17,"on":[]}]', None),
        ('[{"k":"queued","at":17,"by":"nobody knows"}]', None),
        ("[]", None),
        ("", None),
    ],
)
def test_why_a_run_is_queued_is_read_off_the_end_of_its_history(chunk, found):
    assert queued_by(chunk) == found


def test_a_histogram_counts_each_observation_once():
    histogram = Histogram()
    for seconds in (-1.0, 0.0, 0.001, 0.002, 1e9):
        histogram.observe(seconds)
    counted = dict(histogram.buckets)
    assert (counted[str(SECONDS[0])], counted["+Inf"]) == (3, 5)
    assert histogram.sum == pytest.approx(1e9 + 0.003)


async def test_the_document_lists_what_the_server_tells(api, worker):
    run = await worker.start_and_claim()
    await api.post(f"/api/v1/runs/{run}/events", {"name": "go"})
    await worker.inbox(run, inbox_seen=0)
    await worker.finish(run)
    table = DOCUMENT.read_text().split("## Of a server")[1].split("## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", table, re.MULTILINE)
    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    families = list(text_string_to_metric_families((await api.get("/metrics")).body.decode()))
    told = {family.name + ("_total" if family.type == "counter" else ""): family for family in families}
    assert set(told) == set(documented)
    for name, family in told.items():
        kind, labels = documented[name]
        assert family.type == kind, name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == labels, name
