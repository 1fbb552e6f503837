"""Prometheus' text format, version 0.0.4, for the few families that a worker has: a dependency would be larger than the worker's own code for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_HELP_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: the names of its labels, and of each series the values of them and what is counted. A counter's name ends in `_total`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Sequence[str] = ()
    series: list[tuple[tuple[str, ...], float]] = field(default_factory=list)
    histograms: list[tuple[tuple[str, ...], Sequence[tuple[float, int]], float]] = field(default_factory=list)
    """Values of labels; upper bounds, the last of them infinite, with how many were at most that; the sum."""

    def add(self, *labels: str, value: float) -> Family:
        """One more series; the family itself."""
        self.series.append((labels, value))
        return self


def single(name: str, kind: Literal["counter", "gauge"], text: str, value: float) -> Family:
    """A metric without labels."""
    return Family(name, kind, text).add(value=value)


def exposition(families: Iterable[Family]) -> str:
    """The page that Prometheus reads."""
    return "".join(f"{line}\n" for family in families for line in _lines(family))


def _lines(family: Family) -> Iterable[str]:
    yield f"# HELP {family.name} {family.help.translate(_HELP_ESCAPES)}"
    yield f"# TYPE {family.name} {family.kind}"
    for values, value in family.series:
        yield f"{family.name}{_labels(family.labels, values)} {_number(value)}"
    for values, buckets, total in family.histograms:
        for bound, count in buckets:
            yield f"{family.name}_bucket{_labels([*family.labels, 'le'], [*values, _number(bound)])} {count}"
        yield f"{family.name}_sum{_labels(family.labels, values)} {_number(total)}"
        yield f"{family.name}_count{_labels(family.labels, values)} {buckets[-1][1]}"


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    # A lone surrogate cannot be written in UTF-8, and a class may be called so.
    written = (f'{name}="{_whole(value).translate(_ESCAPES)}"' for name, value in zip(names, values, strict=True))
    return f"{{{','.join(written)}}}"


def _whole(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return repr(float(value))
