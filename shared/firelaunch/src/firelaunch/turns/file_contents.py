"""Check what is in the files of messages, and bound the tokens that a model counts for them.

Nothing that a file or its client says about its size is believed: a PDF is read in the process for hostile documents
(:mod:`firelaunch.rag.parse.sandbox`), and a recording's length is derived from its bytes.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Final

from ..errors import BadRequest, FileNotTaken, NoUploadRoom, TooLarge, size_text
from ..llm.attachments import AUDIO_TOKENS_A_SECOND, IMAGE_TOKENS, KINDS, PAGE_TOKENS, Attachment, kind_of
from ..llm.audio_length import seconds_bound

__all__ = ["MOST_PAGES", "FileLimits", "check_beginning", "measured", "media_type_of"]

MOST_PAGES: Final = 100
"""Pages of the PDFs in a prompt: what Claude takes of a request if its model's context is no larger than 200,000 tokens
(https://platform.claude.com/docs/en/build-with-claude/pdf-support). Gemini takes 1,000 of a file."""

_TEXT_BYTES: Final = 500_000
"""Bytes of a text. Each may be a token, and models' contexts have a million at most."""

_PDF_TEXT: Final = 2_000_000
"""Bytes of the text in a PDF: as many as fit no model's context."""

_SIGNATURES: Final = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "application/pdf": re.compile(rb".{0,1019}%PDF-", re.DOTALL),
    "audio/wav": re.compile(rb"RIFF....WAVE", re.DOTALL),
    "audio/mpeg": re.compile(rb"ID3|\xff[\xe0-\xff]"),
}
"""The bytes that a file of a type begins with."""

_ALIASES: Final = {
    "image/jpg": "image/jpeg",
    "application/x-pdf": "application/pdf",
    "audio/mp3": "audio/mpeg",
    "audio/x-mp3": "audio/mpeg",
    "audio/wave": "audio/wav",
    "audio/x-wav": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "text/x-markdown": "text/markdown",
}
"""Other names that browsers and systems have for the same types."""

_READERS = threading.BoundedSemaphore(2)
"""The processes that read PDFs. Each may take as much memory as one that reads a document."""

_READER_SECONDS: Final = 10


def media_type_of(told: str) -> str:
    """Return the media type that ``told`` names, without its parameters.

    Raises:
        FileNotTaken: no message takes files of this type.
    """
    plain = told.partition(";")[0].strip().lower()
    media_type = _ALIASES.get(plain, plain)
    if kind_of(media_type) is None:
        kinds = ", ".join(KINDS)
        raise FileNotTaken(f"A message takes files of these types: {kinds}. Put others up as documents.")
    return media_type


@dataclass(frozen=True, slots=True)
class FileLimits:
    """The most bytes of a file.

    Args:
        image_bytes: of an image.
        other_bytes: of any other file.
    """

    image_bytes: int
    other_bytes: int

    def of(self, media_type: str) -> int:
        """Return the most bytes of a file of a type."""
        kind = KINDS[media_type]
        return self.image_bytes if kind == "image" else min(self.other_bytes, _TEXT_BYTES if kind == "text" else 2**40)

    def check(self, media_type: str, size: int) -> None:
        """Check the size of a file.

        Raises:
            TooLarge: it has more bytes; the message names the limit and its setting.
        """
        if size > self.of(media_type):
            raise self.too_large(media_type)

    def too_large(self, media_type: str) -> TooLarge:
        """Return the error for a file that has more bytes."""
        most = size_text(self.of(media_type))
        match KINDS[media_type]:
            case "image":
                text = f"An image has at most {most} (limits.image_bytes). Send a smaller one."
            case "text":
                text = f"A text file in a message has at most {most}. Put longer ones up as documents."
            case _:
                text = f"A file in a message has at most {most} (limits.attachment_bytes). Send a smaller one."
        return TooLarge(text)


def check_beginning(media_type: str, head: bytes) -> None:
    """Check that a file begins as those of its type do.

    Args:
        head: its first 1,024 bytes.

    Raises:
        BadRequest: it doesn't.
    """
    signature = _SIGNATURES.get(media_type)
    if not (head if signature is None else signature.match(head)):
        raise _not_of(media_type)


def measured(media_type: str, data: bytes, name: str) -> Attachment:
    """Return a file as an attachment, with the most tokens that a model counts for it.

    Raises:
        BadRequest: it is not of ``media_type``.
        DocumentUnreadable: it is a PDF that is damaged or protected by a password.
        TooLarge: it is a PDF of too many pages.
        NoUploadRoom: as many PDFs are being read as may be.
    """
    check_beginning(media_type, data[:1_024])
    match KINDS[media_type]:
        case "pdf":
            pages, text_bytes = _pdf_size(data)
            if pages > MOST_PAGES:
                raise TooLarge(f"A PDF in a message has at most {MOST_PAGES} pages. Put longer ones up as documents.")
            return Attachment(media_type, data, name, pages * PAGE_TOKENS + text_bytes, pages)
        case "audio":
            seconds = seconds_bound(media_type, data)
            if seconds is None:
                raise _not_of(media_type)
            return Attachment(media_type, data, name, math.ceil(seconds * AUDIO_TOKENS_A_SECOND))
        case "text":
            attachment = Attachment(media_type, data, name, 0)
            return Attachment(media_type, data, name, len(_checked_text(attachment).encode()))
    return Attachment(media_type, data, name, IMAGE_TOKENS)


def _checked_text(attachment: Attachment) -> str:
    try:
        content = attachment.data.decode()
    except UnicodeDecodeError:
        content = "\0"
    if "\0" in content:
        raise BadRequest("A text file is text in UTF-8. Save it as such, and send it again.")
    return attachment.text


def _not_of(media_type: str) -> BadRequest:
    hint = " Its sound is to be PCM." if media_type == "audio/wav" else ""
    return BadRequest(f"A file is no {media_type}, although its client says so.{hint}")


def _pdf_size(data: bytes) -> tuple[int, int]:
    """Return the pages of a PDF, and the most bytes of their text."""
    from ..rag.parse import ParseLimits, pdf_size

    limits = ParseLimits(text_characters=_PDF_TEXT, cpu_seconds=_READER_SECONDS, wall_seconds=_READER_SECONDS)
    with _reader(), TemporaryFile() as file:
        file.write(data)
        file.flush()
        file.seek(0)
        return pdf_size(file, limits=limits)


@contextmanager
def _reader() -> Iterator[None]:
    if not _READERS.acquire(timeout=_READER_SECONDS):
        raise NoUploadRoom("Too many PDFs are being read just now. Try again.", retry_after=2)
    try:
        yield
    finally:
        _READERS.release()
