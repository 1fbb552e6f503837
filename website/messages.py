"""The texts of errors, read out of the code: what troubleshooting.md lists below each kind, with an anchor for each text.

The code is parsed and not run. Wherever an error is made with a text, the text is a message of that error's kind; what is put into the
text at run time is shown as `…`. A kind is the name of the exception, the type of a run's error, or the type of a problem document:
the same word that `aiki.errors.help_link` is asked with.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from aiki_server.api.http.errors import TITLES

ROOT = Path(__file__).parents[1]
SOURCES = ("sdk/aiki", "server/aiki_server")
MISUSE = frozenset({"ValueError", "TypeError", "RuntimeError", "LookupError"})
"""What the SDK raises where it is used wrongly; elsewhere these are no messages to anybody."""
RAISED = frozenset(
    [
        "PayloadError",
        "NotAllowedInWorkflow",
        "StepLimit",
        "TaskTimeout",
        "ResultTimeout",
        "ServerUnreachable",
        "UnexpectedAnswer",
        "Stuck",
        "SettingsError",
        "LocalError",
        "UnsafeFolderError",
        "OldDatabaseError",
        "NewerDatabaseError",
        "NotMigratedError",
        "UnsafeDatabaseError",
    ]
)
"""Exceptions whose text somebody may see; all others are caught inside."""
SILENT = frozenset({"the answer is of a lease that lapsed meanwhile", "another port", "that is a group of processes, which always lives"})
"""Texts that are caught inside as well."""


@cache
def found() -> Mapping[str, list[str]]:
    """The texts of each kind, in the order of the files."""
    texts: dict[str, dict[str, str]] = {}
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for kind, text in _of_file(path):
                texts.setdefault(kind, {}).setdefault(anchor(kind, text), text)
    return {kind: list(those.values()) for kind, those in texts.items()}


def made(kind: str) -> str:
    """The list of a kind, each text with its anchor."""
    return "\n".join(f'* <a id="{anchor(kind, text)}"></a>`{text}`' for text in found()[kind])


def anchor(kind: str, text: str) -> str:
    """The kind and the first words of a text."""
    return "-".join([kind.lower(), *re.findall(r"[a-z0-9]+", text.lower())[:9]])


def _of_file(path: Path) -> Iterator[tuple[str, str]]:
    tree = ast.parse(path.read_text())
    where = str(path.relative_to(ROOT))
    for scope in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Module)):
        inner = list(_inside(scope))
        texts = {node.targets[0].id: node.value for node in inner if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)}
        for node in inner:
            if isinstance(node, ast.Call) and (made := _made(node, where, texts)) is not None and made[1] not in SILENT:
                yield made


def _inside(scope: ast.AST) -> Iterator[ast.AST]:
    """What belongs to a function, and not to one in it."""
    for node in ast.iter_child_nodes(scope):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            yield from _inside(node)


def _made(call: ast.Call, file: str, texts: Mapping[str, ast.expr]) -> tuple[str, str] | None:
    """The kind and the text of the error that a call makes."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    arguments = [texts.get(one.id, one) if isinstance(one, ast.Name) else one for one in call.args]
    match name, arguments:
        case "error_named" | "error", [ast.Constant(value=str(kind)), text, *_]:
            return _with_text(kind, text)
        case "ApiError", [ast.Constant(value=int(status)), text, *_]:
            kinds = [word.value.value for word in call.keywords if word.arg == "kind" and isinstance(word.value, ast.Constant)]
            return _with_text(str(kinds[0]) if kinds else TITLES[status][0], text)
        case "Failure", [_, text, *_]:
            return _with_text("Failure", text)
        case _, [text, *_] if name in RAISED:
            return _with_text(name, text)
        case _, [text, *_] if name in MISUSE and file.startswith("sdk/aiki/") and "/cli/" not in file:
            return _with_text("misuse", text)
    return None


def _with_text(kind: str, node: ast.expr) -> tuple[str, str] | None:
    text = _text(node)
    return (kind, text) if text and re.search(r"[a-z]{3}", text.replace("…", "")) else None


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(value)):
            return value.replace("\n", " ").replace("`", "'")
        case ast.JoinedStr():
            return "".join("…" if isinstance(part, ast.FormattedValue) else _text(part) for part in node.values)
        case ast.BinOp(op=ast.Add()):
            return _text(node.left) + _text(node.right)
        case _:
            return "…"
