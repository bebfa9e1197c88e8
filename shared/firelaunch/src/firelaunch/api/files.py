"""Files that are put up before they are sent in a message."""

from __future__ import annotations

import mimetypes
from typing import IO, Annotated, Any

from flask import request
from pydantic import BaseModel, Field, WithJsonSchema

from ..errors import BadRequest, Conflict, NotFound, RateLimited, TooLarge
from ..llm.attachments import kind_of
from ..turns.attachments import check_taken
from ..turns.file_contents import check_beginning, media_type_of
from ..turns.uploaded_files import UploadedFiles
from .base import Time, backend, caller, example, services
from .chats import file_limits
from .refusals import OF_FILES, errors
from .routes import Routes
from .upload_form import UploadForm

__all__ = ["api"]

_BEGINNING = 1_024
"""Bytes by which a file is known."""


class FileUpload(BaseModel):
    """A file for a message. Its part of the form names its type."""

    file: Annotated[bytes, WithJsonSchema({"type": "string", "format": "binary"})]


class UploadedFile(BaseModel):
    """A file that can be sent in messages: `{"files": [{"url": "<id>", "filename": "report.pdf"}]}`."""

    model_config = example(
        {
            "id": "upload_1772357400_0123456789abcdef0123456789abcdef",
            "media_type": "application/pdf",
            "bytes": 182_044,
            "expires_at": "2026-03-02T09:30:00.000000Z",
        }
    )
    id: str
    media_type: str
    bytes: int
    expires_at: Time = Field(description="Until when it can be sent. A message has a copy of its own.")


api = Routes("message_files", "chats", prefix="/v1")

_FORM = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FileUpload}}}}


@api.post(
    "/files",
    rate="uploads",
    responses={201: UploadedFile, **errors(TooLarge, RateLimited, NotFound, Conflict, *OF_FILES)},
    operation_id="uploadFile",
    summary="Put up a file to send in a message",
    description="The file is kept for a day, in which its user can send it by its id. Large files need this: a body of "
    "JSON holds a file in Base64. A document that answers are to cite goes to `POST /v1/uploads`.",
    openapi_extensions=_FORM,
)
def upload() -> tuple[dict[str, Any], int]:
    """Put up a file to send in a message."""
    if request.mimetype != "multipart/form-data":
        raise BadRequest("Send the file as the file 'file' of a multipart/form-data body.")
    scope, uploads, limits = caller().scope, backend().uploads, file_limits()
    media_type = "application/pdf"  # until it is known, the limit is the largest
    with uploads.place(scope):
        try:
            form = UploadForm(request, limits.of(media_type))
            uploads.count(scope)
            content = form.file()
            media_type = _media_type(form, content)
            files = UploadedFiles(services().files.within(scope), services().clock)
            file, expires_at = files.put(content, media_type, limits.of(media_type))
            form.rest()
        except TooLarge:
            raise limits.too_large(media_type) from None
    return {"id": file.id, "media_type": media_type, "bytes": file.bytes, "expires_at": expires_at}, 201


def _media_type(form: UploadForm, content: IO[bytes]) -> str:
    """Return the type of a form's file, from its part of the form or from its name.

    Raises:
        FileNotTaken: no message takes files of this type, or no model of the app does.
        BadRequest: the file begins otherwise than those of its type.
    """
    told = form.content_type
    if told.partition(";")[0].strip().lower() in {"", "application/octet-stream"}:
        told = mimetypes.guess_type(form.filename)[0] or told
    media_type = media_type_of(told)
    kind = kind_of(media_type)
    check_taken(services().gateway, {kind} if kind else set())
    check_beginning(media_type, content.peek(_BEGINNING)[:_BEGINNING])  # type: ignore[attr-defined]  # it is buffered
    return media_type
