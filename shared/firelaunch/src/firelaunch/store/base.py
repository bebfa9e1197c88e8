"""The port to a document database, with Firestore's semantics. The adapters are for SQLite and Firestore.

Values are ``None``, ``bool``, ``int`` (64 bit), ``float``, ``str``, ``bytes``, ``datetime`` (aware, kept in UTC to the
microsecond), lists and string-keyed dicts of those. A path alternates collection and document ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Protocol, TypeVar

__all__ = [
    "DELETE_FIELD",
    "EQUALITIES",
    "MAX_WRITES",
    "SERVER_TIME",
    "Create",
    "Delete",
    "Document",
    "DocumentStore",
    "Filter",
    "GeoPoint",
    "Increment",
    "Op",
    "Order",
    "Query",
    "Reference",
    "Set",
    "Transaction",
    "TreeStore",
    "Update",
    "Vector",
    "Verify",
    "Write",
    "ordering",
]

T = TypeVar("T")
Op = Literal["==", "!=", "<", "<=", ">", ">=", "in", "array_contains"]

EQUALITIES: Final = frozenset({"==", "in", "array_contains"})
"""The comparisons that leave the order of what is found free."""

MAX_WRITES: Final = 500
"""The most writes in one commit. It keeps within older Firestore quotas, and retries stay small."""


class _Sentinel:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


SERVER_TIME: Final = _Sentinel("SERVER_TIME")
"""A field's value in a write: the commit's time, to the millisecond or better. It may differ from ``update_time``."""

DELETE_FIELD: Final = _Sentinel("DELETE_FIELD")
"""A field's value in an update or a merging set: it removes the field."""


@dataclass(frozen=True, slots=True)
class Increment:
    """A field's value in a write: it adds ``by`` to the current number, or to 0 if there is no number."""

    by: int


@dataclass(frozen=True, slots=True)
class Vector:
    """Firestore's own type for an embedding. A walk may yield one. SQLite stores none."""

    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GeoPoint:
    """Firestore's own type for a place, in degrees. Clients may have written one. SQLite stores none."""

    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class Reference:
    """Firestore's own type for a reference to a document's path. Clients may have written one. SQLite stores none."""

    path: str


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it was read. Use ``update_time`` as the precondition of a later write."""

    path: str
    data: Mapping[str, Any]
    create_time: datetime
    update_time: datetime

    @property
    def id(self) -> str:
        """The last segment of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Create:
    """Write a document that must not exist yet; otherwise the commit fails with ``AlreadyExists``."""

    path: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Set:
    """Write a whole document, new or not. With ``merge``, write only the given fields (dicts merge field by field)."""

    path: str
    data: Mapping[str, Any]
    merge: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """Change fields of a document that must exist; otherwise the commit fails with ``NotFound``.

    A key may be a dotted field path ("reservations.r1"). Its parts are plain identifiers (letters, digits, "_").
    With ``if_updated_at``, the commit fails with ``PreconditionFailed`` if the document has changed since it was read.
    """

    path: str
    data: Mapping[str, Any]
    if_updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove one document, but not the documents below it. Nothing happens if it does not exist.

    With ``if_updated_at``, the commit fails with ``PreconditionFailed`` if the document has changed since it was read.
    """

    path: str
    if_updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Verify:
    """Change nothing, but make the commit fail with ``PreconditionFailed`` if the document has changed.

    Args:
        updated_at: the ``update_time`` that the document must have; None if it must not exist.
    """

    path: str
    updated_at: datetime | None


Write = Create | Set | Update | Delete | Verify


@dataclass(frozen=True, slots=True)
class Filter:
    """Select documents by comparing ``field`` with ``value``. Only values of the same type match, as in Firestore.

    "array_contains" selects those whose ``field`` is a list with ``value`` in it. They come by id: another order, or an
    inequality, would need an index of lists, which is not supported here.
    """

    field: str
    op: Op
    value: Any


@dataclass(frozen=True, slots=True)
class Order:
    """Sort by ``field``. Documents without the field are left out, as in Firestore. Ties are sorted by document id."""

    field: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A query over the documents that are directly in one collection.

    ``after`` is the position to go on from: the values of the ``order`` fields of the last document read, then its id.
    Without ``order``, documents come by id, and ``after`` is ``(id,)``. With an inequality, they come by its field
    first. Order only by fields that hold numbers, times, strings and bytes: the stores sort other values, and strings
    that begin with U+0001 or U+10FFFF, in different ways.

    ``indexes`` are the composite indexes that an app declares for the collection, each as the names of its fields, with
    "-" before those that descend. SQLite makes the index that a query needs, and refuses a query that needs one that is
    neither declared nor firelaunch's own.
    """

    collection: str
    where: Sequence[Filter] = ()
    order: Sequence[Order] = ()
    limit: int | None = None
    after: Sequence[Any] | None = None
    indexes: Sequence[tuple[str, ...]] = ()


def ordering(query: Query) -> Sequence[Order]:
    """Return the order in force: the query's own, or by the field of its inequality, as Firestore demands."""
    unequal = [item.field for item in query.where if item.op not in EQUALITIES]
    return query.order or [Order(field) for field in unequal[:1]]


class Transaction(Protocol):
    """Reads that are consistent with each other, and writes that are committed together if nothing read has changed.

    All reads come before the first write, as Firestore demands.
    """

    def get(self, path: str) -> Document | None:
        """Return the document, or None."""

    def query(self, query: Query) -> list[Document]:
        """Return the documents that match."""

    def write(self, *writes: Write) -> None:
        """Add writes to the commit that ends the transaction."""

    def on_commit(self, listener: Callable[[datetime], None]) -> None:
        """Call ``listener`` with the commit's time, once this attempt is committed."""


class DocumentStore(Protocol):
    """The methods that every adapter has. You may call them from many threads.

    Every method raises StoreError if the database cannot be reached or refuses.
    """

    def get(self, path: str) -> Document | None:
        """Return the document, or None."""

    def get_many(self, paths: Sequence[str]) -> list[Document | None]:
        """Return the documents in the order of ``paths``, in one round trip."""

    def query(self, query: Query) -> list[Document]:
        """Return the documents that match, in one round trip."""

    def count(self, query: Query) -> int:
        """Return the number of documents that match, within ``limit`` and ``after``."""

    def ids(self, collection: str) -> Iterator[str]:
        """Yield the ids of a collection's documents in order, also of missing documents that have others below them."""

    def collections(self, document: str) -> Iterator[str]:
        """Yield the ids of the collections below a document, which need not exist itself."""

    def read(
        self, paths: Sequence[str], queries: Sequence[Query]
    ) -> tuple[list[Document | None], list[list[Document]]]:
        """Run ``get_many`` and the queries in parallel. Together they take as long as the slowest of them alone."""

    def commit(self, writes: Sequence[Write]) -> datetime:
        """Apply all writes or none, in one round trip.

        Returns:
            the commit's time, which is now the ``update_time`` of each written document.

        Raises:
            AlreadyExists, NotFound, PreconditionFailed: a write's own condition failed.
            Contention: other writers came first in all tries.
            ValueError: more than ``MAX_WRITES`` writes.
        """

    def transaction(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` and commit its writes. Run it again from the start if the documents it read have changed.

        Raises:
            Contention: other writers came first in all attempts. Errors of ``work`` pass through. In both cases nothing
                is written.
        """

    def delete_tree(self, path: str) -> int:
        """Remove a document (or a collection) and everything below it, in batches. You can repeat it if it breaks off.

        Returns:
            the number of documents removed.
        """

    def tree(self, path: str) -> Iterator[str]:
        """Yield the paths of a document, if it exists, and of every document below it; of a collection likewise."""

    def scrub(self) -> None:
        """Erase removed data from the files on this machine.

        Raises:
            Contention: other readers went on for too long.
        """

    def close(self) -> None:
        """Close the connections. The store cannot be used afterwards."""


class TreeStore(DocumentStore, Protocol):
    """A database for operators' commands. The store that an app gets cannot walk."""

    def walk(self, path: str, after: str | None = None) -> Iterator[Document]:
        """Yield the document at ``path`` and everything below it, in an order of the store's own that stays the same.

        Args:
            after: go on after this path, where an earlier walk stopped. The document may be gone by now.

        Raises:
            StoreError: the database cannot be reached. The documents yielded so far are complete.
        """
