"""The fence around a document's entries and files: its record decides which writes of them still land.

Whoever deletes, replaces or gives up a document *raises* the fence: one commit changes the document's record. Whoever
writes entries or files of it holds a :class:`Fence`, made from the record as the writer read it. An index in the same
database puts :attr:`Fence.condition` into the commit of its entries; an index or a folder with a lock of its own calls
:meth:`Fence.check` while it holds the lock. Either way nothing is written once the fence is raised, however late the
writer wakes up. docs/adr/0025 says how each backend does it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ..errors import Fenced
from .base import Document, DocumentStore, Verify

__all__ = ["Fence"]


class Fence:
    """What a write depends on: that ``record`` still allows it. For one writer, which uses it from one thread.

    Args:
        record: path of the document's record.
        updated_at: the record's ``update_time`` as the writer read it; None where it was not there.
    """

    def __init__(self, store: DocumentStore, record: str, updated_at: datetime | None) -> None:
        self._store = store
        self._record = record
        self._updated_at = updated_at
        self._allows: Callable[[Document | None], bool] = self._is_unchanged

    @classmethod
    def while_it(cls, allows: Callable[[Document | None], bool], store: DocumentStore, record: Document) -> Fence:
        """A fence that stands as long as ``allows`` says so of the record, however else that changes.

        Raises:
            Fenced: it does not, of the record as it was read.
        """
        fence = cls(store, record.path, record.update_time)
        fence._allows = allows
        fence._take_up(record)
        return fence

    @property
    def condition(self) -> Verify:
        """The condition for a commit in the record's own database. Where it fails, call :meth:`check` and try again."""
        return Verify(self._record, self._updated_at)

    def check(self) -> None:
        """Read the record.

        Raises:
            Fenced: it does not allow the write (any more).
        """
        self._take_up(self._store.get(self._record))

    def _take_up(self, found: Document | None) -> None:
        if not self._allows(found):
            raise Fenced(reason=f"the record {self._record} was deleted, replaced or given up")
        self._updated_at = None if found is None else found.update_time

    def _is_unchanged(self, found: Document | None) -> bool:
        return self._updated_at == (None if found is None else found.update_time)
