"""The embedded store: one SQLite file with Firestore's semantics. It is the default on a laptop.

Commits survive if the process dies at any moment. A power cut may lose the last commits (``synchronous=NORMAL``): that
is the price for turns that don't wait for the disk.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from ..errors import AlreadyExists, Contention, NotFound, PreconditionFailed, StoreError
from .base import Create, Delete, Document, Query, Set, Transaction, Update, Verify, Write
from .changes import apply_set, apply_update
from .connections import SpareConnections
from .limits import check_commit, check_document, check_path, check_request
from .machine_faults import machine_fault
from .sqlite_queries import COLUMNS, INDEXED, index, select, type_of, value_of
from .sqlite_values import decode, encode
from .wal import empty_wal

__all__ = ["SQLiteStore"]

T = TypeVar("T")

_Row = tuple[str, str, int, int]
"""A document's path, its data as JSON, and when it was created and changed (microseconds since 1970)."""

_BUSY_SECONDS = 30
_PAGE = 200
_LOG_PAGES = 4000
"""The number of pages (of 4 KiB) in the write-ahead log at which they are copied into the database. SQLite's default of
1000 would copy the pages that each turn changes four times as often."""

_SPARE_READERS = 8
"""Connections for reads beside a write that are kept for the next ones."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    path TEXT PRIMARY KEY, collection TEXT NOT NULL, id TEXT NOT NULL,
    data TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS by_id ON documents (collection, id);
"""
_IDS = """
SELECT DISTINCT CASE instr(rest, '/') WHEN 0 THEN rest ELSE substr(rest, 1, instr(rest, '/') - 1) END AS id
FROM (SELECT substr(path, ?) AS rest FROM documents WHERE path > ? AND path < ?) ORDER BY id
"""
_OR_CHANGE = "ON CONFLICT (path) DO UPDATE SET data = excluded.data, updated = excluded.updated"
_TREE = "path = ? OR (path > ? AND path < ?)"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SQLiteStore:
    """A :class:`~firelaunch.store.base.DocumentStore` in one file, which is created (with its folder) at first use.

    All threads of a process write through one connection, one after the other. They also read through it while nobody
    writes: its cache stays valid and nothing is read twice. A read that would have to wait for a writer gets another
    connection for as long as it takes. Other processes' writers queue on SQLite's lock.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._writing = threading.RLock()
        self._opening = threading.Lock()
        self._readers = SpareConnections(_SPARE_READERS)
        self._writer: sqlite3.Connection | None = None
        self._prepared = False
        self._closed = False
        self._own_indexes: set[str] = set()

    def get(self, path: str) -> Document | None:
        """Return the document, or None. See :class:`~firelaunch.store.base.DocumentStore`."""
        return self.get_many([path])[0]

    def get_many(self, paths: Sequence[str]) -> list[Document | None]:
        """Return the documents in the order of ``paths``. See :class:`~firelaunch.store.base.DocumentStore`."""
        return self.read(paths, [])[0]

    def query(self, query: Query) -> list[Document]:
        """Return the documents that match. See :class:`~firelaunch.store.base.DocumentStore`."""
        return self.read([], [query])[1][0]

    def count(self, query: Query) -> int:
        """Return the number of documents that match. See :class:`~firelaunch.store.base.DocumentStore`."""
        self._make_index(query)
        sql, values = select(query)
        with self._reader() as connection:
            row = connection.execute(f"SELECT count(*) FROM ({sql})", values).fetchone()  # noqa: S608
        return int(row[0])

    def ids(self, collection: str) -> Iterator[str]:
        """Yield the ids of a collection's documents. See :class:`~firelaunch.store.base.DocumentStore`."""
        return self._below(collection)

    def collections(self, document: str) -> Iterator[str]:
        """Yield the ids of the collections below. See :class:`~firelaunch.store.base.DocumentStore`."""
        return self._below(document)

    def _below(self, path: str) -> Iterator[str]:
        with self._reader() as connection:
            rows = connection.execute(_IDS, (len(path) + 2, f"{path}/", f"{path}0")).fetchall()
        for row in rows:
            yield str(row[0])

    def read(
        self, paths: Sequence[str], queries: Sequence[Query]
    ) -> tuple[list[Document | None], list[list[Document]]]:
        """Run ``get_many`` and the queries together. See :class:`~firelaunch.store.base.DocumentStore`."""
        for query in queries:
            self._make_index(query)
        with _translated():
            # Read through the shared connection if it is free: its cache is valid. Each write of another connection
            # empties the caches of all others.
            if not self._writing.acquire(blocking=False):
                with self._reader() as connection:
                    return _read(connection, paths, queries)
            try:
                return _read(self._shared(), paths, queries)
            finally:
                self._writing.release()

    def commit(self, writes: Sequence[Write]) -> datetime:
        """Apply all writes or none. See :class:`~firelaunch.store.base.DocumentStore`."""
        with self._write_lock() as connection:
            return _apply(connection, writes)

    def transaction(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` and commit its writes. See :class:`~firelaunch.store.base.DocumentStore`."""
        with self._write_lock() as connection:
            transaction = _Transaction(connection)
            result = work(transaction)
            at = _apply(connection, transaction.writes)
        for listener in transaction.listeners:
            listener(at)
        return result

    def delete_tree(self, path: str) -> int:
        """Remove a document or collection and everything below. See :class:`~firelaunch.store.base.DocumentStore`."""
        with self._write_lock() as connection:
            return connection.execute(f"DELETE FROM documents WHERE {_TREE}", _tree(path)).rowcount  # noqa: S608

    def tree(self, path: str) -> Iterator[str]:
        """Yield the paths of a document and everything below. See :class:`~firelaunch.store.base.DocumentStore`."""
        with self._reader() as connection:
            rows = connection.execute(f"SELECT path FROM documents WHERE {_TREE}", _tree(path)).fetchall()  # noqa: S608
        for row in rows:
            yield str(row[0])

    def scrub(self) -> None:
        """Erase removed data from the files of this machine. See :class:`~firelaunch.store.base.DocumentStore`."""
        with self._writing, self._reader() as connection:
            # `secure_delete` zeroes what is deleted, but not the copies that stay behind when a page is split.
            connection.execute("VACUUM")
            empty_wal(connection)

    def walk(self, path: str, after: str | None = None) -> Iterator[Document]:
        """Yield a document and everything below. See :class:`~firelaunch.store.base.TreeStore`."""
        condition = f"SELECT {COLUMNS} FROM documents WHERE path > ? AND (path = ? OR path > ? AND path < ?)"  # noqa: S608
        while True:
            with self._reader() as connection:
                rows = connection.execute(
                    f"{condition} ORDER BY path LIMIT {_PAGE}", (after or "", path, f"{path}/", f"{path}0")
                )
                page = [_document(row) for row in rows]
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].path

    def close(self) -> None:
        """Close the connections. See :class:`~firelaunch.store.base.DocumentStore`."""
        with self._writing, self._opening:
            self._closed = True
            if self._writer is not None:
                self._writer.close()
        self._readers.close(self)

    def _make_index(self, query: Query) -> None:
        sql = index(query)
        if sql is None or sql in self._own_indexes:
            return
        select(query)  # refuses a query that no index would help
        with self._writing:
            if self._shared().in_transaction:
                return  # this thread is inside a transaction: the query runs without the index
        with self._write_lock() as connection:
            connection.execute(sql)
        self._own_indexes.add(sql)

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        with _translated():
            connection = self._readers.take(self) or self._open()
            try:
                yield connection
            finally:
                self._readers.put(self, connection)
                if self._closed:
                    self._readers.close(self)

    def _shared(self) -> sqlite3.Connection:
        if self._writer is None:
            self._writer = self._open()
        return self._writer

    def _open(self) -> sqlite3.Connection:
        with self._opening:
            if self._closed:
                raise StoreError(reason="the store is closed")
            connection = self._connect(first=not self._prepared)
            self._prepared = True
            return connection

    def _connect(self, *, first: bool) -> sqlite3.Connection:
        if first:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path.touch(mode=0o600)
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        connection.execute("PRAGMA synchronous = NORMAL")
        # Removed data is overwritten in the file, not only marked as free.
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        # Otherwise SQLite would create a file for the undo data of each write of many documents.
        connection.execute("PRAGMA temp_store = MEMORY")
        if first:
            _switch_to_wal(connection)
            connection.executescript(_SCHEMA)
            for field in INDEXED:
                connection.execute(
                    f"CREATE INDEX IF NOT EXISTS with_{field} ON documents (collection, {value_of(field)}, id) "
                    f"WHERE {type_of(field)} IS NOT NULL"
                )
        return connection

    @contextmanager
    def _write_lock(self) -> Iterator[sqlite3.Connection]:
        with self._writing, _translated():
            connection = self._shared()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise


def _tree(path: str) -> tuple[str, str, str]:
    # "0" follows "/" in ASCII, so this range holds exactly the paths that begin with "path/".
    return path, f"{path}/", f"{path}0"


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    # SQLite's own busy timeout does not cover this switch, and two processes may open a new file at the same time.
    give_up = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.01)


class _Transaction:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.writes: list[Write] = []
        self.listeners: list[Callable[[datetime], None]] = []

    def get(self, path: str) -> Document | None:
        self._before_writes()
        return _get_many(self._connection, [path])[0]

    def query(self, query: Query) -> list[Document]:
        self._before_writes()
        return _query(self._connection, query)

    def write(self, *writes: Write) -> None:
        self.writes.extend(writes)

    def on_commit(self, listener: Callable[[datetime], None]) -> None:
        self.listeners.append(listener)

    def _before_writes(self) -> None:
        if self.writes:
            raise ValueError("in a transaction all reads come before the first write")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "busy" in str(error):
            raise Contention(reason=str(error), retry_after=1) from error
        raise machine_fault(error) or StoreError(reason=str(error)) from error
    except (sqlite3.Error, UnicodeEncodeError, OSError) as error:
        raise machine_fault(error) or StoreError(reason=str(error)) from error


def _read(
    connection: sqlite3.Connection, paths: Sequence[str], queries: Sequence[Query]
) -> tuple[list[Document | None], list[list[Document]]]:
    documents = _get_many(connection, paths) if paths else []
    return documents, [_query(connection, query) for query in queries]


def _get_many(connection: sqlite3.Connection, paths: Sequence[str]) -> list[Document | None]:
    for path in paths:
        check_path(path)
    documents = {row[0]: _document(row) for row in _rows(connection, paths)}
    return [documents.get(path) for path in paths]


def _rows(connection: sqlite3.Connection, paths: Sequence[str]) -> Iterator[_Row]:
    return connection.execute(f"SELECT {COLUMNS} FROM documents WHERE path IN ({_marks(paths)})", paths)  # noqa: S608


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


def _query(connection: sqlite3.Connection, query: Query) -> list[Document]:
    sql, values = select(query)
    return [_document(row) for row in connection.execute(sql, values)]


def _document(row: _Row) -> Document:
    path, data, created, updated = row
    return Document(path, decode(data), _moment(created), _moment(updated))


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _apply(connection: sqlite3.Connection, writes: Sequence[Write]) -> datetime:
    check_commit(writes)
    paths = list({write.path: None for write in writes})
    before = {row[0]: row for row in _rows(connection, paths)} if paths else {}
    # If the clock was set back, a changed document must still get a time that it never had before.
    now = max([_micros(datetime.now(UTC)), *(row[3] + 1 for row in before.values())])
    moment = _moment(now)
    state: dict[str, dict[str, Any] | None] = {}
    for write in writes:
        row = before.get(write.path)
        exists = row is not None if write.path not in state else state[write.path] is not None
        _check(write, None if row is None else _moment(row[3]), exists)
        if type(write) is not Verify:
            state[write.path] = _changed(write, row, state, moment)
    removed = [path for path, data in state.items() if data is None]
    if removed:
        connection.execute(f"DELETE FROM documents WHERE path IN ({_marks(removed)})", removed)  # noqa: S608
    rows = [_row(path, data, before.get(path), now) for path, data in state.items() if data is not None]
    sent = {write.path for write in writes if type(write) in {Create, Set}}
    check_request(sum(len(row[3]) for row in rows if row[0] in sent))
    if rows:
        # One statement for all rows: each statement releases the interpreter lock, and has to get it back.
        values = ", ".join(["(?, ?, ?, ?, ?, ?)"] * len(rows))
        connection.execute(f"INSERT INTO documents VALUES {values} {_OR_CHANGE}", [*chain.from_iterable(rows)])  # noqa: S608
    return moment


def _check(write: Write, updated_at: datetime | None, exists: bool) -> None:
    match write:
        case Create(path) if exists:
            raise AlreadyExists(reason=path)
        case Update(path) if not exists:
            raise NotFound(reason=path)
        case Update() | Delete() if write.if_updated_at is not None and updated_at != write.if_updated_at:
            raise PreconditionFailed(reason=write.path)
        case Verify(path, verified) if verified != updated_at:
            raise PreconditionFailed(reason=path)


def _changed(
    write: Write, row: _Row | None, state: dict[str, dict[str, Any] | None], moment: datetime
) -> dict[str, Any] | None:
    """Return a document's data after ``write``; ``state`` has the data of documents that were already changed."""
    if isinstance(write, Delete | Verify):
        return None
    if isinstance(write, Create) or (isinstance(write, Set) and not write.merge):
        return apply_set({}, write.data, moment)
    data = state[write.path] if write.path in state else None if row is None else decode(row[1])
    change = apply_update if isinstance(write, Update) else apply_set
    return change(data or {}, write.data, moment)


def _row(path: str, data: dict[str, Any], before: _Row | None, now: int) -> tuple[Any, ...]:
    collection, _, document_id = path.rpartition("/")
    created = now if before is None else before[2]
    text = encode(data)
    check_document(path, data, text)
    return path, collection, document_id, text, created, now
