"""Erase the traces of a user's documents outside the database: files, and entries in the indexes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..rag.files import CLIENTS_FOLDERS
from ..rag.index.scoped import ScopedIndex
from ..scope import Scope
from ..store.scoped import ScopedStore
from .catalog import Documents

__all__ = ["DocumentTraces"]


@dataclass(frozen=True, slots=True)
class DocumentTraces:
    """The traces of documents, in the form of :class:`~firelaunch.worker.tasks.erase.Traces`.

    Erase them before the documents' records: the records name the files.
    """

    store: ScopedStore
    documents: Documents

    def count(self, user: Scope) -> Mapping[str, int]:
        """Return the number of entries that the indexes hold."""
        return {"index_entries": sum(index.count(user, version) for index, version in self._indexes())}

    def erase(self, user: Scope) -> None:
        """Remove the entries, the documents' files, and the files that the user's clients uploaded."""
        documents = [*self.store.ids(user.documents()), *self.store.ids(user.record_texts())]
        for document in documents:
            self.documents.raise_fence(user, document)
        for index, _ in self._indexes():
            index.delete(user)
        files = self.documents.files(user)
        for document in documents:
            files.delete(user.document(document))
        for folder in CLIENTS_FOLDERS:
            files.delete(f"{user.root}/{folder}")
        self.documents.incoming.erase(user)
        files.delete(user.root)  # in Cloud Storage, this removes everything below

    def _indexes(self) -> Iterator[tuple[ScopedIndex, str]]:
        state = self.documents.versions.state()
        for version in state.all if state is not None else ():
            yield self.documents.engine(version).index, version.id
