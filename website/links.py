"""Links from a document to other files of the repository, as the site has them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection
from pathlib import Path

LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
FENCE = re.compile(r"^( *)(```+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)


class Links:
    """The links of one document. A hook makes one for each page; `sources` are the files that the page needs beside it."""

    def __init__(self, root: Path, document: str, root_pages: Collection[str]) -> None:
        self._root = root
        self._document = document
        self._root_pages = root_pages
        self.sources: list[str] = []

    def inside(self, markdown: str) -> str:
        """The text with links that stay inside of the site; code is left as it is."""
        parts: list[str] = []
        end = 0
        for fence in FENCE.finditer(markdown):
            parts += [LINK.sub(self._led, markdown[end : fence.start()]), fence[0]]
            end = fence.end()
        return "".join([*parts, LINK.sub(self._led, markdown[end:])])

    def _led(self, link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(self._document), link[1]))
        return posixpath.relpath(self._uri(target), self._folder) + (link[2] or "")

    @property
    def _folder(self) -> str:
        return posixpath.dirname(self._document.removeprefix("docs/")) or "."

    def _uri(self, target: str) -> str:
        if target in self._root_pages:
            return target
        if target.startswith("docs/"):
            return target.removeprefix("docs/") + ("/README.md" if (self._root / target).is_dir() else "")
        if (self._root / target).is_file():
            self.sources.append(target)
            return f"source/{target}.txt"
        return target
