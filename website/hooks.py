"""The hooks that mkdocs calls, in the order in which it calls them.

The documents are read in two places: in the repository, where a link may lead to any file, and as a site, which has docs/ only.
So the files of the root that are documents too become pages, and any other file that a page links to is copied to source/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from website import commands, http, limits, messages, resources, settings
from website.links import Links

ROOT = Path(__file__).parents[1]
MADE: Mapping[str, Callable[..., str]] = {
    "aikiservers": lambda: resources.made("aikiservers"),
    "aikiworkerpools": lambda: resources.made("aikiworkerpools"),
    "commands": commands.made,
    "http": http.made,
    "limits": limits.made,
    "messages": messages.made,
    "settings": settings.made,
}
"""What stands in the place of `<!-- made: NAME -->`: it is made at each build, so it cannot be out of date."""
MARK = re.compile(r"^<!-- made: (\w+)(?: ([\w-]+))? -->$", re.MULTILINE)
ROOT_PAGES = ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the decisions into the navigation: each new one is a file and no more."""
    decisions = sorted(path.name for path in (ROOT / "docs/decisions").glob("0*.md"))
    pages = ["decisions/README.md", *(f"decisions/{name}" for name in decisions)]
    config.nav = _filled(config.nav, "decisions/", pages)
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the documents of the root."""
    for name in ROOT_PAGES:
        files.append(File.generated(config, name, content=(ROOT / name).read_text()))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put in what is made from the code, and lead the links that leave docs/ to what the site has of them."""
    uri = page.file.src_uri
    links = Links(ROOT, uri if uri in ROOT_PAGES else f"docs/{uri}", ROOT_PAGES)
    text = links.inside(MARK.sub(lambda mark: MADE[mark[1]](*filter(None, mark.groups()[1:])), markdown))
    for path in links.sources:
        if files.get_file_from_path(f"source/{path}.txt") is None:
            files.append(File.generated(config, f"source/{path}.txt", content=(ROOT / path).read_text()))
    return text


def _filled(nav: object, place: str, pages: list[str]) -> object:
    """The navigation with a list of pages where it names a folder."""
    if isinstance(nav, list):
        return [_filled(item, place, pages) for item in nav]
    if isinstance(nav, dict):
        return {title: _filled(item, place, pages) for title, item in nav.items()}
    return pages if nav == place else nav
