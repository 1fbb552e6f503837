"""The workflows, the issue forms and the pre-commit hook name steps, targets and files that exist; nobody runs them here."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
PINNED = re.compile(r"^[\w.-]+/[\w./-]+@(v\d+|release/v\d+|[0-9a-f]{40})$")
by_name = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def jobs(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())["jobs"]
    return found


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(path).values() for step in job["steps"]]


def combinations(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The members of a job's matrix, those that are included besides among them."""
    matrix = job.get("strategy", {}).get("matrix", {})
    return [*({name: value} for name, values in matrix.items() if name != "include" for value in values), *matrix.get("include", [])]


def ci_steps() -> list[str]:
    found = re.search(r"^STEPS=\((.+)\)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert found is not None
    return found[1].split()


@by_name
def test_a_workflow_is_one(path: Path) -> None:
    whole = yaml.safe_load(path.read_text())

    assert whole["name"]
    assert whole[True], "YAML reads `on` as true"
    assert whole["permissions"] == {"contents": "read"}, "a job that needs more says so itself"
    for job in whole["jobs"].values():
        assert job["runs-on"]
        needed = job.get("needs", [])
        assert set([needed] if isinstance(needed, str) else needed) <= whole["jobs"].keys()
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])


@by_name
def test_actions_are_pinned(path: Path) -> None:
    assert [step["uses"] for step in steps(path) if "uses" in step and not PINNED.match(step["uses"])] == []


@by_name
def test_what_a_workflow_types_exists(path: Path) -> None:
    typed = "\n".join(step["run"] for step in steps(path) if "run" in step)
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    scripts = set(re.findall(r"(\.ci/\w+)", typed))

    assert set(re.findall(r"\bmake ([a-z0-9-]+)", typed)) <= targets
    assert [script for script in scripts if not (ROOT / script).stat().st_mode & 0o100] == []


def test_ci_runs_every_step_and_no_other() -> None:
    found = jobs(ROOT / ".github/workflows/ci.yml")
    in_matrix = {one["step"] for one in combinations(found["step"]) if "step" in one}
    typed = {word for job in found.values() for step in job["steps"] for word in re.findall(r"\.ci/run (\w+)$", step.get("run", ""))}

    assert in_matrix | typed == set(ci_steps())


def test_a_step_that_does_not_exist_is_refused_with_those_that_do() -> None:
    done = subprocess.run([".ci/run", "nothing"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert " ".join(ci_steps()) in done.stderr


def test_every_image_is_released_for_two_architectures() -> None:
    job = jobs(ROOT / ".github/workflows/release.yml")["images"]
    (build,) = (step["with"] for step in job["steps"] if step.get("uses", "").startswith("docker/build-push-action@"))
    images = combinations(job)
    stages = {
        (path.name, name)
        for path in ROOT.glob("Dockerfile.*")
        for name in re.findall(r"^FROM \S+ AS (\S+)$", path.read_text(), re.MULTILINE)
    }

    assert build["platforms"] == "linux/amd64,linux/arm64"
    assert {one["file"] for one in images} == {path.name for path in ROOT.glob("Dockerfile.*")}
    assert [one for one in images if one["target"] and (one["file"], one["target"]) not in stages] == []
    assert [one for one in images if not (ROOT / one["context"]).is_dir()] == []


@pytest.mark.parametrize(("tag", "code"), [("v{}", 0), ("{}", 1), ("v{}.1", 1)])
def test_a_tag_is_the_version_of_everything(tag: str, code: int) -> None:
    version = yaml.safe_load((ROOT / "charts/aiki/Chart.yaml").read_text())["version"]

    done = subprocess.run([".ci/version", tag.format(version)], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == code, done.stderr


def test_a_commit_runs_what_make_check_runs() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (hook,) = repository["hooks"]

    assert (repository["repo"], hook["entry"], hook["language"]) == ("local", "make check", "system")
    assert (hook["pass_filenames"], hook["always_run"]) == (False, True)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_an_issue_form_asks_for_something(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    fields = [field for field in form["body"] if field["type"] != "markdown"]

    assert form["name"]
    assert form["description"]
    assert {field["type"] for field in form["body"]} <= {"markdown", "textarea", "input", "dropdown", "checkboxes"}
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)
    assert any(field.get("validations", {}).get("required") for field in fields)
