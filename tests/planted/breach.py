"""A breach: a small change of the code that breaks one guarantee, and the tests that are to notice it.

Breaches are tables in `breaches/*.toml`. They are found by the text that they replace, not by line numbers, so that they outlive edits nearby; where
that text is not there exactly once, the breach has to be written anew, and the error says which.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path


class StaleBreachError(Exception):
    """The code is not any more what a breach was written for."""


@dataclass(frozen=True, slots=True)
class Breach:
    """One of them. `guarantee` is the number that tests and documents name, `breaks` says in words what goes wrong."""

    name: str
    area: str
    guarantee: str
    breaks: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def planted(self, source: str) -> str:
        """The source with the breach in it."""
        try:
            return _replaced(source, self.old, self.new)
        except StaleBreachError as error:
            raise StaleBreachError(
                f"{self.area}/{self.name}: the text that it replaces is {error} in {self.file}. The code has changed: write the breach anew."
            ) from None


def read(folder: Path) -> list[Breach]:
    """Every breach below a folder, by area and in order."""
    found = [_breach(path.stem, table) for path in sorted(folder.glob("*.toml")) for table in tomllib.loads(path.read_text())["breach"]]
    names = [breach.name for breach in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two breaches of one name: {', '.join(sorted(twice))}. Give each a name of its own.")
    return found


def _breach(area: str, table: dict[str, object]) -> Breach:
    tests = table.pop("tests")
    assert isinstance(tests, list)
    assert tests, f"{area}: {table.get('name')} names no test"
    return Breach(area=area, tests=tuple(map(str, tests)), **{name: str(value) for name, value in table.items()})


def _replaced(source: str, old: str, new: str) -> str:
    """Whole lines where `old` has several, compared without their indentation; else a part of a line."""
    wanted = [line.strip() for line in old.strip().splitlines()]
    if len(wanted) == 1:
        count = source.count(wanted[0])
        if count != 1:
            raise StaleBreachError(f"found {count} times")
        return source.replace(wanted[0], new.strip())
    lines = source.splitlines()
    bare = [line.strip() for line in lines]
    found = [index for index in range(len(bare) - len(wanted) + 1) if bare[index : index + len(wanted)] == wanted]
    if len(found) != 1:
        raise StaleBreachError(f"found {len(found)} times")
    first = found[0]
    indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
    lines[first : first + len(wanted)] = [indent + line if line.strip() else line for line in _dedented(new)]
    return "\n".join(lines) + "\n"


def _dedented(text: str) -> list[str]:
    lines = text.strip("\n").splitlines()
    width = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return [line[width:] for line in lines]
