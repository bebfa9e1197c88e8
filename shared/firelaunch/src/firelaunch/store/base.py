"""The port to a document database, with Firestore's semantics; SQLite and Firestore stand behind it.

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
Op = Literal["==", "!=", "<", "<=", ">", ">=", "in"]

MAX_WRITES: Final = 500
"""Writes in one commit at most, so that it also fits older Firestore quotas and a retry stays small."""


class _Sentinel:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


SERVER_TIME: Final = _Sentinel("SERVER_TIME")
"""As a field's value in a write: the time of the commit, to the millisecond or better; not always ``update_time``."""

DELETE_FIELD: Final = _Sentinel("DELETE_FIELD")
"""As a field's value in an update or a merging set: the field goes."""


@dataclass(frozen=True, slots=True)
class Increment:
    """As a field's value in a write: add ``by`` to what is there (0 where nothing numeric is)."""

    by: int


@dataclass(frozen=True, slots=True)
class Vector:
    """Firestore's own type of an embedding; a walk may find one, SQLite keeps none."""

    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GeoPoint:
    """Firestore's own type of a place, in degrees; clients may have written one. SQLite keeps none."""

    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class Reference:
    """Firestore's own type of a reference, by the document's path; clients may have written one. SQLite keeps none."""

    path: str


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it was read. ``update_time`` serves as the precondition of a later write."""

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
    """Write a document that must not be there; else the commit fails with ``AlreadyExists``."""

    path: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Set:
    """Write a whole document, there or not; with ``merge`` only the given fields (dicts are merged field by field)."""

    path: str
    data: Mapping[str, Any]
    merge: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """Change fields of a document that must be there, else the commit fails with ``NotFound``.

    A key may be a dotted field path ("reservations.r1"); its parts are plain identifiers (letters, digits, "_").
    With ``if_updated_at`` the document must still be as it was read, else the commit fails with ``PreconditionFailed``.
    """

    path: str
    data: Mapping[str, Any]
    if_updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove one document (not what lies below it); nothing happens where none is.

    With ``if_updated_at`` the document must still be as it was read, else the commit fails with ``PreconditionFailed``.
    """

    path: str
    if_updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Verify:
    """Change nothing, but let the commit fail with ``PreconditionFailed`` unless the document is as it was read.

    Args:
        updated_at: the ``update_time`` that the document has; None where it is not there.
    """

    path: str
    updated_at: datetime | None


Write = Create | Set | Update | Delete | Verify


@dataclass(frozen=True, slots=True)
class Filter:
    """Keep documents whose ``field`` compares so; only values of the same type match, as in Firestore."""

    field: str
    op: Op
    value: Any


@dataclass(frozen=True, slots=True)
class Order:
    """Sort by ``field``; documents without the field are left out, as in Firestore. Ties are broken by document id."""

    field: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A query over the documents that lie directly in one collection.

    ``after`` is the position to go on from: the values of the ``order`` fields of the last document seen, then its id.
    Without ``order`` documents come by id, and ``after`` is ``(id,)``; with an inequality, by its field first.
    A field that is ordered by holds numbers, times, strings and bytes: of other values, and of strings that begin with
    U+0001 or U+10FFFF, the stores differ in how they sort them.
    """

    collection: str
    where: Sequence[Filter] = ()
    order: Sequence[Order] = ()
    limit: int | None = None
    after: Sequence[Any] | None = None


def ordering(query: Query) -> Sequence[Order]:
    """The order in force: the query's own, or that of its inequality's field, as Firestore demands."""
    unequal = [item.field for item in query.where if item.op not in {"==", "in"}]
    return query.order or [Order(field) for field in unequal[:1]]


class Transaction(Protocol):
    """Reads that are consistent with each other, and writes that land together if none of what was read has changed.

    All reads come before the first write, as Firestore demands.
    """

    def get(self, path: str) -> Document | None:
        """The document, or None."""

    def query(self, query: Query) -> list[Document]:
        """The documents that match."""

    def write(self, *writes: Write) -> None:
        """Adds to the commit that ends the transaction."""


class DocumentStore(Protocol):
    """What every adapter offers. All methods may be called from many threads.

    Raises (every method): StoreError where the database cannot be reached or refuses.
    """

    def get(self, path: str) -> Document | None:
        """The document, or None."""

    def get_many(self, paths: Sequence[str]) -> list[Document | None]:
        """The documents in the order of ``paths``, in one round trip."""

    def query(self, query: Query) -> list[Document]:
        """The documents that match, in one round trip."""

    def count(self, query: Query) -> int:
        """How many documents match; ``limit`` and ``after`` are honoured."""

    def ids(self, collection: str) -> Iterator[str]:
        """Ids of the documents of a collection, in order; also of those that are not there, but have others below."""

    def read(
        self, paths: Sequence[str], queries: Sequence[Query]
    ) -> tuple[list[Document | None], list[list[Document]]]:
        """``get_many`` and the queries side by side: together they take no longer than the slowest of them alone."""

    def commit(self, writes: Sequence[Write]) -> datetime:
        """Apply all writes or none, in one round trip.

        Returns:
            the commit's time: the ``update_time`` that each written document now has.

        Raises:
            AlreadyExists, NotFound, PreconditionFailed: a write's own condition does not hold.
            Contention: other writers were in the way beyond all retries.
            ValueError: more than ``MAX_WRITES`` writes.
        """

    def transaction(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` and commit what it wrote; again from the start when what it read was changed meanwhile.

        Raises:
            Contention: still in the way after all attempts. Errors of ``work`` pass through and nothing is written.
        """

    def delete_tree(self, path: str) -> int:
        """Remove a document (or a collection) and all that lies below it, in batches; it may be interrupted and redone.

        Returns:
            how many documents went.
        """

    def tree(self, path: str) -> Iterator[str]:
        """The path of a document (if it is there) and of every document below it; of a collection likewise."""

    def scrub(self) -> None:
        """Have nothing of what was removed lie in files of this machine any more.

        Raises:
            Contention: others read for too long on end.
        """

    def close(self) -> None:
        """Let go of connections; the store is of no use afterwards."""


class TreeStore(DocumentStore, Protocol):
    """A database as operators' commands hold it. What an app is handed cannot walk."""

    def walk(self, path: str, after: str | None = None) -> Iterator[Document]:
        """The document at ``path`` and all below it, in an order of the store's own that stays the same.

        Args:
            after: go on behind this path, where an earlier walk had come to. It need not be there any more.

        Raises:
            StoreError: the database cannot be reached; what was yielded so far is whole.
        """
