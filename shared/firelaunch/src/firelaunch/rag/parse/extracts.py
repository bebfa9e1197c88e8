"""Files that a document holds, such as a mail's attachments, as blocks of Base64 on the way out of the sandbox."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from io import BytesIO

from .base import Draft, Extract, ParseLimits, Unreadable
from .omissions import Omission

__all__ = ["MOST_EXTRACTS", "content_of", "drafts"]

MOST_EXTRACTS = 50
"""The most files that are taken out of one document."""


def drafts(extracts: Iterable[Extract], limits: ParseLimits) -> Iterator[Draft | Omission]:
    """Yield the files that can be read, each as a draft with its number as page and its name as heading.

    What cannot be read is counted at the end.
    """
    from .sniff import sniff

    total = left_out = 0
    for extract in extracts:
        total += 1
        try:
            if total > MOST_EXTRACTS or sniff(BytesIO(extract.content), _extension(extract.name), limits) == "picture":
                raise Unreadable("unsupported")
        except Unreadable:
            left_out += 1
            continue
        yield Draft(b64encode(extract.content).decode(), "code", total, (extract.name,))
    if left_out:
        yield Omission("attachments", left_out, total)


def content_of(text: str) -> bytes:
    """Return a block's bytes. Blocks end where Base64 can be cut, as their size is a multiple of four.

    Raises:
        ValueError: it is no Base64.
    """
    return b64decode(text, validate=True)


def _extension(name: str) -> str:
    return name.rpartition(".")[2].lower() if "." in name else ""
