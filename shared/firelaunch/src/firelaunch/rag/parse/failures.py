"""The messages for users about files that cannot be read, each with the way to fix it."""

from __future__ import annotations

from ...errors import DocumentUnreadable
from .base import ParseLimits

__all__ = ["MESSAGES", "failure"]

MESSAGES = {
    "empty": "This file is empty. Check that it was saved, and upload it again.",
    "no_text": "This PDF holds no text; it may be a scan. Run text recognition (OCR) on it and upload it again.",
    "nothing_found": "This file holds no text that can be read. Upload one that does.",
    "encrypted": "This file is protected by a password. Remove the password and upload it again.",
    "damaged": "This file is damaged or incomplete. Save it anew and upload it again.",
    "crashed": "This file cannot be read: reading it failed badly. Save it anew, or as PDF, and upload it again.",
    "old_word": "This is a file of an old version of Word. Save it as DOCX and upload it again.",
    "old_powerpoint": "This is a file of an old version of PowerPoint. Save it as PPTX and upload it again.",
    "old_office": "This is a file of an old Office version. Save it as DOCX, XLSX or PPTX and upload it again.",
    "iwork": "This is a file of Pages, Numbers or Keynote. Export it as DOCX, XLSX, PPTX or PDF and upload that.",
    "picture": "This is a picture, and text in pictures is not read here. Upload its text, or a PDF that holds it.",
    "archive": "This is an archive. Unpack it and upload the files that it holds.",
    "unsupported": "Files of this kind cannot be read. Upload PDF, DOCX, PPTX, XLSX, HTML, Markdown, text, CSV, JSON, "
    "mails (EML, MSG), EPUB, OpenDocument, RTF, XLS, notebooks, XML or TeX.",
    "too_large": "This file is too large: {file_mb} MB is the most. Split it and upload the parts.",
    "unpacks_too_large": "This file unpacks to more than is allowed. Split it and upload the parts.",
    "too_much_text": "This file holds more than {characters:,} characters of text. Split it and upload the parts.",
    "too_many_pages": "This PDF has more pages than can be read. Split it and upload the parts.",
    "too_deep": "This file's data is nested too deeply to be read. Flatten it and upload it again.",
    "too_much_memory": "Reading this file takes more memory than is allowed. Split it and upload the parts.",
    "too_slow": "Reading this file takes too long. Split it, or save it anew, and upload it again.",
}
"""The sentence for each problem. Users see it, so it holds nothing from the file."""


def failure(problem: str, limits: ParseLimits, detail: str = "") -> DocumentUnreadable:
    """Return the error for a problem, a key of ``MESSAGES``; ``detail`` is for the log."""
    message = MESSAGES[problem].format(file_mb=limits.file_bytes // 2**20, characters=limits.text_characters)
    return DocumentUnreadable(problem, message, reason=f"{problem}: {detail}" if detail else problem)
