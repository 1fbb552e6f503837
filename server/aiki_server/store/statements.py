"""The SQL of the server: named statements in `sql/*.sql`, read once.

`SQL["claims.claim"]` is the statement `claim` of `sql/claims.sql`. In a file every statement begins with `-- name: NAME` and a
line that says its purpose. What several statements of a file share stands once, behind `-- part: NAME`, and each has it where it says
`-- with: NAME`. Everything that runs SQL is in this package, one typed function per name.

`{run_columns}` stands for the columns of a run that a decision is made on, in the order in which `Row` has them: so a column is written there and
in the schema, and no statement can have them in another order. `python -m aiki_server.store.statements claims.claim` prints a statement as Postgres gets it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from aiki_server.model.rows import Row

_SECTION = re.compile(r"^-- (name|part): (\w+)\n", re.MULTILINE)
_WITH = re.compile(r"^-- with: (\w+)$", re.MULTILINE)


def read(folder: Path) -> Mapping[str, str]:
    """Every statement below `folder`, by `file.name`."""
    return MappingProxyType({f"{path.stem}.{name}": text for path in sorted(folder.glob("*.sql")) for name, text in _split(path)})


def _split(path: Path) -> list[tuple[str, str]]:
    found = _SECTION.split(path.read_text())[1:]
    sections = list(zip(found[::3], found[1::3], (text.strip().removesuffix(";") for text in found[2::3]), strict=True))
    sections = [(kind, name, text.replace("{run_columns}", ", ".join(Row._fields))) for kind, name, text in sections]
    parts = {name: text for kind, name, text in sections if kind == "part"}
    return [(name, _WITH.sub(lambda told: parts[told[1]], text)) for kind, name, text in sections if kind == "name"]


SQL = read(Path(__file__).with_name("sql"))

if __name__ == "__main__":
    for name in sys.argv[1:]:
        sys.stdout.write(f"{SQL[name]};\n")
