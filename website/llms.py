"""`llms.txt` and `llms-full.txt`: the documents for programs that read text. The first lists the pages, the second holds them all in one file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from website.links import FENCE


@dataclass(frozen=True, slots=True)
class Document:
    """One page of the site."""

    section: str
    title: str
    url: str
    text: str

    @property
    def gist(self) -> str:
        """The first sentence of the page; the documents have one sentence a line."""
        for line in FENCE.sub("", self.text).splitlines():
            if re.match(r"[A-Z`\[*]", line) and not line.startswith(("* ", "- ")):
                return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", line).replace("**", "")
        return self.title


def index(name: str, said: str, documents: Sequence[Document]) -> str:
    """The list of all pages, by section, each with its first sentence."""
    lines = [f"# {name}", "", f"> {said}"]
    section = ""
    for document in documents:
        if document.section != section:
            section = document.section
            lines += ["", f"## {section}", ""]
        lines += [f"- [{document.title}]({document.url}): {document.gist}"]
    return "\n".join(lines) + "\n"


def full(documents: Sequence[Document]) -> str:
    """All pages, one after another, each behind the address at which it is read."""
    return "\n\n".join(f"<!-- {document.url} -->\n\n{document.text.strip()}" for document in documents) + "\n"
