"""The documents as text: a list of pages for programs, and one file with everything."""

from __future__ import annotations

from website.llms import Document, full, index

PAGES = [
    Document("Start", "Home", "https://a/index.html", "# Home\n\n```python\nimport this\n```\n\nIt **keeps** [runs](x.md).\nMore.\n"),
    Document("Start", "First", "https://a/first.html", "# First\n\n* a list\n"),
    Document("Learn", "Waiting", "https://a/waiting.html", "# Waiting\n\nA run may wait.\n"),
]


def test_list_has_sections_and_first_sentences() -> None:
    assert index("Aiki", "Durable.", PAGES) == (
        "# Aiki\n\n> Durable.\n\n## Start\n\n- [Home](https://a/index.html): It keeps runs.\n- [First](https://a/first.html): First\n"
        "\n## Learn\n\n- [Waiting](https://a/waiting.html): A run may wait.\n"
    )


def test_one_file_has_all_pages_with_their_addresses() -> None:
    text = full(PAGES)

    assert [text.index(page.text.strip()) for page in PAGES] == sorted(text.index(page.text.strip()) for page in PAGES)
    assert all(page.url in text for page in PAGES)
