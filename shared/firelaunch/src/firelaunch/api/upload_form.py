"""Read a form with a file while it arrives, without keeping the file in memory.

werkzeug's parser first writes the whole form to temporary files, which take memory on Cloud Run. This module uses
werkzeug's decoder of the format (https://www.rfc-editor.org/rfc/rfc7578) without temporary files.
"""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from ..errors import BadRequest, TooLarge, size_text

if TYPE_CHECKING:
    from werkzeug.sansio.multipart import Event

__all__ = ["FORM_BYTES", "UploadForm"]

FORM_BYTES = 65_536
"""Most bytes of a form besides its file."""

_READ = 65_536
_PARTS = 16
"""Most parts of a form."""


class UploadForm:
    """The multipart form of a request.

    Args:
        upload_bytes: most bytes of the file in a request, for the error message. Whoever reads the file counts them.
        file_bytes: most bytes of a file that comes through Firebase Storage, if that is more.

    Attributes:
        fields: the form's fields that were read so far.
        filename, content_type: the file's own name, and the type that its client names, once :meth:`file` has reached
            it.

    Raises (every method and the file's ``read``): BadRequest, TooLarge.
    """

    def __init__(self, request: Request, upload_bytes: int, file_bytes: int = 0) -> None:
        boundary = request.mimetype_params.get("boundary", "").encode("latin-1", "replace")
        if not boundary:
            raise BadRequest("Send the form with a boundary in its Content-Type.")
        self._upload_bytes = upload_bytes
        self._file_bytes = file_bytes
        if (request.content_length or 0) > upload_bytes + FORM_BYTES:
            raise self.too_large()
        request.max_content_length = upload_bytes + FORM_BYTES
        self._request = request
        self._decoder = MultipartDecoder(boundary, FORM_BYTES + _READ, max_parts=_PARTS)
        self._bytes_left = FORM_BYTES
        self.fields: dict[str, str] = {}
        self.filename = self.content_type = ""

    def too_large(self) -> TooLarge:
        """Return the error for a file over the limit."""
        if self._file_bytes > self._upload_bytes:
            return TooLarge(
                f"A file in a request has at most {size_text(self._upload_bytes)}. Put a larger one, of "
                f'{size_text(self._file_bytes)} at most, into Firebase Storage, and send {{"upload": "its name"}}.'
            )
        return TooLarge(f"A file has at most {size_text(self._upload_bytes)}. Split it and upload the parts.")

    def file(self) -> IO[bytes]:
        """Return the content of the file ``file``. Read it once, before you call :meth:`rest`.

        Raises:
            BadRequest: the form has no such file.
        """
        while not isinstance(event := self._event(), Epilogue):
            if isinstance(event, File) and event.name == "file":
                self.filename, self.content_type = event.filename, event.headers.get("content-type", "")
                return io.BufferedReader(_Content(self), _READ)
            self._keep(event)
        raise BadRequest("Send the document as the file 'file' of a multipart/form-data body.")

    def rest(self) -> None:
        """Read the fields after the file.

        Raises:
            BadRequest: the form has a second file.
        """
        while not isinstance(event := self._event(), Epilogue):
            if isinstance(event, File) and event.name == "file":
                raise BadRequest("Send one file in a request.")
            self._keep(event)

    def piece(self) -> tuple[bytes, bool]:
        """Return the next piece of a part's content, and whether it is the last one."""
        event = self._event()
        if not isinstance(event, Data):
            raise BadRequest("The form is not valid.")
        return event.data, not event.more_data

    def _keep(self, event: Event) -> None:
        """Store a field. A file of another name is read and dropped."""
        if not isinstance(event, Field | File):
            return
        data, ended = bytearray(), False
        while not ended:
            piece, ended = self.piece()
            data += piece
            if len(data) > self._bytes_left:
                raise TooLarge(f"A form has at most {size_text(FORM_BYTES)} beside its file.")
        self._bytes_left -= len(data)
        if isinstance(event, Field):
            self.fields.setdefault(event.name or "", data.decode("utf-8", "replace"))

    def _event(self) -> Event:
        try:
            while isinstance(event := self._decoder.next_event(), NeedData):
                self._decoder.receive_data(self._request.stream.read(_READ) or None)
        except RequestEntityTooLarge:
            raise self.too_large() from None
        except (ValueError, LookupError):
            raise BadRequest("The form is not valid.") from None
        return event


class _Content(io.RawIOBase):
    """The form's file as a stream."""

    def __init__(self, form: UploadForm) -> None:
        self._form = form
        self._piece = b""
        self._ended = False

    def readable(self) -> bool:
        """Return True: the stream can be read."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill ``buffer`` with the next bytes and return their number; 0 at the end of the file."""
        while not self._piece and not self._ended:
            self._piece, self._ended = self._form.piece()
        size = min(len(buffer), len(self._piece))
        buffer[:size] = self._piece[:size]
        self._piece = self._piece[size:]
        return size
