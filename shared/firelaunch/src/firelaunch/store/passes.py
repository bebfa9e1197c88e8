"""Pass over many documents: in pages, in shares for several processes, and without losing what others write meanwhile.

A pass changes only documents that still need it. So it may be killed at any point and started again, and several
processes may run it at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from ..errors import NotFound, PreconditionFailed
from .base import Document, Update
from .scoped import ScopedStore

__all__ = ["PASS_PAGE", "WHOLE", "Share", "pages", "rewrite"]

PASS_PAGE: Final = 200
"""The number of documents that are read at a time."""

_KEYS = 1 << 32
_HEX = 8


@dataclass(frozen=True, slots=True)
class Share:
    """One share of the work: ``number`` of ``of``, from 0.

    Each key, which begins with hexadecimal digits, is in one share.

    Raises:
        ValueError: there is no such share.
    """

    number: int = 0
    of: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.of:
            raise ValueError(f"there is no share {self.number} of {self.of}")

    @property
    def first(self) -> str:
        """The position that all of the share's keys come after."""
        return f"{_KEYS * self.number // self.of:0{_HEX}x}"

    def holds(self, key: str) -> bool:
        """Return whether a key belongs to the share."""
        return _KEYS * self.number // self.of <= int(key[:_HEX], 16) < _KEYS * (self.number + 1) // self.of

    def holds_name(self, name: str) -> bool:
        """Return whether a name of any form, such as a user's id, belongs to the share."""
        return self.holds(sha256(name.encode()).hexdigest())


WHOLE: Final = Share()
"""All of the work."""


def pages(read: Callable[[str | None], list[Document]], after: str | None = None) -> Iterator[list[Document]]:
    """Yield pages of documents by their ids.

    Args:
        read: returns the ``PASS_PAGE`` documents after an id, or the first ones for None.
        after: the id to go on from.
    """
    while page := read(after):
        yield page
        if len(page) < PASS_PAGE:
            return
        after = page[-1].id


def rewrite(
    store: ScopedStore, document: Document, changes: Callable[[Document], Mapping[str, Any] | None]
) -> Document | None:
    """Change a document. If another writer came first, read it and compute the changes again.

    Args:
        changes: returns the fields to change; None if the document needs no change.

    Returns:
        the document as it was last read; None if it was deleted meanwhile.
    """
    current: Document | None = document
    while current is not None and (fields := changes(current)) is not None:
        try:
            store.commit([Update(current.path, fields, if_updated_at=current.update_time)])
        except (PreconditionFailed, NotFound):
            current = store.get(current.path)
        else:
            return current
    return current
