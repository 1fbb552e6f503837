"""The page of the HTTP API, from the OpenAPI document that the server itself answers with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from aiki_server.app import create_app
from aiki_server.settings import Settings

Schema = Mapping[str, Any]
BRACE = str.maketrans({"|": "\\|", "\n": " "})


def document() -> dict[str, Any]:
    """What `/openapi.json` answers: the server is made and asked, but not started, so it needs no database."""
    app = create_app(Settings(database_url="postgresql://nobody"))
    answer: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        answer.append(message.get("body", b""))

    path = "/openapi.json"
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": [], "root_path": ""}
    asyncio.run(app({**scope, "http_version": "1.1", "scheme": "http", "client": None, "server": None}, receive, send))
    found: dict[str, Any] = json.loads(b"".join(answer))
    return found


def made() -> str:
    """The routes for everybody, those of workers and operators, and what the bodies look like."""
    found = document()
    parts = []
    for title, workers in (("Runs", False), ("Workers and the operator", True)):
        parts.append(f"## {title}\n")
        for path, methods in found["paths"].items():
            if workers == path.startswith(("/api/v1/worker", "/api/v1/pool", "/api/v1/pods")):
                parts += [_operation(method, path, operation) for method, operation in methods.items()]
    parts.append("## Bodies\n")
    parts += [_body(name, schema) for name, schema in sorted(found["components"]["schemas"].items())]
    return "\n".join(parts)


def _operation(method: str, path: str, operation: Schema) -> str:
    told = str(operation.get("description") or operation.get("summary") or "")
    lines = [f"### `{method.upper()} {path}`", "", told, ""]
    if parameters := operation.get("parameters"):
        lines += ["| parameter | in | type | |", "|---|---|---|---|", *map(_parameter, parameters), ""]
    if body := operation.get("requestBody"):
        lines += [f"Body: {_links(body['content']['application/json']['schema'])}", ""]
    for status, answer in operation.get("responses", {}).items():
        if status.startswith("2"):
            schema: Schema = next((content.get("schema", {}) for content in answer.get("content", {}).values()), {})
            lines += [f"Answer {status}: {_links(schema) or answer.get('description', '')}", ""]
    refusals = [status for status in operation.get("responses", {}) if not status.startswith("2")]
    if refusals:
        lines += [f"Refusals: {', '.join(refusals)}, each with a [Problem](#problem).", ""]
    return "\n".join(lines)


def _parameter(parameter: Schema) -> str:
    told = str(parameter.get("description", "")).translate(BRACE)
    return f"| `{parameter['name']}` | {parameter['in']} | {_links(parameter['schema'])} | {told} |"


def _body(name: str, schema: Schema) -> str:
    rows = list(_members(schema))
    table = ["| member | type | default | |", "|---|---|---|---|", *rows] if rows else [_links(schema)]
    return "\n".join([f"### {name} {{ #{name.lower()} }}", "", str(schema.get("description", "")), "", *table, ""])


def _members(schema: Schema) -> Iterator[str]:
    required = set(schema.get("required", ()))
    for member, field in schema.get("properties", {}).items():
        default = "required" if member in required else (f"`{field['default']}`" if field.get("default") is not None else "")
        yield f"| `{member}` | {_links(field)} | {default} | {str(field.get('description', '')).translate(BRACE)} |"


def _links(schema: Schema) -> str:
    """A type in words, with links to other bodies."""
    if name := schema.get("$ref"):
        model = str(name).rpartition("/")[2]
        return f"[{model}](#{model.lower()})"
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(filter(None, map(_links, options))))
    if values := schema.get("enum"):
        return ", ".join(f"`{value}`" for value in values)
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {_links(schema.get('items', {})) or 'anything'}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_links(schema['additionalProperties']) or 'anything'}"
    return str(schema.get("format") or schema.get("type") or "anything")
