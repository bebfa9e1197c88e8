"""The form in which clients see documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..paging import iso_time
from ..rag.versions import READER

__all__ = ["document_view", "is_current_text", "upgrades"]

_READ_EARLIER: Final = {
    "code": "read_earlier",
    "message": "An earlier version of this app read the file, and may have left parts out. Upload it again.",
}
_INDEXED_EARLIER: Final = {
    "code": "indexed_earlier",
    "message": "This document is searched as an earlier version of this app indexed it, until an administrator runs "
    "`firelaunch reembed`.",
}


def is_current_text(data: Mapping[str, Any]) -> bool:
    """Return whether today's parsers made a document's text. No parser reads the text of a record."""
    return data.get("source") == "record" or data.get("reader", 1) == READER


def upgrades(data: Mapping[str, Any], wanted: str) -> list[dict[str, str]]:
    """Return what a ready document misses because an earlier version of the app took it in.

    Args:
        wanted: the id of the index version that the settings ask for.
    """
    if data.get("status") != "ready":
        return []
    return [
        *([] if is_current_text(data) else [_READ_EARLIER]),
        *([] if wanted in data.get("indexed", {}) else [_INDEXED_EARLIER]),
    ]


def document_view(name: str, data: Mapping[str, Any], more: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
    """Return a document as clients see it.

    Args:
        more: further warnings.
    """
    return {
        "id": name,
        "name": data.get("name", ""),
        "url": data.get("url") or None,
        "part_of": data.get("part_of"),
        "status": data.get("status", "queued"),
        "progress": data.get("progress", 0.0),
        "error": data.get("error"),
        "warnings": [*data.get("warnings", []), *more],
        "bytes": data.get("bytes", 0),
        "characters": data.get("characters", 0),
        "chunks": data.get("chunks", 0),
        "cost_micro_usd": data.get("cost_micro_usd", 0),
        "job_id": data.get("job"),
        "created_at": iso_time(data.get("created_at")),
        "updated_at": iso_time(data.get("updated_at")),
    }
