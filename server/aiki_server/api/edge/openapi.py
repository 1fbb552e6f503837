"""The OpenAPI document: true, though hot routes read their bodies themselves.

What FastAPI cannot see is said here once: the bodies' schemas, the problems, the security scheme.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from aiki.protocol import Problem
from aiki_server.api.http.errors import TITLES

_REF = "#/components/schemas/{model}"
_COMMON = (400, 401, 403, 413, 415, 422, 503)
_READING = (401, 403, 404, 422, 503)


def body_of(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """`openapi_extra` of a route that reads its body itself."""
    schema = {"$ref": _REF.format(model=model.__name__)}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def problems(*statuses: int, reads: bool = False) -> dict[int | str, dict[str, Any]]:
    """`responses` for these errors and those that any route of its kind may answer with."""
    schema = {"$ref": _REF.format(model=Problem.__name__)}
    wanted = sorted({*statuses, *(_READING if reads else _COMMON)})
    return {status: {"description": TITLES[status][1], "content": {"application/problem+json": {"schema": schema}}} for status in wanted}


def describe(app: FastAPI, bodies: list[type[BaseModel]]) -> None:
    """Give the app its document; `bodies` are the models that `body_of` refers to."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, bodies)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI, bodies: list[type[BaseModel]]) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    models: list[type[BaseModel]] = [*bodies, Problem]
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.update({name: schema for name, schema in definitions["$defs"].items() if name not in schemas})
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}]
    return document
