"""The picture of `aiki show` in README and on the site: `python -m website.picture RUN` writes docs/assets/show.svg, from the server of AIKI_URL.

It is made by hand when the look of the timeline changes, of a run of the example; it is what a terminal of 92 columns shows.
"""

from __future__ import annotations

import asyncio
import io
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from aiki import Client
from aiki.cli.output.render import run_view
from aiki.cli.output.timeline import fold
from aiki.cli.session import find_run

COLUMNS = 92
FILE = Path(__file__).parents[1] / "docs/assets/show.svg"


async def drawn(name: str) -> str:
    """The picture of a run, without the fonts that Rich would have fetched from elsewhere."""
    async with Client() as client:
        handle = await find_run(client, name)
        run, history = await handle.refresh(), await handle.history()
    view = run_view(run, fold(history.entries, created_at=run.created_at), history.undelivered, now=datetime.now(UTC), width=COLUMNS)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(view)
    svg = console.export_svg(title=f"$ aiki show {name}", unique_id="aiki-show")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code", "ui-monospace, DejaVu Sans Mono")


if __name__ == "__main__":
    FILE.write_text(asyncio.run(drawn(sys.argv[1])))
