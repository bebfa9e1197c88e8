"""Rewrite the records that older versions of their models wrote, in the background, while the app goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import BadRequest, RecordUnreadable
from ..scope import Scope
from ..store.base import Document, Query
from ..store.passes import PASS_PAGE, WHOLE, Share, pages, rewrite
from ..store.scoped import ScopedStore
from .collection import Collection
from .mapper import RecordMapper, version_of

__all__ = ["Migration", "Position"]

Position = tuple[str, str, str]
"""Where a pass stands: the collection's name, the user's id (empty for the app) and the id of the last record."""


@dataclass(slots=True)
class Migration:
    """The rewriting of one app's records. You may kill it at any point, and start it again.

    Args:
        store: the app's store.
        collections: the collections to rewrite.

    Attributes:
        rewritten: the number of records that were rewritten.
        refused: the records that could not be rewritten, each with its reason.
    """

    store: ScopedStore
    collections: Sequence[Collection[Any]]
    rewritten: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)

    def outdated(self, share: Share = WHOLE) -> int:
        """Return the number of records of older versions. This reads every record."""
        return sum(
            version_of(document) < mapper.collection.version
            for _, mapper, page in self._pages(share, None)
            for document in page
        )

    def run(
        self, share: Share = WHOLE, after: Position | None = None, check: Callable[[], None] = lambda: None
    ) -> Iterator[Position]:
        """Rewrite the records, and yield the position after each page.

        Args:
            after: a position of an earlier pass, to go on from.
            check: is called before each record. Its error ends the pass.
        """
        for position, mapper, page in self._pages(share, after):
            for document in page:
                check()
                if version_of(document) < mapper.collection.version:
                    self._rewrite(mapper, document)
            yield position

    def _rewrite(self, mapper: RecordMapper[Any], document: Document) -> None:
        def changes(current: Document) -> Any:
            if version_of(current) >= mapper.collection.version:
                return None
            record = mapper.read(current)
            return mapper.update(record, record.updated_at).data

        try:
            if rewrite(self.store, document, changes) is not None:
                self.rewritten += 1
        except (BadRequest, RecordUnreadable) as error:
            self.refused.append((document.path, error.reason or error.message))

    def _pages(
        self, share: Share, after: Position | None
    ) -> Iterator[tuple[Position, RecordMapper[Any], list[Document]]]:
        for collection in sorted(self.collections, key=lambda each: each.name):
            for scope in self._scopes(collection, share):
                here = (collection.name, scope.uid or "")
                if after is not None and here < after[:2]:
                    continue
                start = after[2] if after is not None and here == after[:2] else None
                for page in pages(self._reader(scope.records(collection.name)), start):
                    yield (*here, page[-1].id), RecordMapper(collection, scope), page

    def _reader(self, path: str) -> Callable[[str | None], list[Document]]:
        def read(after: str | None) -> list[Document]:
            return self.store.query(Query(path, limit=PASS_PAGE, after=None if after is None else (after,)))

        return read

    def _scopes(self, collection: Collection[Any], share: Share) -> Iterator[Scope]:
        app = Scope(self.store.scope.app_id)
        if collection.owner == "app":
            if share.holds_name(collection.name):
                yield app
            return
        owners = app.groups() if collection.owner == "group" else app.users()
        for name in self.store.ids(owners):
            if share.holds_name(name):
                yield app.of_group(name) if collection.owner == "group" else app.of(name)
