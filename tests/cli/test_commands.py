"""The command line against a real server and worker: what it prints, and the exit codes that scripts use."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import aiki as aiki_package
from aiki.cli.app import build
from aiki.client.transport import Reply, Transport
from support.server import ServerProcess
from support.waiting import wait_until

Aiki = Callable[..., Result]


@pytest.fixture
def aiki(server: ServerProcess) -> Aiki:
    """Run `aiki …` against the server; in this process, since starting Python forty times takes longer than all the rest."""

    def run(*arguments: str, input: str | bytes | None = None, url: str = server.url) -> Result:
        return CliRunner().invoke(build(), arguments, input=input, env={"AIKI_URL": url, "COLUMNS": "120"}, catch_exceptions=False)

    return run


@pytest.fixture(scope="module")
def worker(server: ServerProcess) -> Iterator[None]:
    """A worker for flows.py."""
    command = [sys.executable, "-m", "aiki.cli", "worker", "flows", "--url", server.url]
    with subprocess.Popen(command, cwd=Path(__file__).parent, stderr=subprocess.DEVNULL) as process:
        yield
        process.send_signal(signal.SIGTERM)


def waiting(aiki: Aiki, ref: str) -> Callable[[], bool]:
    return lambda: status(aiki, ref) == "waiting"


def status(aiki: Aiki, ref: str) -> str:
    return str(json.loads(aiki("show", f"ref:{ref}", "--json").stdout)["run"]["status"])


def error(answer: Result) -> dict[str, Any]:
    return dict(json.loads(answer.stderr))


@pytest.mark.usefixtures("worker")
def test_run_is_started_shown_sent_to_and_waited_for(aiki: Aiki, unique: str) -> None:
    started = aiki("start", "greeting", "--input", '"Ann"', "--ref", unique)
    wait_until(waiting(aiki, unique), "the run to wait for its event", seconds=20)
    sent = aiki("send", f"ref:{unique}", "go", "-", input='"welcome"')
    ended = aiki("start", "greeting", "--input", '"Ann"', "--ref", unique, "--wait")
    shown = aiki("show", started.stdout.strip()).stdout

    assert [answer.exit_code for answer in (started, sent, ended)] == [0, 0, 0]
    assert json.loads(ended.stdout) == "Hello Ann, welcome"
    assert "greet(" in shown
    assert "replayed greet" in shown
    assert "completed" in shown


@pytest.mark.usefixtures("worker")
def test_run_that_fails_exits_with_1_and_says_why(aiki: Aiki) -> None:
    ended = aiki("start", "failing", "--wait")

    assert ended.exit_code == 1
    assert "out of paper" in ended.stderr
    assert aiki("start", "failing", "--wait", "--json").exit_code == 1


@pytest.mark.usefixtures("worker")
def test_watch_prints_each_entry_once_and_ends_with_the_run(aiki: Aiki, unique: str) -> None:
    aiki("start", "greeting", "--input", '"Bob"', "--ref", unique)
    aiki("send", f"ref:{unique}", "go", '"bye"')
    watched = aiki("show", f"ref:{unique}", "--watch", "--json")

    *entries, run = [json.loads(line) for line in watched.stdout.splitlines()]
    assert watched.exit_code == 0
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))
    assert run["output"] == "Hello Bob, bye"


@pytest.mark.usefixtures("worker")
def test_wait_that_runs_out_of_time_exits_with_8(aiki: Aiki, unique: str) -> None:
    ended = aiki("start", "greeting", "--input", '"Cid"', "--ref", unique, "--wait", "--timeout", "0.2")

    assert ended.exit_code == 8
    assert "it goes on" in ended.stderr


def test_run_is_paused_resumed_cancelled_and_listed(aiki: Aiki, unique: str) -> None:
    aiki("start", unique, "--ref", unique)

    statuses = [json.loads(aiki(verb, f"ref:{unique}", "--json").stdout)["status"] for verb in ("pause", "resume", "cancel")]

    assert statuses == ["paused", "queued", "cancelled"]
    listed = json.loads(aiki("runs", "--workflow", unique, "--status", "cancelled", "--json").stdout)["runs"]
    assert [run["ref"] for run in listed] == [unique]


def test_workflow_that_nobody_registered_is_accepted_and_said_so(aiki: Aiki, unique: str) -> None:
    started = aiki("start", unique)

    assert started.exit_code == 0
    assert "No worker" in started.stderr


def test_what_the_server_refuses_has_an_exit_code_of_its_own(aiki: Aiki, unique: str) -> None:
    aiki("start", unique, "--ref", unique)
    aiki("cancel", f"ref:{unique}")

    assert aiki("send", f"ref:{unique}", "go").exit_code == 5
    assert aiki("start", unique, "--ref", unique, "--new").exit_code == 5
    assert aiki("show", "ref:nobody").exit_code == 3
    assert aiki("show", "0" * 32).exit_code == 3
    assert aiki("start", "no such name").exit_code == 7


def test_errors_are_json_where_json_is_asked_for(aiki: Aiki) -> None:
    assert error(aiki("show", "ref:nobody", "--json"))["code"] == 3
    assert error(aiki("start", "x", "--input", "{", "--json", url="http://127.0.0.1:9"))["code"] == 2


def test_payload_that_is_too_deep_is_refused_before_it_is_sent(aiki: Aiki) -> None:
    answer = aiki("start", "x", "--input", "[" * 100 + "]" * 100)

    assert answer.exit_code == 7
    assert "Traceback" not in answer.stderr


def test_server_that_is_not_there_exits_with_4_and_says_what_to_do(aiki: Aiki) -> None:
    answer = aiki("runs", url="http://127.0.0.1:9")

    assert answer.exit_code == 4
    assert "aiki dev" in answer.stderr


def test_url_that_is_none_is_usage(aiki: Aiki) -> None:
    for url in ("localhost:8080", "http://localhost:99999", "http://localhost:http", "http://[::1"):
        assert aiki("runs", url=url).exit_code == 2, url


def test_server_without_tokens_refuses_to_start() -> None:
    answer = subprocess.run([sys.executable, "-m", "aiki.cli", "server"], capture_output=True, text=True, check=False)

    assert answer.returncode == 2
    assert "AIKI_TOKENS" in answer.stderr


def test_version_is_printed(aiki: Aiki) -> None:
    assert aiki("--version").stdout.startswith("aiki 0.")


def test_missing_extra_is_named() -> None:
    hidden = "import sys; sys.modules['typer'] = None; import aiki.cli; aiki.cli.find_spec = lambda name: None; aiki.cli.main()"
    answer = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, check=False)

    assert answer.returncode == 9
    assert "pip install 'aiki[cli]'" in answer.stderr


def test_core_imports_neither_typer_nor_rich() -> None:
    program = "import sys, aiki, aiki.client, aiki.worker; sys.exit(bool({'typer', 'rich', 'watchfiles'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_runs_are_found_by_several_states_and_by_what_they_are(aiki: Aiki, unique: str) -> None:
    for state in ("paused", "cancelled", "queued"):
        aiki("start", unique, "--ref", f"{unique}-{state}", "--version", "1.0", "--pool", f"{unique}-pool")
    aiki("pause", f"ref:{unique}-paused")
    aiki("cancel", f"ref:{unique}-cancelled")

    def found(*options: str) -> set[str]:
        page = json.loads(aiki("runs", "--workflow", unique, *options, "--json").stdout)
        return {run["ref"].removeprefix(f"{unique}-") for run in page["runs"]}

    assert found("--status", "paused", "-s", "cancelled") == {"paused", "cancelled"}
    assert found("--pool", f"{unique}-pool", "--version", "1.0") == {"paused", "cancelled", "queued"}
    assert found("--pool", "default") == found("--version", "1.1") == found("--ref", "nobody") == set()
    assert found("--ref", f"{unique}-queued") == {"queued"}
    assert found("--parent", f"ref:{unique}-queued") == set()
    listed = aiki("runs", "--workflow", unique, "--limit", "2")
    cursor = listed.stderr.split()[-1]
    assert f"{unique}-pool" in listed.stdout
    assert found("--cursor", cursor) == {"paused"}


def test_nothing_is_cut_in_a_pipe(aiki: Aiki, unique: str) -> None:
    ref = f"{unique}-{'r' * 200}"
    aiki("start", unique, "--ref", ref)

    assert ref in aiki("runs", "--workflow", unique).stdout
    assert ref in aiki("show", f"ref:{ref}").stdout


NO_TEXT = ['{"name": "Zo\xeb"}'.encode("latin-1"), '"Zoë"'.encode("utf-16"), b"\xff", b'"\xed\xa0\x80"']


WAYS = [(data, way) for data in NO_TEXT for way in ("-", "@", "argument", "event") if way != "argument" or b"\0" not in data]


@pytest.mark.parametrize(("data", "way"), WAYS)
def test_input_that_is_no_utf8_is_refused(aiki: Aiki, unique: str, tmp_path: Path, data: bytes, way: str) -> None:
    if way == "event":
        answer = aiki("send", "0" * 32, "go", "-", input=data)
    else:
        (tmp_path / "input").write_bytes(data)
        given = {"-": "-", "@": f"@{tmp_path / 'input'}", "argument": data.decode("utf-8", "surrogateescape")}[way]
        answer = aiki("start", unique, "--input", given, input=data)

    assert answer.exit_code == 2
    assert "is not UTF-8" in answer.stderr


@pytest.mark.parametrize("way", ["-", "@"])
def test_byte_order_mark_is_no_part_of_the_input(aiki: Aiki, unique: str, tmp_path: Path, way: str) -> None:
    data = '\ufeff{"name": "Zoë"}'.encode()
    (tmp_path / "input").write_bytes(data)
    started = aiki("start", unique, "--input", "-" if way == "-" else f"@{tmp_path / 'input'}", input=data)

    assert started.exit_code == 0
    assert json.loads(aiki("show", started.stdout.strip(), "--json").stdout)["run"]["input"] == {"name": "Zoë"}


def test_input_that_cannot_be_read_is_usage(aiki: Aiki, unique: str) -> None:
    for given in ("[" * 100_000, "@/nowhere", "@a\0b", "{"):
        answer = aiki("start", unique, "--input", given)
        assert (answer.exit_code, "Traceback" in answer.stderr) == (2, False)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_argument_that_is_no_utf8_is_usage(server: ServerProcess, locale: str) -> None:
    command: list[str | bytes] = [sys.executable, "-m", "aiki.cli", "show", b"ref:\xff"]
    environment = {**os.environ, "AIKI_URL": server.url, "LC_ALL": locale}
    answer = subprocess.run(command, env=environment, capture_output=True, check=False)

    assert answer.returncode == 2
    assert b"is not UTF-8" in answer.stderr


@pytest.mark.usefixtures("worker")
def test_output_is_printed_as_it_reads(aiki: Aiki, unique: str) -> None:
    aiki("start", "greeting", "--input", '"Zoë"', "--ref", unique)
    aiki("send", f"ref:{unique}", "go", '"日本"')

    assert aiki("start", "greeting", "--input", '"Zoë"', "--ref", unique, "--wait").stdout == '"Hello Zoë, 日本"\n'
    assert '"Hello Zoë, 日本"' in aiki("show", f"ref:{unique}", "--json").stdout


INTERRUPT = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from aiki_command import main
place, sys.argv[1:] = sys.argv[1], ["runs"]
main()
"""


@pytest.mark.parametrize("place", ["aiki", "aiki.protocol", "aiohttp", "typer", "aiki.cli.app", "rich.live"])
def test_interrupt_while_the_command_is_loaded_shows_no_traceback(place: str) -> None:
    program = INTERRUPT.replace("sys.argv[1]:", f"{place!r}:").replace("place, sys.argv[1:] = sys.argv[1], ", "sys.argv[1:] = ")
    # coverage imports what it measures before the program begins.
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=unmeasured)

    assert (answer.returncode, answer.stderr) == (130, "")


def test_nothing_else_is_loaded_before_the_command_answers_an_interrupt() -> None:
    sources = Path(aiki_package.__file__).parents[1]
    program = "import sys; before = set(sys.modules); import aiki_command; print(*set(sys.modules) - before)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=sources, env={})
    assert answer.stdout.split() == ["aiki_command"]


@pytest.mark.parametrize("path", ["/api/v1/runs/", "/readyz/", "/api/v1/workers/", f"/api/v1/runs/{'0' * 32}/result/", "/api/v1/runs//"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_path_with_a_slash_more_is_not_found(server: ServerProcess, path: str, method: str) -> None:
    request = urllib.request.Request(server.url + path, method=method, data=b"{}" if method == "POST" else None)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    with refused.value as answer:
        assert (answer.code, answer.headers["Content-Type"]) == (404, "application/problem+json")
        assert json.load(answer)["status"] == 404


def test_answer_of_something_else_is_said_to_be_no_answer(aiki: Aiki, monkeypatch: pytest.MonkeyPatch) -> None:
    async def page(*_: Any, **__: Any) -> Reply:
        return Reply(200, b"<html>log in</html>")

    monkeypatch.setattr(Transport, "send", page)
    answer = aiki("runs")

    assert answer.exit_code == 7
    assert "is this the URL of an Aiki server" in answer.stderr
