"""Keep the searchable fields of the app's own records in the index, as documents that no upload made.

Each written record sets off an event of firelaunch's own (:func:`search_events`), which adds the document again. The
document's job (:mod:`.ingestion`) reads the record as it is by then, so events may come late, repeatedly and in any
order. A record that is gone takes its document along.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ...documents.catalog import DocumentSource
from ...events import PathPattern
from ...jobs.base import Kind
from ...records.data import Data
from ..event_handlers import EventHandler, WriteEvent, WrittenDocument

if TYPE_CHECKING:
    from ...rag.parse.base import Block
    from ...records.collection import Collection

__all__ = ["RecordText", "read_text", "search_events"]

_TITLE_CHARACTERS = 120
_KIND_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class RecordText:
    """The text of a record that searches find, with the title of its passages."""

    title: str
    blocks: Iterable[Block]


def read_text(data: Data, collections: Sequence[Collection[Any]], record: Mapping[str, str]) -> RecordText | None:
    """Return the text of a record as it is now; None if it is gone, or if its collection is not searchable any more.

    Args:
        record: the record's "collection" and "id".

    Raises:
        RecordUnreadable: the record does not fit its model.
    """
    from ...rag.parse.base import Draft, place
    from ...records.searchable import searchable_texts

    by_name = {collection.name: collection for collection in collections if collection.searchable}
    collection = by_name.get(record["collection"])
    found = None if collection is None else data(collection).find(record["id"])
    if collection is None or found is None:
        return None
    texts = list(searchable_texts(found, collection.searchable))
    title = " ".join(texts[0].split())[:_TITLE_CHARACTERS] if texts else collection.name
    return RecordText(title, place(Draft(text) for text in texts))


def search_events(collections: Sequence[Collection[Any]]) -> Iterator[EventHandler]:
    """Yield a handler for each collection with searchable fields, which has its written records indexed."""
    for collection in collections:
        if collection.searchable:
            kind = Kind(_kind_name(collection.name), WrittenDocument)
            pattern = PathPattern.of(f"{collection.name}/{{record}}")
            yield EventHandler(kind, "write", pattern, _Indexing(collection))


def _kind_name(collection: str) -> str:
    name = f"search_{collection}"
    if len(name) <= _KIND_CHARACTERS:
        return name
    return f"{name[: _KIND_CHARACTERS - 9]}_{sha256(collection.encode()).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True)
class _Indexing:
    """The function of such a handler."""

    collection: Collection[Any]

    def __call__(self, event: WriteEvent) -> None:
        if self._is_same(event.before, event.after):
            return
        record = (self.collection.name, event.names["record"])
        event.run.services.documents.add(event.scope, DocumentSource("record", self.collection.name, record=record))

    def _is_same(self, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> bool:
        """Return whether a change left everything as it was that searches find, as a count of likes does."""
        if before is None or after is None:
            return False
        names = {name.partition(".")[0] for name in self.collection.searchable} | {"schema_version"}
        return all(before.get(name) == after.get(name) for name in names)
