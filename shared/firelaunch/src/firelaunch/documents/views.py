"""The form in which clients see documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..paging import iso_time

__all__ = ["document_view"]


def document_view(name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document as clients see it."""
    return {
        "id": name,
        "name": data.get("name", ""),
        "url": data.get("url") or None,
        "part_of": data.get("part_of"),
        "status": data.get("status", "queued"),
        "progress": data.get("progress", 0.0),
        "error": data.get("error"),
        "warnings": data.get("warnings", []),
        "bytes": data.get("bytes", 0),
        "characters": data.get("characters", 0),
        "chunks": data.get("chunks", 0),
        "cost_micro_usd": data.get("cost_micro_usd", 0),
        "job_id": data.get("job"),
        "created_at": iso_time(data.get("created_at")),
        "updated_at": iso_time(data.get("updated_at")),
    }
