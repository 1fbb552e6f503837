"""The pages of the custom resources, from the schemas in crds/: what `kubectl explain` says, on one page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

CRDS = Path(__file__).parents[1] / "crds"


def made(file: str) -> str:
    """The fields of `spec` and `status` of one kind."""
    (version,) = yaml.safe_load((CRDS / f"{file}.yaml").read_text())["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    parts = [_sentence(schema)]
    for member in ("spec", "status"):
        part = schema["properties"][member]
        rows = [_row(path, field, required=required) for path, field, required in _fields(part)]
        parts += [f"## {member}", _sentence(part), "\n".join(["| field | meaning |", "|---|---|", *rows])]
        if rules := _rules(part):
            parts += ["These rules are checked where you type:", rules]
    return "\n\n".join(parts) + "\n"


def _fields(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    required = set(schema.get("required", ()))
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        yield here, field, name in required
        inner = field.get("items", field) if field.get("type") == "array" else field
        yield from _fields(inner, f"{here}[]" if inner is not field else here)


def _row(path: str, field: Mapping[str, Any], *, required: bool) -> str:
    default = f", `{_inline(field['default'])}` if it is absent" if "default" in field else (", required" if required else "")
    shown = path.replace(".", ".<wbr>")
    return f"| <code>{shown}</code> | {_sentence(field)} *({_kind(field)}{default})* |"


def _kind(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if field.get("x-kubernetes-int-or-string"):
        return "number or text"
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}))}"
    return str(field.get("format") or field.get("type", "any"))


def _sentence(field: Mapping[str, Any]) -> str:
    return " ".join(str(field.get("description", "")).split()).replace("|", "\\|")


def _rules(schema: Mapping[str, Any]) -> str:
    found = [
        rule["message"]
        for part in (schema, *(field for _, field, _ in _fields(schema)))
        for rule in part.get("x-kubernetes-validations", ())
    ]
    return "\n".join(f"* {message}" for message in dict.fromkeys(found))


def _inline(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...").strip()
