"""What must hold after everything was broken and mended. Each law yields what breaks it, and names the invariants that it checks by number."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from faults.soak.errand import COLOURS, FLAKY_ATTEMPTS, BoomError, errand, fails, right, undone
from faults.soak.load import Errand
from faults.soak.records import Recorded
from faults.soak.stage import LEASE_SECONDS, PINNED
from support.engine.folding import folded

Violations = Iterator[str]

ENDS = {"completed": "completed", "failed_run": "failed", "cancelled": "cancelled"}
ACK_SLACK_SECONDS = 0.5
"""An entry's instant is when the result came to be, by a clock that a worker carries on for itself; nothing of the same call begins later."""
TOLD_SECONDS = LEASE_SECONDS + 2
"""A worker that does not hear of a cancel within its lease starts nothing more."""
MOST_DELIVERIES = 10
LATE_SECONDS = 30.0
"""L20: how late a timer may be after everything was down."""


def of_run(run: Recorded) -> Violations:
    """What holds of every run of an errand by itself."""
    for law in (_history, _calls, _executions, _attempts, _cleanup, _result, _timers, _epochs, _places):
        yield from judged(law.__name__[1:], run, law(run))


def judged(name: str, run: Recorded, law: Violations) -> Violations:
    """The violations of one law. A run on which it cannot be judged is one as well, and the others are judged all the same."""
    try:
        yield from (f"{name}: {violation}: {run}" for violation in law)
    except Exception as error:  # noqa: BLE001  whatever a broken history does to a law
        yield f"{name}: cannot be judged, for it raised {error!r}: {run}"


def _history(run: Recorded) -> Violations:
    """S8 S12 S13 S14."""
    if run.seqs != list(range(1, len(run.entries) + 1)) or run.row["history_len"] != len(run.entries):
        yield f"S12 the history has gaps: {run.seqs}, length {run.row['history_len']}"
    if run.status not in folded(run.entries):
        yield f"S12 the history folds to {folded(run.entries)}"
    ends = [index for index, entry in enumerate(run.entries) if entry["k"] in ENDS]
    if ends != [len(run.entries) - 1]:
        yield f"S14 the ends are at {ends} of {len(run.entries)}"
    if run.epochs != sorted(run.epochs):
        yield f"S8 the epochs are {run.epochs}"
    error = json.loads(run.row["error"])["type"] if run.row["error"] else None
    if run.status == "failed" and not (fails(json.loads(run.row["input"])) and error == BoomError.__name__):
        yield f"S15 it failed: {run.row['error']}"


def _calls(run: Recorded) -> Violations:
    """S5 S11: calls are numbered without a gap, and have at most one result each."""
    numbers = [entry["c"] for entry in run.of("call")]
    if numbers != list(range(len(numbers))):
        yield f"S11 calls are numbered {numbers}"
    results = Counter(entry["c"] for entry in run.of("done", "failed"))
    if twice := [number for number, count in results.items() if count > 1 or number not in numbers]:
        yield f"S5 calls with two results, or with no call: {twice}"
    items = Counter(entry["i"] for entry in run.of("done", "failed", "cancel") if "i" in entry)
    if twice := [item for item, count in items.items() if count > 1]:
        yield f"S24 items taken twice: {twice}"
    if unmarked := [item["seq"] for item in run.inbox if item["consumed"] != (item["seq"] in items)]:
        yield f"S24 items marked otherwise than the history takes them: {unmarked}"


def _executions(run: Recorded) -> Violations:
    """S5 S10: what has a result began, and not again after that was stored."""
    calls = run.calls()
    begun: dict[int, list[tuple[int, float]]] = {}
    for line in run.trace:
        if line["what"] == "begin":
            begun.setdefault(int(line["key"].rpartition("-")[2]), []).append((line["attempt"], line["at"]))
    for entry in run.of("done", "failed"):
        label, number = calls[entry["c"]]["l"], entry["c"]
        if not calls[number]["a"].startswith("task:"):
            continue
        if number not in begun:
            yield f"S10 {label} has a result and never began"
        elif (late := max(_again(begun[number]), default=0) - entry["at"] / 1e6) > ACK_SLACK_SECONDS:
            yield f"S5 {label} (call {number}) began again {late:.3f} s after its result"


def _again(begun: list[tuple[int, float]]) -> Iterator[float]:
    """When attempts began that had begun before."""
    before: set[int] = set()
    for attempt, at in begun:
        if attempt in before:
            yield at
        before.add(attempt)


def _attempts(run: Recorded) -> Violations:
    """S9: only failures count, and all of them do."""
    calls = run.calls()
    recorded: dict[int, list[int]] = {}
    for entry in run.of("attempt"):
        recorded.setdefault(entry["c"], []).append(entry["n"])
    done = {entry["c"] for entry in run.of("done")}
    for number, call in calls.items():
        attempts = recorded.get(number, [])
        flaky = call["a"].startswith("task:flaky:")
        if attempts != list(range(1, len(attempts) + 1)) or len(attempts) >= FLAKY_ATTEMPTS or (attempts and not flaky):
            yield f"S9 {call['l']} has the attempts {attempts}"
        if flaky and number in done and len(attempts) != FLAKY_ATTEMPTS - 1:
            yield f"S9 {call['l']} ended well after the attempts {attempts}"
    if (most := max((line["attempt"] for line in run.trace), default=1)) > FLAKY_ATTEMPTS:
        yield f"S9 an attempt number {most} began"
    if run.row["deliveries"] >= MOST_DELIVERIES:
        yield f"S9 delivered {run.row['deliveries']} times without progress"


def _cleanup(run: Recorded) -> Violations:
    """S28: the cleanup runs once, whatever the end; after a cancel nothing starts but what the cancelled code asks for."""
    asked = [index for index, entry in enumerate(run.entries) if entry["k"] == "call" and entry["a"].startswith("task:tidy:")]
    cancels = [index for index, entry in enumerate(run.entries) if entry["k"] == "cancel"]
    done = [entry for entry in run.of("done") if entry["c"] in {run.entries[index]["c"] for index in asked}]
    if len(asked) != (1 if run.of("began") else 0):
        yield f"S28 tidied up {len(asked)} times"
    elif len(done) != len(asked) and not (cancels and cancels[0] > asked[0]):  # as in asyncio, a cancel may meet the cleanup itself
        yield "S28 did not tidy up to the end"
    if len(cancels) > 1 or len([item for item in run.inbox if item["kind"] == "cancel"]) > 1:
        yield f"S28 S29 cancelled {len(cancels)} times"
    if cancels and (after := [entry["l"] for entry in run.entries[cancels[0] :] if entry["k"] == "call" and not _cleans_up(entry)]):
        yield f"S28 asked for after the cancel: {after}"


def _cleans_up(call: dict[str, Any]) -> bool:
    return call["a"].startswith(("task:tidy:", "task:undo:"))


def _result(run: Recorded) -> Violations:
    """S15: what completed has the result that the plan gives, and undid what failed, last first."""
    if run.status != "completed":
        return
    plan, output = json.loads(run.row["input"]), json.loads(run.row["output"])
    if not right(plan, output):
        yield f"S15 {plan} gave {output}"
    undos = [_first_argument(call) for call in run.calls().values() if call["a"].startswith("task:undo:")]
    if undos != undone(plan):
        yield f"S28 {plan} undid {undos}"


def _timers(run: Recorded) -> Violations:
    """S19 L20: nothing fires before it is due, by the database's clock, and nothing very late."""
    calls = run.calls()
    for entry in run.of("done"):
        call = calls[entry["c"]]
        if "due" in call and "i" not in entry and not call["a"].startswith("task:") and entry["at"] < call["due"]:
            yield f"S19 {call['l']} ended {(call['due'] - entry['at']) / 1e6:.3f} s before it was due"
    due: list[float] = []
    for entry in run.entries:
        if entry["k"] == "parked":
            due = [datetime.fromisoformat(wait["due_at"]).timestamp() for wait in entry["on"] if wait.get("due_at")]
        elif entry["k"] == "queued" and entry["by"] == "timer":
            early = min(due) - entry["at"] / 1e6
            if early > 0 or early < -LATE_SECONDS:
                yield f"S19 L20 woken by its timer {-early:.3f} s after it was due"


def _epochs(run: Recorded) -> Violations:
    """S6 S7: nothing begins in an epoch after something has begun in a later one."""
    begun = sorted((line["at"], line["epoch"], line["step"]) for line in run.trace if line["what"] == "begin" and line["epoch"] is not None)
    latest, since = 0, 0.0
    for at, epoch, step in begun:
        if epoch < latest:
            yield f"S6 {step} began in epoch {epoch}, {at - since:.3f} s after something had begun in epoch {latest}"
        elif epoch > latest:
            latest, since = epoch, at
    if latest > run.row["epoch"]:
        yield f"S8 something began in epoch {latest}, and the run is in epoch {run.row['epoch']}"


def _places(run: Recorded) -> Violations:
    """I45, and what a pinned pool promises: a run is carried out by its own tenant's workers, and by its own build's."""
    if strangers := {line["tenant"] for line in run.trace} - {run.namespace}:
        yield f"I45 it was carried out by {strangers}"
    builds = {line["build"] for line in run.trace} | ({run.row["build"]} if run.row["pool"] == PINNED else set())
    if len(builds) > 1:
        yield f"S11 it was carried out by the builds {builds}, pinned to {run.row['build']}"


def _first_argument(call: dict[str, Any]) -> int:
    return int(call["l"].partition("=")[2].rstrip(")"))


def of_errand(one: Errand, runs: dict[str, Recorded]) -> Violations:
    """What its callers were promised."""
    if len(one.ids) != 1:
        yield f"S2 {one.ref} was answered with {one.ids}"
        return
    run = runs.get(next(iter(one.ids)))
    if run is None or run.row["ref"] != one.ref:
        yield f"S1 {one.ref} {one.ids} is not there"
        return
    if run.namespace != one.namespace:
        yield f"I45 {one.namespace} was answered with {run}"
    for law in (_told_end, _events, _told_of_cancel, _rested):
        yield from judged(law.__name__[1:], run, law(one, run))


def _told_end(one: Errand, run: Recorded) -> Violations:
    if one.ending is None:
        yield "L40 nobody was told of an end"
    elif one.ending != run.status:
        yield f"S14 the caller was told that it {one.ending}"
    elif one.ending == "completed" and one.output != json.loads(run.row["output"]):
        yield f"S15 the caller was told {one.output}"
    elif one.ending == "cancelled" and one.cancelled_at is None:
        yield "S27 nobody had asked for that"


def _events(one: Errand, run: Recorded) -> Violations:
    """S24 S25: every acknowledged event is there once under the number that was answered; each name was delivered in order, from the first."""
    if ambiguous := {event: numbers for event, numbers in one.numbers.items() if len(numbers) != 1}:
        yield f"S24 events with several numbers: {ambiguous}"
    there = {(item["name"], json.loads(item["payload"])): item["seq"] for item in run.inbox if item["kind"] == "event"}
    if len(there) != sum(item["kind"] == "event" for item in run.inbox):
        yield "S24 an event is there twice"
    if lost := [event for event, numbers in one.numbers.items() if there.get(event) not in numbers]:
        yield f"S24 S25 events lost: {lost}"
    calls = run.calls()
    for colour in COLOURS:
        taken = [int(entry["v"]) for entry in run.of("done") if "i" in entry and calls[entry["c"]]["a"].startswith(f"event:{colour}:")]
        if taken != list(range(1, len(taken) + 1)):
            yield f"S24 {colour} was delivered as {taken}"


def _told_of_cancel(one: Errand, run: Recorded) -> Violations:
    """S28: no new step starts once it was acknowledged, as soon as the worker can know."""
    if one.cancelled_at is None:
        return
    if run.status == "cancelled" and run.of("began") and not run.of("cancel"):
        yield "S28 it was cancelled without its code being told"
    late = [
        line
        for line in run.trace
        if line["what"] == "begin" and line["step"] not in ("tidy", "undo") and line["at"] > one.cancelled_at + TOLD_SECONDS
    ]
    if late and run.of("cancel"):
        yield f"S28 began after the cancel: {[(line['step'], round(line['at'] - one.cancelled_at, 2)) for line in late]}"


def _rested(one: Errand, run: Recorded) -> Violations:
    """S30: while it is paused nothing begins, as soon as the worker can know; a cancel wins over a pause."""
    if one.paused_at is None or one.resumed_at is None or one.cancelled_at is not None or run.row["cancel_requested"]:
        return
    rest = one.paused_at + TOLD_SECONDS, one.resumed_at
    if late := [line["step"] for line in run.trace if line["what"] == "begin" and rest[0] < line["at"] < rest[1]]:
        yield f"S30 began while it was paused: {late}"


def of_families(runs: dict[str, Recorded], cancelled: set[str]) -> Violations:
    """S29: each child that a history names is there, and no other; it ended as its policy says, or `cancelled` by somebody else."""
    named = {entry["run"]: run for run in runs.values() for entry in run.of("call") if "run" in entry}
    for child in runs.values():
        if child.parent is None:
            continue
        parent = named.get(child.id)
        if parent is None or parent.id != child.parent:
            yield f"S29 its parent's history does not name it: {child}"
            continue
        if child.namespace != parent.namespace:
            yield f"I45 it is a child of {parent}: {child}"
        if child.status == "cancelled" and child.id not in cancelled:
            yield from judged("rightly_cancelled", child, _rightly_cancelled(parent, child))
        elif child.row["finished_at"] is None:
            yield f"S29 left open by its parent: {child}"
        yield from judged("told", child, _told(parent, child))
    yield from (f"S29 a child {child} was never made: {parent}" for child, parent in named.items() if child not in runs)


def _rightly_cancelled(parent: Recorded, child: Recorded) -> Violations:
    call = next(entry for entry in parent.of("call") if entry.get("run") == child.id)
    if child.row["on_parent_close"] == "abandon":
        yield f"S29 was to be left alone: {child}"
    if call["c"] in {entry["c"] for entry in parent.of("child_cancel_requested")}:
        return
    if parent.row["finished_at"] is None or child.row["finished_at"] < parent.row["finished_at"]:
        yield f"S29 cancelled before its parent ended, which had not given it up: {child}"


def _told(parent: Recorded, child: Recorded) -> Violations:
    """S24: a parent is told once how its child ended, unless it ended first; and of it what is true."""
    told = [item["status"] for item in parent.inbox if item["kind"] == "child" and item["child"].hex == child.id]
    if told not in ([], [child.status]):
        yield f"S24 its parent was told that it {told}"
    ended = child.row["finished_at"], parent.row["finished_at"]
    if not told and ended[0] is not None and (ended[1] is None or ended[0] < ended[1]):
        yield "S24 its parent, which went on, was not told of its end"


def violations(errands: list[Errand], runs: dict[str, Recorded]) -> list[str]:
    """Everything that is wrong with the runs of errands."""
    known = {run_id for one in errands for run_id in one.ids}
    runs = {id_: run for id_, run in runs.items() if run.row["workflow"] == errand.name}
    found = [violation for run in runs.values() for violation in of_run(run)]
    found += [violation for one in errands for violation in of_errand(one, runs)]
    refs = Counter((run.namespace, run.row["ref"]) for run in runs.values() if run.row["ref"] is not None)
    found += [f"S2 {count} runs of {namespace} have the ref {ref}" for (namespace, ref), count in refs.items() if count > 1]
    found += [f"S3 a run that nobody started: {run}" for run in runs.values() if run.parent is None and run.id not in known]
    return found + list(of_families(runs, {child for one in errands for child in one.cancelled_children}))
