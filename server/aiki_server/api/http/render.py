"""Writing responses: wire shapes as JSON bytes, with stored payload text spliced in untouched."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Record
from pydantic_core import from_json, to_json
from starlette.responses import Response

from aiki.protocol import Status
from aiki_server.model.instants import micros
from aiki_server.model.listings import Listed
from aiki_server.model.rows import Ended, Item, Row


def json_response(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response with a JSON body."""
    return Response(body, status, headers=headers, media_type="application/json")


def spliced(head: Mapping[str, Any], texts: Mapping[str, str | None]) -> bytes:
    """The object with the members of `head`, and of `texts`, which are JSON text already (None becomes null)."""
    tail = b"".join(b',"%b":%b' % (name.encode(), b"null" if text is None else text.encode()) for name, text in texts.items())
    return to_json(head)[:-1] + tail + b"}"


def hex_of(run: UUID | None) -> str | None:
    """A run's id as the API writes it."""
    return None if run is None else run.hex


def result(end: Ended) -> bytes:
    """A RunResult."""
    return spliced({"id": end.id.hex, "status": end.status}, {"output": end.output, "error": end.error})


def run_info(record: Record, *, notice: str | None) -> bytes:
    """A RunInfo, of a whole row."""
    head = {name: record[name] for name in _SHOWN} | {
        "id": record["id"].hex,
        "parent": hex_of(record["parent"]),
        "worker": record["worker"] if record["status"] == Status.RUNNING else None,
        "notice": notice,
    }
    state, waits = record["state"] or "{}", record["waits"] or "[]"
    return spliced(head, {"input": record["input"], "output": record["output"], "error": record["error"], "state": state, "waits": waits})


_SHOWN = (
    "workflow", "version", "pool", "build", "status", "ref", "epoch", "steps", "cancel_requested", "pause_requested",
    "created_at", "started_at", "updated_at", "finished_at", "due_at",
)  # fmt: skip


def summary(run: Listed) -> dict[str, Any]:
    """A RunSummary of a listed row."""
    return run._asdict() | {"id": run.id.hex, "parent": hex_of(run.parent)}


def row_summary(row: Row, *, updated_at: datetime) -> bytes:
    """A RunSummary of a row that an op just changed."""
    return to_json(
        {
            "id": row.id.hex, "workflow": row.workflow, "version": row.version, "pool": row.pool, "status": row.status, "ref": row.ref,
            "parent": hex_of(row.parent), "steps": row.steps, "created_at": row.created_at, "updated_at": updated_at,
            "finished_at": row.finished_at, "due_at": row.due_at,
        }
    )  # fmt: skip


def inbox_item(item: Item) -> dict[str, Any]:
    """An InboxItem; its error is an object, its payload stays text."""
    return {
        "seq": item.seq, "kind": item.kind, "name": item.name, "payload": item.payload, "child": hex_of(item.child), "status": item.status,
        "error": None if item.error is None else from_json(item.error), "at": micros(item.at),
    }  # fmt: skip
