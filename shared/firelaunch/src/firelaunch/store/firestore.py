"""The store for emulators and cloud mode: google-cloud-firestore behind the port.

The client and gRPC's threads are created at first use, because a process that forks (gunicorn's worker) must not
inherit them.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar

from google.api_core import exceptions as google
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter
from google.cloud.firestore_v1.batch import WriteBatch

from ..errors import AlreadyExists, Contention, NotFound, PreconditionFailed, StoreError, StoreUnavailable
from .base import (
    DELETE_FIELD,
    MAX_WRITES,
    SERVER_TIME,
    Create,
    Delete,
    Document,
    GeoPoint,
    Increment,
    Query,
    Reference,
    Set,
    Transaction,
    Update,
    Vector,
    Verify,
    Write,
    ordering,
)
from .firestore_values import google_value, walked

__all__ = ["FirestoreStore", "verification"]

T = TypeVar("T")

_PLAIN = (type(None), bool, int, float, str, bytes, datetime)
_READ_SECONDS = 15.0
_COMMIT_SECONDS = 15.0
_TRANSACTION_SECONDS = 20.0
_DELETE_BATCH = 400
_IDS_PAGE = 300
_PAGE = 100
"""The number of documents in one response. Each has one MiB at most."""

_READERS = 32
_DIRECTIONS = {False: firestore.Query.ASCENDING, True: firestore.Query.DESCENDING}


def verification(reference: Any, updated_at: datetime | None) -> Any:
    """Return Firestore's own form of a :class:`~firelaunch.store.base.Verify`.

    For a document that exists it is an update of no fields: "If the write did not actually change the document, this
    will be the previous update_time" (``WriteResult`` in google/firestore/v1/write.proto). For a document that does not
    exist it is a deletion on condition that it does not (``Precondition.exists`` of google/firestore/v1/common.proto).
    """
    from google.cloud.firestore_v1.types import Document as RawDocument
    from google.cloud.firestore_v1.types import DocumentMask, Precondition
    from google.cloud.firestore_v1.types import Write as RawWrite

    name = reference._document_path
    if updated_at is None:
        return RawWrite(delete=name, current_document=Precondition(exists=False))
    unchanged = Precondition(update_time=updated_at)
    return RawWrite(update=RawDocument(name=name), update_mask=DocumentMask(), current_document=unchanged)


class FirestoreStore:
    """A :class:`~firelaunch.store.base.DocumentStore` on one Firestore database.

    The client library reads ``FIRESTORE_EMULATOR_HOST``. If that is set, the store uses the emulator.

    Args:
        project: the Google Cloud project.
        database: "(default)" or a named database.
        client: a client to use instead of a new one, for tests that act as a user.
    """

    def __init__(self, project: str, database: str = "(default)", client: firestore.Client | None = None) -> None:
        self._project = project
        self._database = database
        self._custom_client = client
        self._lock = threading.Lock()
        self._turnstile = threading.Lock()
        self._contended = 0

    @cached_property
    def _client(self) -> firestore.Client:
        with self._lock:
            # Another thread may have created the client while this one waited for the lock.
            client = self.__dict__.get("_client")
            if client is None:
                client = self._custom_client or firestore.Client(project=self._project, database=self._database)
            return client

    @cached_property
    def _readers(self) -> ThreadPoolExecutor:
        with self._lock:
            readers = self.__dict__.get("_readers")
            return readers or ThreadPoolExecutor(_READERS, thread_name_prefix="firestore-read")

    def get(self, path: str) -> Document | None:
        """Return the document, or None. See :class:`~firelaunch.store.base.DocumentStore`."""
        return self.get_many([path])[0]

    def get_many(self, paths: Sequence[str]) -> list[Document | None]:
        """Return the documents in the order of ``paths``. See :class:`~firelaunch.store.base.DocumentStore`."""
        if not paths:
            return []
        with _translated():
            references = [self._client.document(path) for path in dict.fromkeys(paths)]
            snapshots = {s.reference.path: s for s in self._client.get_all(references, timeout=_READ_SECONDS)}
        return [_document(snapshots[path]) for path in paths]

    def query(self, query: Query) -> list[Document]:
        """Return the documents that match. See :class:`~firelaunch.store.base.DocumentStore`."""
        with _translated():
            return _documents(self._query(query).stream(timeout=_READ_SECONDS))

    def count(self, query: Query) -> int:
        """Return the number of documents that match. See :class:`~firelaunch.store.base.DocumentStore`."""
        with _translated():
            return int(self._query(query).count(alias="n").get(timeout=_READ_SECONDS)[0][0].value)

    def ids(self, collection: str) -> Iterator[str]:
        """Yield the ids of a collection's documents. See :class:`~firelaunch.store.base.DocumentStore`.

        Each id costs a read, also that of a document that does not exist.
        """
        with _translated():
            for reference in self._client.collection(collection).list_documents(_IDS_PAGE, timeout=_READ_SECONDS):
                yield reference.id

    def collections(self, document: str) -> Iterator[str]:
        """Yield the ids of the collections below. See :class:`~firelaunch.store.base.DocumentStore`."""
        with _translated():
            yield from sorted(reference.id for reference in self._client.document(document).collections())

    def read(
        self, paths: Sequence[str], queries: Sequence[Query]
    ) -> tuple[list[Document | None], list[list[Document]]]:
        """Run ``get_many`` and the queries together. See :class:`~firelaunch.store.base.DocumentStore`."""
        running = [self._readers.submit(self.query, query) for query in queries]
        return self.get_many(paths), [future.result() for future in running]

    def commit(self, writes: Sequence[Write]) -> datetime:
        """Apply all writes or none. See :class:`~firelaunch.store.base.DocumentStore`."""
        batch = self._client.batch()
        with self._verified(writes), _translated():
            self._add(batch, writes)
            # No retry here: if a commit's response is lost, the caller has to find out whether it succeeded.
            batch.commit(retry=None, timeout=_COMMIT_SECONDS)
        at: datetime | None = batch.commit_time
        if at is None:
            raise StoreError(reason="a commit came back without its time")
        return at

    def transaction(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` and commit its writes. See :class:`~firelaunch.store.base.DocumentStore`."""
        # Firestore's transactions lock the documents that they read. Two that read the same document can only wait for
        # each other's timeout. So when one transaction of this process has lost, the process's transactions queue
        # until it has succeeded.
        if not self._contended:
            try:
                return self._attempt(work)
            except Contention:
                pass
        with self._lock:
            self._contended += 1
        try:
            with self._turnstile:
                return self._retry(work)
        finally:
            with self._lock:
                self._contended -= 1

    def _retry(self, work: Callable[[Transaction], T]) -> T:
        give_up = time.monotonic() + _TRANSACTION_SECONDS
        while True:
            try:
                return self._attempt(work)
            except Contention:
                if time.monotonic() > give_up:
                    raise
                time.sleep(random.uniform(0, 0.2))  # noqa: S311 - spreads the retries of other processes

    def delete_tree(self, path: str) -> int:
        """Remove a document or collection and everything below. See :class:`~firelaunch.store.base.DocumentStore`."""
        deleted = 0
        with _translated():
            if len(path.split("/")) % 2:
                return self._delete_below(self._client.collection(path))
            reference = self._client.document(path)
            for collection in reference.collections():
                deleted += self._delete_below(collection)
            if reference.get(["__name__"], timeout=_READ_SECONDS).exists:
                reference.delete()
                deleted += 1
        return deleted

    def walk(self, path: str, after: str | None = None) -> Iterator[Document]:
        """Yield a document and everything below. See :class:`~firelaunch.store.base.TreeStore`."""
        root = self._client.document(path)
        with _translated():
            first = _document(root.get(timeout=_READ_SECONDS)) if after is None else None
            collections = sorted(collection.id for collection in root.collections())
        if first is not None:
            yield walked(first)
        for name in collections:
            # Collections are walked by name, so an earlier walk has finished those before the one of `after`.
            inside = after is not None and after.startswith(f"{path}/")
            reached = after[len(path) + 1 :].partition("/")[0] if after is not None and inside else ""
            if name >= reached:
                yield from self._walk_collection(f"{path}/{name}", after if name == reached else None)

    def _walk_collection(self, path: str, after: str | None) -> Iterator[Document]:
        while True:
            query: Any = self._client.collection(path).recursive().limit(_PAGE)
            if after is not None:
                query = query.start_after([self._client.document(after)])
            with _translated():
                page = _documents(query.stream(timeout=_READ_SECONDS))
            yield from map(walked, page)
            if len(page) < _PAGE:
                return
            after = page[-1].path

    def tree(self, path: str) -> Iterator[str]:
        """Yield the paths of a document and everything below. See :class:`~firelaunch.store.base.DocumentStore`."""
        with _translated():
            if len(path.split("/")) % 2:
                yield from _below(self._client.collection(path))
                return
            reference = self._client.document(path)
            if reference.get(["__name__"], timeout=_READ_SECONDS).exists:
                yield path
            for collection in reference.collections():
                yield from _below(collection)

    def scrub(self) -> None:
        """Do nothing: this store has no files on the machine."""

    def close(self) -> None:
        """Close the connections. See :class:`~firelaunch.store.base.DocumentStore`."""
        if "_readers" in self.__dict__:
            self._readers.shutdown(wait=False)
        if "_client" in self.__dict__:
            self._client.close()  # type: ignore[no-untyped-call]

    def _delete_below(self, collection: Any) -> int:
        deleted = 0
        while True:
            names = collection.recursive().select(["__name__"]).limit(_DELETE_BATCH)
            snapshots = list(names.stream(timeout=_READ_SECONDS))
            if not snapshots:
                return deleted
            batch = self._client.batch()
            for snapshot in snapshots:
                batch.delete(snapshot.reference)
            batch.commit(timeout=_COMMIT_SECONDS)
            deleted += len(snapshots)

    def _query(self, query: Query) -> Any:
        google_query: Any = self._client.collection(query.collection)
        for item in query.where:
            google_query = google_query.where(filter=FieldFilter(item.field, item.op, item.value))
        orders = ordering(query)
        for order in orders:
            google_query = google_query.order_by(order.field, direction=_DIRECTIONS[order.descending])
        google_query = google_query.order_by("__name__", direction=_DIRECTIONS[bool(orders) and orders[-1].descending])
        if query.after is not None:
            *values, last_id = query.after
            google_query = google_query.start_after([*values, self._client.document(f"{query.collection}/{last_id}")])
        return google_query if query.limit is None else google_query.limit(query.limit)

    def _attempt(self, work: Callable[[Transaction], T]) -> T:
        raw = self._client.transaction(max_attempts=1)
        with _translated():
            raw._begin()
        try:
            transaction = _Transaction(self, raw)
            result = work(transaction)
            with self._verified(transaction.writes), _translated():
                self._add(raw, transaction.writes)
                # Send the commit once, without retries. If its response is lost, the outcome is unknown, but the
                # transaction is never applied twice.
                answer = self._client._firestore_api.commit(
                    request={
                        "database": self._client._database_string,
                        "writes": raw._write_pbs,
                        "transaction": raw.id,
                    },
                    metadata=self._client._rpc_metadata,
                    retry=None,
                    timeout=_COMMIT_SECONDS,
                )
                raw._clean_up()
        except BaseException:
            if raw.in_progress:
                with _ignored():
                    raw._rollback()
            raise
        for listener in transaction.listeners:
            listener(answer.commit_time)
        return result

    def _add(self, batch: WriteBatch, writes: Iterable[Write]) -> None:
        writes = list(writes)
        if sum(type(write) is not Verify for write in writes) > MAX_WRITES:
            raise ValueError(f"a commit has at most {MAX_WRITES} writes")
        for write in writes:
            reference = self._client.document(write.path)
            match write:
                case Create(_, data):
                    batch.create(reference, _native(data, self._client))
                case Set(_, data, merge):
                    batch.set(reference, _native(data, self._client), merge=merge)
                case Update(_, data, at):
                    batch.update(reference, _native(data, self._client), self._unchanged_since(at))
                case Delete(_, at):
                    batch.delete(reference, self._unchanged_since(at))
                case Verify(_, at):
                    batch._add_write_pbs([verification(reference, at)])

    @contextmanager
    def _verified(self, writes: Sequence[Write]) -> Iterator[None]:
        """Raise PreconditionFailed, as the port says, if a ``Verify`` failed, whatever error Firestore raises."""
        try:
            yield
        except (AlreadyExists, NotFound) as error:
            verified = {write.path: write.updated_at for write in writes if type(write) is Verify}
            documents = self.get_many(list(verified))
            times = [None if document is None else document.update_time for document in documents]
            if times != list(verified.values()):
                raise PreconditionFailed(reason=error.reason) from error
            raise

    def _unchanged_since(self, at: datetime | None) -> Any:
        return None if at is None else self._client.write_option(last_update_time=at)


class _Transaction:
    def __init__(self, store: FirestoreStore, raw: Any) -> None:
        self._store = store
        self._raw = raw
        self.writes: list[Write] = []
        self.listeners: list[Callable[[datetime], None]] = []

    def get(self, path: str) -> Document | None:
        self._before_writes()
        with _translated():
            reference = self._store._client.document(path)
            return _document(next(self._raw.get(reference, timeout=_READ_SECONDS)))

    def query(self, query: Query) -> list[Document]:
        self._before_writes()
        with _translated():
            return _documents(self._raw.get(self._store._query(query), timeout=_READ_SECONDS))

    def write(self, *writes: Write) -> None:
        self.writes.extend(writes)

    def on_commit(self, listener: Callable[[datetime], None]) -> None:
        self.listeners.append(listener)

    def _before_writes(self) -> None:
        if self.writes:
            raise ValueError("in a transaction all reads come before the first write")


def _below(collection: Any) -> Iterator[str]:
    for snapshot in collection.recursive().select(["__name__"]).stream():
        yield snapshot.reference.path


def _document(snapshot: Any) -> Document | None:
    if not snapshot.exists:
        return None
    return Document(snapshot.reference.path, snapshot.to_dict() or {}, snapshot.create_time, snapshot.update_time)


def _documents(snapshots: Iterable[Any]) -> list[Document]:
    return [document for document in map(_document, snapshots) if document is not None]


def _native(value: Any, client: firestore.Client) -> Any:
    if value is SERVER_TIME:
        return firestore.SERVER_TIMESTAMP
    if value is DELETE_FIELD:
        return firestore.DELETE_FIELD
    if isinstance(value, Increment):
        return firestore.Increment(value.by)
    if isinstance(value, Mapping):
        return {key: _native(item, client) for key, item in value.items()}
    if isinstance(value, datetime) and value.tzinfo is None:
        raise StoreError(reason="a time without its zone cannot be stored")
    if isinstance(value, list | tuple):
        return [_native(item, client) for item in value]
    if isinstance(value, Vector | GeoPoint):
        return google_value(value)
    if isinstance(value, Reference):
        return client.document(value.path)
    too_big = isinstance(value, int) and not -(2**63) <= value < 2**63
    if too_big or not isinstance(value, _PLAIN):
        raise StoreError(reason=f"this {type(value).__name__} cannot be stored")
    return value


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except google.AlreadyExists as error:
        raise AlreadyExists(reason=str(error)) from error
    except google.NotFound as error:
        raise NotFound(reason=str(error)) from error
    except google.Aborted as error:
        raise Contention(reason=str(error), retry_after=1) from error
    except google.FailedPrecondition as error:
        if "requires an index" in str(error):
            raise StoreError(
                reason=f"declare it in the collection's queries=[...], and deploy: {error}"[:700]
            ) from error
        raise PreconditionFailed(reason=str(error)) from error
    except (google.ServiceUnavailable, google.DeadlineExceeded, google.ResourceExhausted, google.RetryError) as error:
        raise StoreUnavailable(reason=f"{type(error).__name__}: {error}"[:500], retry_after=1) from error
    except (google.GoogleAPIError, UnicodeEncodeError) as error:
        raise StoreError(reason=f"{type(error).__name__}: {error}"[:500]) from error


@contextmanager
def _ignored() -> Iterator[None]:
    """Ignore the errors of a rollback. If it fails, the transaction's locks end by themselves."""
    try:
        yield
    except (google.GoogleAPIError, ValueError):
        return
