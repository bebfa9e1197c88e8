"""Warnings about what a parser left out of a document's text, with their messages for users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["MESSAGES", "Omission"]

MESSAGES: Final = {
    "picture_pages": (
        "{count} of {total} pages is a picture. Run text recognition (OCR) on the file and upload it again.",
        "{count} of {total} pages are pictures. Run text recognition (OCR) on the file and upload it again.",
    ),
    "attachments": (
        "{count} of {total} attachments was not read. Upload it by itself, in a form that can be read.",
        "{count} of {total} attachments were not read. Upload them by themselves, in a form that can be read.",
    ),
    "picture_slides": (
        "{count} of {total} slides is a picture, whose text was not read.",
        "{count} of {total} slides are pictures, whose text was not read.",
    ),
    "damaged_pages": (
        "{count} of {total} pages is damaged and was not read. Save the file anew and upload it again.",
        "{count} of {total} pages are damaged and were not read. Save the file anew and upload it again.",
    ),
    "dynamic_form": (
        "This PDF is a dynamic form (XFA), whose fields were not read. Print it to PDF and upload that.",
        "This PDF is a dynamic form (XFA), whose fields were not read. Print it to PDF and upload that.",
    ),
    "comments": (
        "{count} comment was not read. Put it into the text if it belongs there.",
        "{count} comments were not read. Put them into the text if they belong there.",
    ),
    "formulas_without_values": (
        "{count} cell has a formula without a saved value. Open the file in a spreadsheet program, save it, and "
        "upload it again.",
        "{count} cells have formulas without saved values. Open the file in a spreadsheet program, save it, and "
        "upload it again.",
    ),
    "hidden_text": (
        "{count} part of this page is hidden from readers and was not read.",
        "{count} parts of this page are hidden from readers and were not read.",
    ),
}
"""The sentences for each code, for one and for several. Users see them, so they hold nothing from the file but counts.

A code is part of the HTTP API: it is never renamed.
"""


@dataclass(frozen=True, slots=True)
class Omission:
    """Something of a file that is not in the document's text.

    Args:
        code: a key of ``MESSAGES``.
        count: how many pages, cells and so on were left out, at least one.
        total: how many there are, for codes whose messages say "3 of 4".
    """

    code: str
    count: int = 1
    total: int = 0

    @property
    def message(self) -> str:
        """The sentence for the user."""
        one, several = MESSAGES[self.code]
        return (one if self.count == 1 else several).format(count=f"{self.count:,}", total=f"{self.total:,}")
