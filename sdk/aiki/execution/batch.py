"""What is to be written: the entries, in the order in which they came to be, and what must be stored with them.

Entries are JSON text from the beginning, so that a payload is written once and never changed again on its way to the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as quoted
from typing import Final, NamedTuple

from aiki.protocol import MAX_CHILDREN, ChildStart, EntryKind, ErrorInfo

MAX_LABEL = 200
PART_CHILDREN = MAX_CHILDREN // 4
"""In one part: a request carries those of several runs, and of one run a part that was put off with the next."""


# How the entries of each kind begin.
_BEGAN: Final = f'{{"k":"{EntryKind.BEGAN}","at":'
_CALL: Final = f'{{"k":"{EntryKind.CALL}","c":'
_CHILD_CANCEL_REQUESTED: Final = f'{{"k":"{EntryKind.CHILD_CANCEL_REQUESTED}","c":'
_DONE: Final = f'{{"k":"{EntryKind.DONE}","c":'
_FAILED: Final = f'{{"k":"{EntryKind.FAILED}","c":'
_ATTEMPT: Final = f'{{"k":"{EntryKind.ATTEMPT}","c":'
_CANCEL: Final = f'{{"k":"{EntryKind.CANCEL}","at":'


@dataclass(frozen=True, slots=True)
class JournalBatch:
    """One commit's worth: `entries` is the text of a JSON array of `count` entries, `steps` of which are new calls."""

    entries: str
    count: int
    steps: int
    consumed: list[int]
    children: list[ChildStart]
    cancel_children: list[str]
    state: str | None

    def __add__(self, later: JournalBatch) -> JournalBatch:
        """Return both as one batch: these entries first, and the latest state.

        The entries are joined as text, because a payload must come through to the byte.
        """
        if not (self.count and later.count):
            entries = self.entries if self.count else later.entries
        else:
            entries = f"{self.entries[:-1]},{later.entries[1:]}"
        return JournalBatch(
            entries=entries,
            count=self.count + later.count,
            steps=self.steps + later.steps,
            consumed=self.consumed + later.consumed,
            children=self.children + later.children,
            cancel_children=self.cancel_children + later.cancel_children,
            state=later.state if later.state is not None else self.state,
        )


NOTHING: Final = JournalBatch("[]", 0, 0, [], [], [], None)


class _Entry(NamedTuple):
    """An entry, and what is stored with it."""

    text: str
    item: int | None = None
    child: ChildStart | None = None
    step: bool = False
    cancelled_child: str | None = None


class JournalWriter:
    """Collects entries until they are taken."""

    __slots__ = ("_checkpoint", "_entries")

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._checkpoint = 0

    def __len__(self) -> int:
        return len(self._entries)

    def began(self, at: int) -> None:
        self._entries.append(_Entry(f"{_BEGAN}{at}}}"))

    def call(self, number: int, address: str, *, label: str, due: int | None, child: ChildStart | None) -> None:
        """A reservation; the child it creates is stored with it."""
        more = f',"due":{due}' if due is not None else ""
        if child is not None:
            more += f',"run":"{child.id}"'
        text = f'{_CALL}{number},"a":"{address}","l":{quoted(short(label))}{more}}}'
        self._entries.append(_Entry(text, None, child, True))

    def cancel_child(self, number: int, child: str) -> None:
        """The code gave this child up: it is to be cancelled with the commit that says so."""
        self._entries.append(_Entry(f"{_CHILD_CANCEL_REQUESTED}{number}}}", cancelled_child=child))

    def done(self, number: int, at: int, value: str, *, item: int | None = None, timeout: bool = False) -> None:
        more = f',"i":{item}' if item is not None else ""
        if timeout:
            more += ',"timeout":true'
        self._end(f'{_DONE}{number},"at":{at},"v":{value}{more}}}', item)

    def failed(self, number: int, at: int, error: ErrorInfo, *, item: int | None = None) -> None:
        more = f',"i":{item}' if item is not None else ""
        self._end(f'{_FAILED}{number},"at":{at},"e":{error.model_dump_json()}{more}}}', item)

    def attempt(self, number: int, attempt: int, at: int, error: ErrorInfo, *, due: int) -> None:
        self._entries.append(_Entry(f'{_ATTEMPT}{number},"n":{attempt},"at":{at},"e":{error.model_dump_json()},"due":{due}}}'))

    def cancel(self, at: int, item: int, reason: str | None) -> None:
        more = f',"reason":{quoted(reason)}' if reason is not None else ""
        self._end(f'{_CANCEL}{at},"i":{item}{more}}}', item)

    def ended(self, kind: EntryKind, at: int, error: ErrorInfo | None) -> None:
        more = f',"e":{error.model_dump_json()}' if error is not None else ""
        self._entries.append(_Entry(f'{{"k":"{kind}","at":{at}{more}}}'))

    def take(self, limit: int | None) -> JournalBatch | None:
        """The first entries, up to `limit` characters and PART_CHILDREN children but at least one; all of them without a limit. None if there are none."""
        if not self._entries:
            return None
        count = len(self._entries) if limit is None else self._fitting(limit)
        entries, self._entries = self._entries[:count], self._entries[count:]
        self._checkpoint = max(0, self._checkpoint - count)
        texts: list[str] = []
        consumed: list[int] = []
        children: list[ChildStart] = []
        cancel_children: list[str] = []
        steps = 0
        for text, item, child, step, cancelled_child in entries:
            texts.append(text)
            steps += step
            if item is not None:
                consumed.append(item)
            if child is not None:
                children.append(child)
            if cancelled_child is not None:
                cancel_children.append(cancelled_child)
        return JournalBatch(f"[{','.join(texts)}]", count, steps, consumed, children, cancel_children, None)

    def roll_back(self) -> None:
        """Forgets what the code asked for since the last end was handed over to it; the end itself stays."""
        del self._entries[self._checkpoint :]

    def _end(self, text: str, item: int | None) -> None:
        self._entries.append(_Entry(text, item))
        self._checkpoint = len(self._entries)

    def _fitting(self, limit: int) -> int:
        size = children = 0
        for index, entry in enumerate(self._entries):
            size += len(entry.text) + 1
            if entry.child is not None:
                size += len(entry.child.input)
                children += 1
            if size > limit or children > PART_CHILDREN:
                return max(1, index)
        return len(self._entries)


def short(label: str) -> str:
    """A label of at most MAX_LABEL characters."""
    return label if len(label) <= MAX_LABEL else label[: MAX_LABEL - 1] + "…"
