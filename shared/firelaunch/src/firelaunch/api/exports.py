"""Let users export their own data: start an export, see how far it is, and fetch its file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from flask import Response
from pydantic import BaseModel, Field

from ..errors import AlreadyExists, InvalidId, JobsUnavailable, NotFound, RateLimited
from ..jobs.base import job_view
from ..worker.tasks.export import archive_of, archive_of_link, export_view, start_export
from .base import Path, QueryModel, Time, caller, example, link_address, services
from .jobs import JobAnswer, JobError, JobProgress
from .refusals import OF_THE_STORE, errors, errors_of_anyone
from .routes import Routes

__all__ = ["DataExport", "address_of", "api"]

_READY = {
    "id": "j0123456789abcdef0123456789abcdef",
    "state": "succeeded",
    "created_at": "2026-03-01T09:30:00.000Z",
    "progress": None,
    "error": None,
    "bytes": 52_000,
    "expires_at": "2026-03-02T09:30:09.000000Z",
    "url": "https://my-app-1234567890.europe-west1.run.app/v1/exports/j0123456789abcdef0123456789abcdef/file?key=...",
    "url_expires_at": "2026-03-01T10:31:00.000000Z",
}
_FILE: dict[str, Any] = {
    "description": "The zip.",
    "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
}


class DataExport(BaseModel):
    """An export of the caller's data."""

    model_config = example(_READY)
    id: str
    state: str = Field(description='That of its job; the file is there once it has "succeeded".')
    created_at: Time
    progress: JobProgress | None
    error: JobError | None
    bytes: int | None
    expires_at: Time | None = Field(description="When the file is removed, a day after it was made.")
    url: str | None = Field(description="Where to fetch the file; null where there is none yet, or any more.")
    url_expires_at: Time | None = Field(description="Until when `url` works. Each read gives a new one.")


class Link(QueryModel):
    """The key in the `url` of an export."""

    key: str = Field(max_length=1_000, description="As in the `url`.")


api = Routes("exports", "account", prefix="/v1")


@api.post(
    "/me/exports",
    rate="account",
    responses={202: JobAnswer, **errors(AlreadyExists, NotFound, JobsUnavailable)},
    operation_id="startExport",
    summary="Export your data",
    description="Once a day (UTC): a repetition gives the job of the day's export.",
)
def create() -> tuple[dict[str, Any], int]:
    """Export your data."""
    user = caller()
    return job_view(start_export(services(), user.scope, told_by=user.uid if user.role == "admin" else None)), 202


@api.get(
    "/me/exports/<id>",
    responses={200: DataExport, **errors(InvalidId, NotFound)},
    operation_id="getExport",
    summary="Read an export",
)
def get(path: Path) -> dict[str, Any]:
    """Read an export."""
    return export_view(services(), caller().scope, path.id, partial(address_of, path.id), reader=caller().uid)


@api.get(
    "/exports/<id>/file",
    public=True,
    responses={200: _FILE, **errors_of_anyone(InvalidId, NotFound, RateLimited, *OF_THE_STORE)},
    operation_id="getExportFileByLink",
    summary="Fetch an export's file by its link",
    description="The `url` of an export. It needs no token, as its `key` says who may have the file, and until when.",
)
def download(path: Path, query: Link) -> Response:
    """Fetch an export's file by its link."""
    return _zip(path.id, archive_of_link(services(), path.id, query.key))


@api.get(
    "/me/exports/<id>/file",
    rate="files",
    responses={200: _FILE, **errors(InvalidId, NotFound)},
    operation_id="getExportFile",
    summary="Fetch an export's file",
    description="The same file as at the export's `url`, for a client that sends its token.",
)
def file(path: Path) -> Response:
    """Fetch an export's file."""
    return _zip(path.id, archive_of(services(), caller().scope, path.id))


def address_of(export_id: str, key: str) -> str:
    """Return the address of an export's file, by a link's key."""
    return link_address("exports.download", id=export_id, key=key)


def _zip(export_id: str, pieces: Iterator[bytes]) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{export_id}.zip"'}
    return Response(pieces, content_type="application/zip", headers=headers)
