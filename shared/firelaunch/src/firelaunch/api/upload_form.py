"""A form with a file, read as it comes: nothing is kept of the file, and little of the rest.

werkzeug's own parser writes the whole form to temporary files first, which are memory on Cloud Run. Its decoder, which
knows the format (https://www.rfc-editor.org/rfc/rfc7578), is used here without them.
"""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from ..errors import BadRequest, TooLarge

if TYPE_CHECKING:
    from werkzeug.sansio.multipart import Event

__all__ = ["FORM_BYTES", "UploadForm"]

FORM_BYTES = 65_536
"""What a form may hold beside the file."""

_READ = 65_536
_PARTS = 16
"""Parts of a form at most."""


class UploadForm:
    """The multipart form of a request.

    Args:
        upload_bytes: of the file in a request at most, for the message; whoever reads the file counts them.
        file_bytes: of a file that comes another way, where that may be more.

    Attributes:
        fields: what was read of the form's fields until now.
        filename: the file's own name, once :meth:`file` has come to it.

    Raises (every method and the file's ``read``): BadRequest, TooLarge.
    """

    def __init__(self, request: Request, upload_bytes: int, file_bytes: int = 0) -> None:
        boundary = request.mimetype_params.get("boundary", "").encode("latin-1", "replace")
        if not boundary:
            raise BadRequest("Send the form with a boundary in its Content-Type.")
        self._most = upload_bytes
        self._by_storage = file_bytes
        if (request.content_length or 0) > upload_bytes + FORM_BYTES:
            raise self.too_large()
        request.max_content_length = upload_bytes + FORM_BYTES
        self._request = request
        self._decoder = MultipartDecoder(boundary, FORM_BYTES + _READ, max_parts=_PARTS)
        self._left = FORM_BYTES
        self.fields: dict[str, str] = {}
        self.filename = ""

    def too_large(self) -> TooLarge:
        """What a file over the limit is refused with."""
        if self._by_storage > self._most:
            return TooLarge(
                f"A file in a request has at most {self._most} bytes. Put a larger one, of {self._by_storage} bytes at "
                'most, into Firebase Storage, and send {"upload": "its name"}.'
            )
        return TooLarge(f"A file has at most {self._most} bytes. Split it and upload the parts.")

    def file(self) -> IO[bytes]:
        """The content of the file ``file``, to be read once, before :meth:`rest`.

        Raises:
            BadRequest: there is none.
        """
        while not isinstance(event := self._event(), Epilogue):
            if isinstance(event, File) and event.name == "file":
                self.filename = event.filename
                return io.BufferedReader(_Content(self), _READ)
            self._keep(event)
        raise BadRequest("Send the document as the file 'file' of a multipart/form-data body.")

    def rest(self) -> None:
        """Read what follows the file.

        Raises:
            BadRequest: another file does.
        """
        while not isinstance(event := self._event(), Epilogue):
            if isinstance(event, File) and event.name == "file":
                raise BadRequest("Send one file in a request.")
            self._keep(event)

    def piece(self) -> tuple[bytes, bool]:
        """More of a part's content, and whether that was the last of it."""
        event = self._event()
        if not isinstance(event, Data):
            raise BadRequest("The form is not valid.")
        return event.data, not event.more_data

    def _keep(self, event: Event) -> None:
        """Take in a part that is not the file; a file of another name is read and dropped."""
        if not isinstance(event, Field | File):
            return
        data, ended = bytearray(), False
        while not ended:
            piece, ended = self.piece()
            data += piece
            if len(data) > self._left:
                raise TooLarge(f"A form has at most {FORM_BYTES} bytes beside its file.")
        self._left -= len(data)
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
    """A form's file."""

    def __init__(self, form: UploadForm) -> None:
        self._form = form
        self._piece = b""
        self._ended = False

    def readable(self) -> bool:
        """See io.RawIOBase."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """See io.RawIOBase."""
        while not self._piece and not self._ended:
            self._piece, self._ended = self._form.piece()
        size = min(len(buffer), len(self._piece))
        buffer[:size] = self._piece[:size]
        self._piece = self._piece[size:]
        return size
