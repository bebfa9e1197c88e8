"""The wall on the server: a store that knows one app's paths and no others.

The Admin SDK bypasses security rules, so code that runs with its credentials is kept to its app here. Everything above
``wiring`` holds a ``ScopedStore``, never an adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from ..errors import ScopeViolation
from ..scope import Scope, split
from .base import Document, DocumentStore, Query, Transaction, Write

__all__ = ["ScopedStore"]

T = TypeVar("T")


class _Wall:
    def __init__(self, scope: Scope) -> None:
        self._root = split(scope.root)

    def check(self, path: str, *, document: bool) -> None:
        segments = split(path)
        inside = segments[: len(self._root)] == self._root
        if not inside or (len(segments) % 2 == 0) is not document:
            raise ScopeViolation(reason=f"{path[:200]!r} is not a path of {'/'.join(self._root)!r}")

    def check_writes(self, writes: Sequence[Write]) -> None:
        for write in writes:
            self.check(write.path, document=True)


class ScopedStore:
    """A :class:`~firelaunch.store.base.DocumentStore` in which only paths of ``scope`` exist.

    Raises (every method): ScopeViolation for any other path, before anything is sent.
    """

    def __init__(self, store: DocumentStore, scope: Scope) -> None:
        self.__store = store
        self.__wall = _Wall(scope)
        self.scope = scope

    def within(self, scope: Scope) -> ScopedStore:
        """The same database behind the narrower wall of ``scope``.

        Raises:
            ScopeViolation: ``scope`` is not inside this one.
        """
        self.__wall.check(scope.root, document=True)
        return ScopedStore(self.__store, scope)

    def check(self, writes: Sequence[Write]) -> None:
        """Refuse ``writes`` that lead out of the scope, without sending any."""
        self.__wall.check_writes(writes)

    def get(self, path: str) -> Document | None:
        """See :meth:`DocumentStore.get <firelaunch.store.base.DocumentStore.get>`."""
        self.__wall.check(path, document=True)
        return self.__store.get(path)

    def get_many(self, paths: Sequence[str]) -> list[Document | None]:
        """See :meth:`DocumentStore.get_many <firelaunch.store.base.DocumentStore.get_many>`."""
        for path in paths:
            self.__wall.check(path, document=True)
        return self.__store.get_many(paths)

    def query(self, query: Query) -> list[Document]:
        """See :meth:`DocumentStore.query <firelaunch.store.base.DocumentStore.query>`."""
        self.__wall.check(query.collection, document=False)
        return self.__store.query(query)

    def count(self, query: Query) -> int:
        """See :meth:`DocumentStore.count <firelaunch.store.base.DocumentStore.count>`."""
        self.__wall.check(query.collection, document=False)
        return self.__store.count(query)

    def read(
        self, paths: Sequence[str], queries: Sequence[Query]
    ) -> tuple[list[Document | None], list[list[Document]]]:
        """See :meth:`DocumentStore.read <firelaunch.store.base.DocumentStore.read>`."""
        for path in paths:
            self.__wall.check(path, document=True)
        for query in queries:
            self.__wall.check(query.collection, document=False)
        return self.__store.read(paths, queries)

    def commit(self, writes: Sequence[Write]) -> datetime:
        """See :meth:`DocumentStore.commit <firelaunch.store.base.DocumentStore.commit>`."""
        self.__wall.check_writes(writes)
        return self.__store.commit(writes)

    def transaction(self, work: Callable[[Transaction], T]) -> T:
        """See :meth:`DocumentStore.transaction <firelaunch.store.base.DocumentStore.transaction>`."""
        return self.__store.transaction(lambda raw: work(_ScopedTransaction(raw, self.__wall)))

    def delete_tree(self, path: str) -> int:
        """See :meth:`DocumentStore.delete_tree <firelaunch.store.base.DocumentStore.delete_tree>`."""
        self.__wall.check(path, document=len(path.split("/")) % 2 == 0)
        return self.__store.delete_tree(path)

    def close(self) -> None:
        """See :meth:`DocumentStore.close <firelaunch.store.base.DocumentStore.close>`."""
        self.__store.close()


class _ScopedTransaction:
    def __init__(self, raw: Transaction, wall: _Wall) -> None:
        self.__raw = raw
        self.__wall = wall

    def get(self, path: str) -> Document | None:
        self.__wall.check(path, document=True)
        return self.__raw.get(path)

    def query(self, query: Query) -> list[Document]:
        self.__wall.check(query.collection, document=False)
        return self.__raw.query(query)

    def write(self, *writes: Write) -> None:
        self.__wall.check_writes(writes)
        self.__raw.write(*writes)
