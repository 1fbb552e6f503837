"""The pages that are made from the code name everything that the code has."""

from __future__ import annotations

import re

import pytest
from website import commands, http, messages, resources, settings

import aiki
import aiki.testing
from aiki.cli.app import PANELS
from aiki.errors import RUN_ERRORS
from aiki_server.api.http.errors import KINDS, TITLES
from docs.conftest import ROOT

SOURCES = [
    *(path for folder in ("sdk/aiki", "server/aiki_server", "operator/aiki_operator") for path in (ROOT / folder).rglob("*.py")),
    *ROOT.glob("Dockerfile.*"),
    *(ROOT / "charts/aiki/templates").iterdir(),
]


def test_every_variable_is_on_the_page_of_settings_and_no_other() -> None:
    read = {name for path in SOURCES for name in re.findall(r"\bAIKI_[A-Z]+(?:_[A-Z]+)*\b", path.read_text())}

    assert {setting.name for _, _, group in settings.GROUPS for setting in group} == read


def test_every_command_has_a_section() -> None:
    page = commands.made()

    assert all(f"## `aiki {command.__name__}`" in page for panel in PANELS.values() for command in panel)


def test_every_route_and_body_has_a_section() -> None:
    page = http.made()

    assert "### `POST /api/v1/runs`" in page
    assert set(re.findall(r"\]\(#(\w+)\)", page)) <= set(re.findall(r"\{ #(\w+) \}", page))


@pytest.mark.parametrize("kind", ["aikiservers", "aikiworkerpools"])
def test_no_field_of_a_resource_lacks_a_meaning(kind: str) -> None:
    rows = [line for line in resources.made(kind).splitlines() if line.startswith("| <code>")]

    assert len(rows) > 20
    assert [row for row in rows if "</code> |  *(" in row] == []


def test_every_public_name_is_on_the_page_of_the_python_api() -> None:
    page = (ROOT / "docs/reference/python.md").read_text()
    public = {f"aiki.{name}" for name in aiki.__all__} | {f"aiki.testing.{name}" for name in aiki.testing.__all__}

    assert public <= set(re.findall(r"^::: ([\w.]+)$", page, re.MULTILINE))


def test_every_public_noun_is_in_the_glossary() -> None:
    page = (ROOT / "docs/learn/glossary.md").read_text()
    nouns = {name for name in aiki.__all__ if isinstance(getattr(aiki, name), type) and not issubclass(getattr(aiki, name), Exception)}

    assert [name for name in sorted(nouns) if f"`{name}`" not in page] == []


def test_every_error_has_a_section_in_troubleshooting() -> None:
    page = (ROOT / "docs/operate/troubleshooting.md").read_text()
    sections = re.findall(r"^<!-- made: messages ([\w-]+) -->$", page, re.MULTILINE)
    listed = set(sections)
    headings = {heading.lower() for heading in re.findall(r"^#+ (?:.*\{ #)?([\w-]+)(?: \})?$", page, re.MULTILINE)}
    raised = {name for name in aiki.__all__ if isinstance(getattr(aiki, name), type) and issubclass(getattr(aiki, name), Exception)}

    assert len(sections) == len(listed), "two sections of one error"
    assert listed == set(messages.found())
    assert {name.lower() for name in {*raised, *listed}} <= headings


def test_texts_of_errors_have_anchors_of_their_own() -> None:
    anchors = [messages.anchor(kind, text) for kind, texts in messages.found().items() for text in texts]

    assert sorted(anchors) == sorted(set(anchors))


def test_links_of_errors_lead_to_sections() -> None:
    page = (ROOT / "docs/operate/troubleshooting.md").read_text()
    headings = set(re.findall(r"^#+ ([\w-]+)$", page, re.MULTILINE))

    assert headings >= RUN_ERRORS
    assert headings >= {*(kind for kind, _ in TITLES.values()), *KINDS, "ref-taken", "unknown-worker"}
