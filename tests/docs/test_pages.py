"""What the pages for platform engineers say is what the chart, the operator and the benchmarks say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiki_operator.spec.server import ManagedDatabase, parse_server
from support.operator.objects import server_body

ROOT = Path(__file__).parents[2]
CHART = yaml.safe_load((ROOT / "charts/aiki/Chart.yaml").read_text())


def page(name: str) -> str:
    return (ROOT / "docs/operate" / f"{name}.md").read_text()


def test_every_image_that_an_installation_pulls_is_listed() -> None:
    spec = parse_server(server_body(), default_image=f"aiki-server:{CHART['appVersion']}")
    assert isinstance(spec.database, ManagedDatabase)
    assert isinstance(spec.redis, ManagedDatabase)
    templates = "".join(path.read_text() for path in (ROOT / "charts/aiki/templates").iterdir())
    ours = {f"aiki-{name}:{CHART['appVersion']}" for name in re.findall(r'"aiki.image" \(dict "root" \. "name" "(\w+)"\)', templates)}
    bases = {
        line.split()[1]
        for path in ("Dockerfile.server", "Dockerfile.worker", "Dockerfile.postgres")
        for line in (ROOT / path).read_text().splitlines()
        if line.startswith("FROM") and ":" in line.split()[1]
    }
    listed = set(re.findall(r"^\| `([^`]+)` \|", page("air-gapped"), re.MULTILINE))
    assert {spec.image, spec.database.image, spec.redis.image, *ours, *bases} <= listed


@pytest.mark.parametrize("part", ["server", "worker", "postgres", "redis"])
def test_costs_of_a_run_are_those_of_the_benchmark(part: str) -> None:
    text = page("sizing")
    (file,) = set(re.findall(r"benchmarks/results/[\d-]+\.json", text))
    results = json.loads((ROOT / file).read_text())["results"]
    figures = [str(results[name][f"cpu_ms_{part}"]) for name in ("w1_batch", "w1_single")]
    assert re.search(rf"^\| {part}[^|]*\| {figures[0]} \| {figures[1]} \|$", text, re.MULTILINE | re.IGNORECASE)


@pytest.mark.parametrize("name", ["gitops", "air-gapped", "kubernetes"])
def test_manifests_have_fields_that_exist(name: str) -> None:
    """Of our own kinds, and values of the chart."""
    values = json.loads((ROOT / "charts/aiki/values.schema.json").read_text())
    for block in re.findall(r"^```yaml\n(.*?)^```", page(name), re.DOTALL | re.MULTILINE):
        for body in yaml.safe_load_all(block):
            if isinstance(body, dict) and "images" in body:
                assert unknown(body, values) == []
            if isinstance(body, dict) and body.get("kind") == "HelmRelease":
                assert unknown(body["spec"]["values"], values) == []
            if isinstance(body, dict) and {"service", "ingress", "gateway"} & body.keys():
                assert unknown(body, values["properties"]["server"]["properties"]["spec"]) == []


KINDS = {"AikiServer": "aikiservers", "AikiWorkerPool": "aikiworkerpools"}
MANIFESTS = [
    (str(path.relative_to(ROOT)), body)
    for path in sorted(ROOT.glob("docs/**/*.md"))
    for block in re.findall(r"^```yaml\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
    for body in yaml.safe_load_all(block)
    if isinstance(body, dict) and body.get("kind") in KINDS
]


@pytest.mark.parametrize(("page", "body"), MANIFESTS, ids=[f"{page}-{number}" for number, (page, _) in enumerate(MANIFESTS)])
def test_custom_resources_on_pages_have_fields_that_exist(page: str, body: dict[str, Any]) -> None:
    (version,) = yaml.safe_load((ROOT / f"crds/{KINDS[body['kind']]}.yaml").read_text())["spec"]["versions"]

    assert unknown(body.get("spec", {}), version["schema"]["openAPIV3Schema"]["properties"]["spec"]) == [], page


def unknown(value: Any, schema: dict[str, Any], path: str = "") -> list[str]:
    """Members that a schema does not have."""
    if isinstance(value, list):
        return [found for one in value for found in unknown(one, schema.get("items", {}), f"{path}[]")]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    missing = [f"{path}.{name}" for name in value if name not in schema["properties"]]
    return missing + [
        found
        for name, one in value.items()
        if name in schema["properties"]
        for found in unknown(one, schema["properties"][name], f"{path}.{name}")
    ]


def test_figures_of_readme_are_those_of_the_benchmark() -> None:
    text = (ROOT / "README.md").read_text()
    (file,) = set(re.findall(r"benchmarks/results/[\d-]+\.json", text))
    document = json.loads((ROOT / file).read_text())
    batch, single, one = (document["results"][name] for name in ("w1_batch", "w1_single", "w2_one"))

    assert f"| runs a second | {batch['runs_per_s']:.0f} | {single['runs_per_s']:.0f} |" in text
    assert f"| CPU milliseconds a run | {batch['cpu_ms_per_run']} | {single['cpu_ms_per_run']} |" in text
    assert f"{one['p50_ms']:.1f} ms" in text
    assert document["at"][:10] in text
    assert f"Python {document['machine']['python']}" in text
