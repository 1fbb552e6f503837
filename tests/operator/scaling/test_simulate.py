"""The simulator: a pool's life on a trace, and the command line around it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiki_operator.scaling.autoscale import ScalingPolicy
from aiki_operator.scaling.simulate import Arrival, BadTrace, SimulatedSecond, main, read_trace, simulate

POLICY = ScalingPolicy(0, 20, 10)
BURST = [Arrival(0, 400, 2.0)]

traces = st.lists(
    st.builds(Arrival, st.integers(0, 100).map(float), st.integers(0, 50), st.floats(0.1, 30)),
    min_size=1,
    max_size=6,
    unique_by=lambda one: one.at,
)


def life(trace: list[Arrival], *, policy: ScalingPolicy = POLICY, seconds: int = 300, start_seconds: float = 3.0) -> list[SimulatedSecond]:
    return list(simulate(policy, trace, seconds=seconds, start_seconds=start_seconds))


def test_burst_is_served_and_the_pool_returns_to_zero() -> None:
    lines = life(BURST)
    assert (lines[0].replicas, lines[0].queued, lines[0].target) == (0, 400, 20)
    assert next(line.at for line in lines if line.queued == 0 and line.running == 0) <= 30
    assert (lines[-1].replicas, lines[-1].running, lines[-1].queued) == (0, 0, 0)


def test_constant_arrivals_do_not_oscillate() -> None:
    trace = [Arrival(float(second), 7, 3.0) for second in range(600)]
    targets = [line.target for line in life(trace, seconds=600)]
    # After the start, the first service times and one window there is nothing left to change.
    assert len(set(targets[200:])) == 1


def test_pod_that_starts_slowly_serves_only_then() -> None:
    lines = life([Arrival(0, 1, 1.0)], start_seconds=20)
    assert next(line.at for line in lines if line.running) == 20
    assert lines[-1].late == 20


@settings(max_examples=30, deadline=None)
@given(traces, st.randoms())
def test_simulation_is_a_function_of_its_trace(trace: list[Arrival], random: Random) -> None:
    policy, shuffled = ScalingPolicy(0, 5, 3), random.sample(trace, len(trace))
    lines = life(trace, policy=policy, seconds=120)
    assert lines == life(shuffled, policy=policy, seconds=120)
    assert all(line.target <= 5 for line in lines)
    assert all(line.target >= 1 for line in lines if line.queued or line.running)


CSV = "at,runs,seconds\n0,400,2\n30,5,\n"
JSON = json.dumps([{"at": 0, "runs": 400, "seconds": 2}, {"at": 30, "runs": 5}])


@pytest.mark.parametrize("text", [CSV, JSON, "\n" + CSV.replace(",", ", "), CSV.replace("\n", "\r\n")])
def test_csv_and_json_say_the_same(text: str) -> None:
    assert read_trace(text, seconds=1.5) == [Arrival(0.0, 400, 2.0), Arrival(30.0, 5, 1.5)]


def test_one_run_where_the_trace_names_none() -> None:
    assert read_trace("at\n1\n2.5\n", seconds=1.0) == [Arrival(1.0, 1, 1.0), Arrival(2.5, 1, 1.0)]
    assert read_trace('[{"at": 1, "runs": 0}]', seconds=1.0) == [Arrival(1.0, 0, 1.0)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("at,runs,seconds\n", "empty"),
        ("[]", "empty"),
        ("0,400,2\n5,1,1\n", "no `at`"),
        ("at,runs\n0,many\n", "arrival 1: `runs` is 'many', not a number"),
        ("at,runs\n0,1\n1,1.5\n", "arrival 2: `runs` is '1.5', not a whole number"),
        ("at\n-1\n", "it must be 0 or more"),
        ("at\nnan\n", "it must be 0 or more"),
        ("at,seconds\n0,inf\n", "it must be 0 or more"),
        ('[{"at": 0}, 7]', "arrival 2 has no `at`"),
        ('[{"at": [0]}]', "`at` is [0], not a number"),
        ('{"at": 0}', "a JSON trace is a list"),
        ('[{"at": 0}', "not JSON"),
    ],
)
def test_bad_trace_says_where_and_what_is_expected(text: str, said: str) -> None:
    with pytest.raises(BadTrace) as caught:
        read_trace(text, seconds=1.0)
    assert said in str(caught.value)


def test_command_prints_changes_and_a_summary(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(CSV)
    done = subprocess.run(
        [sys.executable, "-m", "aiki_operator.scaling.simulate", str(trace), "--max", "4", "--until", "120"],
        capture_output=True,
        text=True,
        check=True,
    )
    header, first, *_, summary = done.stdout.splitlines()
    assert header.split() == ["second", "queued", "running", "pods", "target", "why"]
    assert first.split()[:5] == ["0", "400", "0", "0", "4"]
    assert summary.endswith("most pods 4")
    assert done.stderr == ""


def test_command_reads_standard_input_and_shows_every_second(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(JSON))
    main(["-", "--until", "10", "--every"])
    assert len(capsys.readouterr().out.splitlines()) == 1 + 10 + 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.csv"], "nowhere.csv"),
        (["{bad}"], "arrival 1: `at` is 'soon', not a number"),
        (["{good}", "--concurrency", "0"], "not a whole number above 0"),
        (["{good}", "--until", "0"], "not a whole number above 0"),
        (["{good}", "--min", "5", "--max", "2"], "--min 5 must lie between 0 and --max 2"),
    ],
)
def test_command_refuses_bad_input_in_one_line(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.csv").write_text("at\nsoon\n")
    (tmp_path / "good.csv").write_text(CSV)
    with pytest.raises(SystemExit) as caught:
        main([part.format(bad=tmp_path / "bad.csv", good=tmp_path / "good.csv") for part in arguments])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
