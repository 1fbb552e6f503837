"""What is to be written: the entries, in the order in which they came to be, and what must be stored with them.

Entries are JSON text from the beginning, so that a payload is written once and never changed again on its way to the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as quoted

from aiki.protocol import ChildStart, ErrorInfo

MAX_LABEL = 200


@dataclass(frozen=True, slots=True)
class Draft:
    """One commit's worth: `entries` is the text of a JSON array of `count` entries, `steps` of which are new calls."""

    entries: str
    count: int
    steps: int
    consumed: list[int]
    children: list[ChildStart]
    state: str | None


class Writer:
    """Collects entries until they are taken."""

    __slots__ = ("_checkpoint", "children", "consumed", "entries", "steps")

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.consumed: list[int] = []
        self.children: list[ChildStart] = []
        self.steps = 0
        self._checkpoint = (0, 0, 0)

    def began(self, at: int) -> None:
        self.entries.append(f'{{"k":"began","at":{at}}}')

    def call(self, number: int, address: str, *, label: str, due: int | None, child: ChildStart | None) -> None:
        """A reservation; the child it creates is stored with it."""
        more = f',"due":{due}' if due is not None else ""
        if child is not None:
            more += f',"run":"{child.id}"'
            self.children.append(child)
        self.entries.append(f'{{"k":"call","c":{number},"a":"{address}","l":{quoted(short(label))}{more}}}')
        self.steps += 1

    def done(self, number: int, at: int, value: str, *, item: int | None = None, timeout: bool = False) -> None:
        more = f',"i":{item}' if item is not None else ""
        if timeout:
            more += ',"timeout":true'
        self.entries.append(f'{{"k":"done","c":{number},"at":{at},"v":{value}{more}}}')
        self._handed_over(item)

    def failed(self, number: int, at: int, error: ErrorInfo, *, item: int | None = None) -> None:
        more = f',"i":{item}' if item is not None else ""
        self.entries.append(f'{{"k":"failed","c":{number},"at":{at},"e":{error.model_dump_json()}{more}}}')
        self._handed_over(item)

    def attempt(self, number: int, attempt: int, at: int, error: ErrorInfo, *, due: int) -> None:
        self.entries.append(f'{{"k":"attempt","c":{number},"n":{attempt},"at":{at},"e":{error.model_dump_json()},"due":{due}}}')

    def cancel(self, at: int, item: int) -> None:
        self.entries.append(f'{{"k":"cancel","at":{at},"i":{item}}}')
        self._handed_over(item)

    def ended(self, kind: str, at: int, error: ErrorInfo | None) -> None:
        more = f',"e":{error.model_dump_json()}' if error is not None else ""
        self.entries.append(f'{{"k":"{kind}","at":{at}{more}}}')

    def take(self, state: str | None) -> Draft | None:
        """Everything since the last take; None if there is nothing."""
        if not self.entries and state is None:
            return None
        draft = Draft(f"[{','.join(self.entries)}]", len(self.entries), self.steps, self.consumed, self.children, state)
        self.entries, self.consumed, self.children, self.steps = [], [], [], 0
        self._checkpoint = (0, 0, 0)
        return draft

    def roll_back(self) -> None:
        """Forgets what the code asked for since the last record was handed over to it; the record itself stays."""
        entries, steps, children = self._checkpoint
        del self.entries[entries:], self.children[children:]
        self.steps = steps

    def clear(self) -> None:
        """Forgets everything that was not taken."""
        self.entries, self.consumed, self.children, self.steps = [], [], [], 0
        self._checkpoint = (0, 0, 0)

    def _handed_over(self, item: int | None) -> None:
        if item is not None:
            self.consumed.append(item)
        self._checkpoint = (len(self.entries), self.steps, len(self.children))


def short(label: str) -> str:
    """A label of at most MAX_LABEL characters."""
    return label if len(label) <= MAX_LABEL else label[: MAX_LABEL - 1] + "…"
