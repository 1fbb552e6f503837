"""The hooks that mkdocs calls, in the order in which it calls them.

The documents are read in two places: in the repository, where a link may lead to any file, and as a site, which has docs/ only.
So the files of the root that are documents too become pages, and any other file that a page links to is copied to source/.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from jinja2 import Environment
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from website import commands, http, limits, llms, messages, resources, settings
from website.links import Links
from website.llms import Document

ROOT = Path(__file__).parents[1]
log = logging.getLogger("mkdocs.hooks.website")
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
FETCHED = re.compile(r'<(?:script|img|iframe|link rel="(?:stylesheet|icon|preconnect)")[^>]*(?:src|href)="(https?://[^"]+)"')
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


def on_env(env: Environment, *, config: MkDocsConfig, files: Files) -> Environment:
    """Write all pages as text too, now that each is complete."""
    documents = [document for item in config.nav or [] for document in _documents(item, "Start", config=config, files=files)]
    files.append(File.generated(config, "llms.txt", content=llms.index(config.site_name, config.site_description or "", documents)))
    files.append(File.generated(config, "llms-full.txt", content=llms.full(documents)))
    return env


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001  mkdocs passes it
    """Warn, and so fail a strict build, if the page would fetch something from elsewhere: it has to work without a network."""
    for fetched in FETCHED.findall(output):
        log.warning("%s fetches %s: put it into docs/assets", page.file.src_uri, fetched)
    return output


def _documents(item: object, section: str, *, config: MkDocsConfig, files: Files) -> Iterator[Document]:
    """The pages of a part of the navigation, in its order."""
    match item:
        case dict():
            for title, inner in item.items():
                yield from _documents(inner, str(title) if isinstance(inner, list) else section, config=config, files=files)
        case list():
            for inner in item:
                yield from _documents(inner, section, config=config, files=files)
        case str() if (file := files.get_file_from_path(item)) is not None and file.page is not None:
            page = file.page
            yield Document(section, str(page.title), f"{config.site_url}{page.url}", page.markdown or "")


def _filled(nav: object, place: str, pages: list[str]) -> object:
    """The navigation with a list of pages where it names a folder."""
    if isinstance(nav, list):
        return [_filled(item, place, pages) for item in nav]
    if isinstance(nav, dict):
        return {title: _filled(item, place, pages) for title, item in nav.items()}
    return pages if nav == place else nav
