"""The three packages say on PyPI what they are: with links that work from anywhere, and code that README has."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml

from aiki.protocol import DOCUMENTS_URL
from docs.conftest import ROOT

PACKAGES = ("sdk", "server", "operator")


def texts() -> dict[str, str]:
    named = [ROOT / package / file for package in PACKAGES for file in ("README.md", "pyproject.toml")]
    return {str(path.relative_to(ROOT)): path.read_text() for path in named}


@pytest.mark.parametrize("package", PACKAGES)
def test_page_of_a_package_has_absolute_links_only(package: str) -> None:
    assert re.findall(r"\]\((?!https://)", texts()[f"{package}/README.md"]) == []


@pytest.mark.parametrize("file", texts(), ids=str)
def test_links_to_the_documents_lead_to_pages(file: str) -> None:
    linked = set(re.findall(rf"{DOCUMENTS_URL}/([\w/-]+)\.html", texts()[file]))

    assert [page for page in linked if not any((folder / f"{page}.md").exists() for folder in (ROOT / "docs", ROOT))] == []


def test_code_of_the_package_is_that_of_readme() -> None:
    (code,) = re.findall(r"^```python\n.*?^```", texts()["sdk/README.md"], re.DOTALL | re.MULTILINE)

    assert code in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("package", PACKAGES)
def test_package_says_where_its_documents_are(package: str) -> None:
    project = tomllib.loads(texts()[f"{package}/pyproject.toml"])["project"]

    assert project["urls"]["Documentation"] == f"{DOCUMENTS_URL}/"


def test_site_is_where_the_errors_link_to() -> None:
    text = (ROOT / "mkdocs.yml").read_text()

    assert yaml.safe_load(text.partition("\nnav:")[0])["site_url"] == f"{DOCUMENTS_URL}/"
