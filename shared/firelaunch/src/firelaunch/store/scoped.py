"""The wall around one app's data on the server: a store that accepts the app's paths and no others.

The Admin SDK bypasses security rules. So this store keeps code that runs with its credentials within its app. Only
:mod:`firelaunch.services.build` sees an adapter; all other code gets a ``ScopedStore``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from ..errors import AlreadyExists, NotFound, OutsideTransaction, PreconditionFailed, ScopeViolation
from ..scope import Scope, split
from ..telemetry.names import BATCH_SIZE, COLLECTION, DB_OPERATION
from ..telemetry.spans import span
from .base import Create, Delete, Document, DocumentStore, Query, Set, Transaction, Update, Verify, Write
from .fence import Erasable, UserField
from .guard import Guard
from .observers import Observer, changes_of

__all__ = ["ScopedStore"]

T = TypeVar("T")

_IN_TRANSACTION: ContextVar[bool] = ContextVar("in_transaction", default=False)
"""Whether this code runs inside a transaction, where a write by the store itself would not be a part of it."""

_AUDIT = "audit"
"""The collection that documents are only added to."""

_COPIES: Mapping[type[Write], Callable[[Any], Write]] = {
    Create: lambda write: Create(write.path, write.data),
    Set: lambda write: Set(write.path, write.data, write.merge),
    Update: lambda write: Update(write.path, write.data, write.if_updated_at),
    Delete: lambda write: Delete(write.path, write.if_updated_at),
    Verify: lambda write: Verify(write.path, write.updated_at),
}
"""Functions that copy writes. ``copy.copy`` is ten times slower, and each message has several writes to check."""


_OF_GET, _OF_QUERY, _OF_READ, _OF_COMMIT, _OF_TRANSACTION = (
    {DB_OPERATION: name} for name in ("get", "query", "read", "commit", "transaction")
)


@contextmanager
def _inside_transaction() -> Iterator[None]:
    token = _IN_TRANSACTION.set(True)
    try:
        yield
    finally:
        _IN_TRANSACTION.reset(token)


def _check_outside_transaction() -> None:
    if _IN_TRANSACTION.get():
        raise OutsideTransaction


class _Wall:
    """Checks paths, queries and writes, and returns checked copies.

    Types are compared exactly and objects are copied, so that the database gets exactly the objects that were checked:
    a subclass might show one path to the wall and another one to the adapter.
    """

    def __init__(self, scope: Scope) -> None:
        self._root = split(Scope.plain(scope).root)
        self._erasure = None if scope.uid is None else Scope.plain(scope).erasure()

    def check(self, path: str, *, document: bool) -> str:
        self._segments(path, document=document)
        return path

    def _segments(self, path: str, *, document: bool) -> list[str]:
        segments = split(path)
        inside = segments[: len(self._root)] == self._root
        if not inside or (len(segments) % 2 == 0) is not document:
            raise ScopeViolation(reason=f"{path[:200]!r} is not a path of {'/'.join(self._root)!r}")
        return segments

    def check_paths(self, paths: Sequence[str]) -> list[str]:
        """Check paths to read together. The record of the user's own erasure may be among them."""
        return [path if path == self._erasure else self.check(path, document=True) for path in paths]

    def check_query(self, query: Query) -> Query:
        if type(query) is not Query:
            raise ScopeViolation(reason=f"a {type(query).__name__} is no query")
        own = copy(query)
        self.check(own.collection, document=False)
        return own

    def check_writes(self, writes: Sequence[Write]) -> list[Write]:
        own = []
        for write in writes:
            copied = _COPIES.get(type(write))
            if copied is None:
                raise ScopeViolation(reason=f"a {type(write).__name__} is no write")
            own.append(copied(write))
            segments = self._segments(own[-1].path, document=True)
            if segments[2:3] == [_AUDIT] and type(write) is not Create:
                raise ScopeViolation(reason=f"an entry of the audit log is not changed: {own[-1].path[:200]!r}")
        return own

    def check_tree(self, path: str) -> str:
        segments = split(self.check(path, document=len(split(path)) % 2 == 0))
        if len(segments) < 3 or segments[2] == _AUDIT:
            raise ScopeViolation(reason=f"{path[:200]!r} holds the audit log, which stays")
        return path


class ScopedStore:
    """A :class:`~firelaunch.store.base.DocumentStore` in which only paths of ``scope`` exist.

    One more can be read, by :meth:`get_many` and :meth:`read`: the record of the user's own erasure, which bounds what
    the user may use. Every method raises ScopeViolation for any other path, before anything is sent.
    """

    def __init__(
        self,
        store: DocumentStore,
        scope: Scope,
        erasable: Erasable | None = None,
        observers: list[Observer] | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.__store = store
        self.__wall = _Wall(scope)
        self.__erasable = erasable or Erasable(scope.app_id)
        self.__observers: list[Observer] = [] if observers is None else observers
        self.__guard = guard
        self.scope = scope

    def within(self, scope: Scope, guard: Guard | None = None) -> ScopedStore:
        """Return the same database behind the narrower wall of ``scope``.

        Args:
            guard: what each access depends on. None keeps the guard of this store, if it has one.

        Raises:
            ScopeViolation: ``scope`` is not inside this one.
        """
        own = Scope.plain(scope)
        self.__wall.check(own.root, document=True)
        return ScopedStore(self.__store, own, self.__erasable, self.__observers, guard or self.__guard)

    @property
    def user_fields(self) -> Sequence[UserField]:
        """The fields of the app's own collections that name users. An erasure finds users by them."""
        return self.__erasable.user_fields

    def declare_users(self, fields: Sequence[UserField]) -> None:
        """Set the :attr:`user_fields` of this store and of all that are made :meth:`within` it.

        Raises:
            ScopeViolation: this store is not the whole app's.
        """
        if self.scope.uid is not None:
            raise ScopeViolation(reason=f"{self.scope.root} declared the fields of the whole app")
        self.__erasable.user_fields = tuple(fields)

    def observe(self, observer: Observer) -> None:
        """Have ``observer`` add its writes to the commits of this store and of all that are made :meth:`within` it.

        Raises:
            ScopeViolation: this store is not the whole app's.
        """
        if self.scope.uid is not None:
            raise ScopeViolation(reason=f"an observer of {self.scope.root}")
        self.__observers.append(observer)

    def check(self, writes: Sequence[Write]) -> list[Write]:
        """Refuse ``writes`` that lead out of the scope, without sending any.

        Returns:
            checked copies. Use these: the objects in ``writes`` may change after the check.
        """
        return self.__wall.check_writes(writes)

    def get(self, path: str) -> Document | None:
        """Return the document, or None. See :class:`~firelaunch.store.base.DocumentStore`."""
        with span("get", _OF_GET):
            own = self.__wall.check(path, document=True)
            return self.__store.get(own) if self.__guard is None else self.__guard.read(self.__store, [own], [])[0][0]

    def get_many(self, paths: Sequence[str]) -> list[Document | None]:
        """Return the documents in the order of ``paths``. See :class:`~firelaunch.store.base.DocumentStore`."""
        with span("get", _OF_GET):
            own = self.__wall.check_paths(paths)
            return self.__store.get_many(own) if self.__guard is None else self.__guard.read(self.__store, own, [])[0]

    def query(self, query: Query) -> list[Document]:
        """Return the documents that match. See :class:`~firelaunch.store.base.DocumentStore`."""
        own = self.__wall.check_query(query)
        with span("query", _OF_QUERY) as part:
            part.set(COLLECTION, own.collection.rpartition("/")[2])
            return self.__store.query(own) if self.__guard is None else self.__guard.read(self.__store, [], [own])[1][0]

    def count(self, query: Query) -> int:
        """Return the number of documents that match. See :class:`~firelaunch.store.base.DocumentStore`."""
        own = self.__wall.check_query(query)
        self.__check_member()
        return self.__store.count(own)

    def ids(self, collection: str) -> Iterator[str]:
        """Yield the ids of a collection's documents. See :class:`~firelaunch.store.base.DocumentStore`."""
        own = self.__wall.check(collection, document=False)
        self.__check_member()
        return self.__store.ids(own)

    def collections(self, document: str) -> Iterator[str]:
        """Yield the ids of the collections below a document. See :class:`~firelaunch.store.base.DocumentStore`."""
        own = self.__wall.check(document, document=True)
        self.__check_member()
        return self.__store.collections(own)

    def read(
        self, paths: Sequence[str], queries: Sequence[Query]
    ) -> tuple[list[Document | None], list[list[Document]]]:
        """Run ``get_many`` and the queries in parallel. See :class:`~firelaunch.store.base.DocumentStore`."""
        own = [self.__wall.check_query(query) for query in queries]
        with span("read", _OF_READ):
            own_paths = self.__wall.check_paths(paths)
            reader = self.__store.read if self.__guard is None else partial(self.__guard.read, self.__store)
            return reader(own_paths, own)

    def commit(self, writes: Sequence[Write], *, leaving: Scope | None = None) -> datetime:
        """Apply all writes or none. See :meth:`DocumentStore.commit <firelaunch.store.base.DocumentStore.commit>`.

        Args:
            leaving: a user whose documents move to another one. No observer hears of what changes in that user's part.

        Raises:
            Fenced: a write creates data of a user who was erased after this work began.
            OutsideTransaction: this is called inside a transaction's work.
        """
        _check_outside_transaction()
        own = self.__wall.check_writes(writes)
        heard = own if leaving is None else [write for write in own if not write.path.startswith(f"{leaving.root}/")]
        own += self.__observed(heard, {})
        users = self.__fences(own)
        with span("commit", _OF_COMMIT) as part:
            part.set(BATCH_SIZE, len(own))
            if self.__guard is None:
                return self.__commit(own, users, [])
            return self.__guard.commit(self.__store, lambda conditions: self.__commit(own, users, conditions))

    def __commit(self, own: list[Write], users: list[str], conditions: list[Verify]) -> datetime:
        if not users:
            return self.__store.commit([*conditions, *own])
        return self.__erasable.run(
            self.__store, users, lambda of_users: self.__store.commit([*conditions, *of_users, *own])
        )

    def __fences(self, writes: Sequence[Write]) -> list[str]:
        """Return the paths of the fences that a commit of ``writes`` has to verify."""
        users = self.__erasable.users(writes)
        if self.__guard is None or self.__guard.fence in users or not writes:
            return users
        return [*users, self.__guard.fence]

    def __check_member(self) -> None:
        """Check the guard, if there is one, before a read that cannot check it by itself."""
        if self.__guard is not None:
            self.__guard.read(self.__store, [], [])

    def __observed(self, writes: Sequence[Write], known: Mapping[str, Document | None]) -> list[Write]:
        """Return what the observers add to a commit of ``writes``."""
        if not self.__observers:
            return []
        return [
            added
            for observer in self.__observers
            if (changes := changes_of(writes, observer.watches, self.__store.get_many, known))
            for added in observer.writes(changes)
        ]

    def transaction(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` and commit its writes. See :class:`~firelaunch.store.base.DocumentStore`.

        Raises:
            Fenced: a write creates data of a user who was erased after this work began.
            OutsideTransaction: this is called inside another transaction's work.
        """
        _check_outside_transaction()
        users: list[str] = []

        def attempt(conditions: list[Verify]) -> T:
            def checked(raw: Transaction) -> T:
                own = _ScopedTransaction(raw, self.__wall)
                member = None
                if self.__guard is not None:
                    member = self.__guard.member_of([raw.get(path) for path in self.__guard.paths])
                    self.__guard.check(member, False)
                with _inside_transaction():
                    result = work(own)
                if self.__guard is not None and own.writes:
                    self.__guard.check(member, True)
                observed = self.__observed(own.writes, own.read)
                raw.write(*observed)
                users[:] = self.__fences([*own.writes, *observed])
                # The first attempt verifies that no user has an erasure; a repeated one, what `Erasable` has read.
                by_path = {condition.path: condition for condition in conditions}
                raw.write(*(by_path.get(path, Verify(path, None)) for path in users))
                return result

            return self.__store.transaction(checked)

        with span("transaction", _OF_TRANSACTION):
            try:
                return attempt([])
            except (AlreadyExists, NotFound, PreconditionFailed):
                if not users:
                    raise
                return self.__erasable.run(self.__store, users, attempt)

    def delete_tree(self, path: str) -> int:
        """Remove a document or collection and everything below. See :class:`~firelaunch.store.base.DocumentStore`.

        Raises:
            ScopeViolation: the path is out of the scope, or holds the app's audit log.
            OutsideTransaction: this is called inside a transaction's work.
        """
        _check_outside_transaction()
        own = self.__wall.check_tree(path)
        if self.__guard is not None:
            raise ScopeViolation(reason=f"{path[:200]!r} is to be removed for a member of a group")
        return self.__store.delete_tree(own)

    def tree(self, path: str) -> Iterator[str]:
        """Yield the paths of a document and everything below. See :class:`~firelaunch.store.base.DocumentStore`."""
        own = self.__wall.check(path, document=len(split(path)) % 2 == 0)
        self.__check_member()
        return self.__store.tree(own)

    def scrub(self) -> None:
        """Erase removed data from this machine's files. See :class:`~firelaunch.store.base.DocumentStore`."""
        self.__store.scrub()

    def close(self) -> None:
        """Close the connections. See :class:`~firelaunch.store.base.DocumentStore`."""
        self.__store.close()


class _ScopedTransaction:
    def __init__(self, raw: Transaction, wall: _Wall) -> None:
        self.__raw = raw
        self.__wall = wall
        self.writes: list[Write] = []
        self.read: dict[str, Document | None] = {}

    def get(self, path: str) -> Document | None:
        document = self.__raw.get(self.__wall.check(path, document=True))
        self.read[path] = document
        return document

    def query(self, query: Query) -> list[Document]:
        return self.__raw.query(self.__wall.check_query(query))

    def write(self, *writes: Write) -> None:
        own = self.__wall.check_writes(writes)
        self.writes += own
        self.__raw.write(*own)

    def on_commit(self, listener: Callable[[datetime], None]) -> None:
        self.__raw.on_commit(listener)
