"""The checks that providers make of the files in a request, for the fakes. It shares no code with what sends them."""

from __future__ import annotations

import io
import threading
import wave
from base64 import b64decode
from collections.abc import Collection

__all__ = ["IMAGES", "audio_problem", "data_url_problem", "file_problem"]

_BEGINNINGS = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/webp": b"RIFF",
    "image/gif": b"GIF8",
    "application/pdf": b"%PDF-",
    "audio/wav": b"RIFF",
}

_PDFIUM = threading.Lock()
"""PDFium is not for several threads at a time."""

IMAGES = ("image/png", "image/jpeg", "image/webp", "image/gif")


def file_problem(media_type: str, encoded: str, taken: Collection[str], most_bytes: int) -> str | None:
    """Return why a file in Base64 would be refused, or None.

    Args:
        taken: the types that the provider takes.
        most_bytes: of the file.
    """
    if media_type not in taken:
        return f"unsupported MIME type '{media_type}'"
    try:
        data = b64decode(encoded, validate=True)
    except ValueError:
        return "invalid Base64"
    if not data or len(data) > most_bytes:
        return f"a file has 1 to {most_bytes} bytes"
    if not data.startswith(_BEGINNINGS.get(media_type, b"")):
        return f"the file is no valid {media_type}"
    if media_type == "application/pdf":
        return _pdf_problem(data)
    return audio_problem(media_type, data) if media_type.startswith("audio/") else None


def data_url_problem(url: str, taken: Collection[str], most_bytes: int) -> str | None:
    """Return why a ``data:`` URL would be refused, or None."""
    head, _, encoded = url.partition(",")
    if not (head.startswith("data:") and head.endswith(";base64")):
        return "expected a base64-encoded data URL"
    return file_problem(head.removeprefix("data:").removesuffix(";base64"), encoded, taken, most_bytes)


def audio_problem(media_type: str, data: bytes) -> str | None:
    """Return why a recording would be refused, or None."""
    if media_type == "audio/wav":
        try:
            with wave.open(io.BytesIO(data)) as sound:
                return None if sound.getframerate() else "the recording has no speed"
        except (wave.Error, EOFError) as error:
            return f"the recording can't be read: {error}"
    return None if data[:3] == b"ID3" or data[:1] == b"\xff" else "the recording can't be read"


def _pdf_problem(data: bytes) -> str | None:
    import pypdfium2

    try:
        with _PDFIUM:
            pages = len(pypdfium2.PdfDocument(data))
    except pypdfium2.PdfiumError:
        return "The PDF specified was not valid, or is password protected."
    return None if 0 < pages <= 100 else "A maximum of 100 PDF pages may be provided."
