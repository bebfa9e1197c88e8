"""One owner's entries of one version, in a SQLite file of their own."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import IndexFailed, IndexUnavailable
from ...precedence import give_way
from ...store.connections import SpareConnections
from ...store.fence import Fence
from ...store.machine_faults import machine_fault
from ...store.wal import empty_wal
from .base import Entry, Hit, Where
from .typos import Vocabulary, corrected
from .words import MARK, Analyzed, Analyzer, QueryPart, chosen, is_word, parts_of

if TYPE_CHECKING:
    from .base import Vector
    from .postings import Lexicon, Texts
    from .vectors import Matrix

__all__ = ["Shard"]

_BUSY_SECONDS = 30
_LAYOUT = 1
_ROWS_AT_A_TIME = 4_096
# FTS5 gets finished terms and must not split them: in many scripts, marks belong to words.
# The marks say the text's language. They count nothing, except in the length.
_SCHEMA = """
CREATE TABLE about (app TEXT, owner TEXT, version TEXT, words TEXT, dimensions INTEGER, generation INTEGER);
CREATE TABLE entries (
    row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, document TEXT NOT NULL,
    text TEXT NOT NULL, tags TEXT NOT NULL, place TEXT NOT NULL
);
CREATE INDEX by_document ON entries (document);
CREATE TABLE vectors (row INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE VIRTUAL TABLE terms USING fts5 (
    words, fragments, marks, tokenize = "unicode61 remove_diacritics 0 categories 'L* N* Co M*'"
);
"""
# Tables that older files lack, and views of FTS5's own, which belong to a connection.
_MORE = """
CREATE TABLE IF NOT EXISTS languages (name TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS middle (made_of INTEGER NOT NULL, vector BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS codes (
    first INTEGER PRIMARY KEY, last INTEGER NOT NULL, rows BLOB NOT NULL, codes BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS removals (number INTEGER PRIMARY KEY AUTOINCREMENT, row INTEGER NOT NULL);
CREATE TRIGGER IF NOT EXISTS log_removal AFTER DELETE ON entries BEGIN
    INSERT INTO removals (row) VALUES (old.row); END;
CREATE VIRTUAL TABLE temp.counts USING fts5vocab (main, terms, row);
CREATE VIRTUAL TABLE temp.columns USING fts5vocab (main, terms, col);
CREATE VIRTUAL TABLE temp.places USING fts5vocab (main, terms, instance)
"""
_REMOVALS_KEPT = 10_000
"""Rows whose removal other processes can still read; one that is further behind reads all vectors again."""

_COLUMNS = "e.id, e.document, e.text, e.tags, e.place"


class Shard:
    """One SQLite file, used by many threads and together with other processes.

    Args:
        path: created with the first write; a shard without a file is empty.
        app_id, owner, version: the owner of the file, checked against the file's own record.
        spare: keeps connections between uses, those of other shards too.
    """

    def __init__(
        self, path: Path, app_id: str, owner: str, version: str, analyzer: Analyzer, spare: SpareConnections
    ) -> None:
        self._path = path
        self._about = (app_id, owner, version, analyzer.id)
        self._analyzer = analyzer
        self._spare = spare
        self._closed = False
        self._writing = threading.Lock()
        self._loading = threading.Lock()
        self._asking = threading.Lock()
        self._matrix: _Loaded | None = None
        self._lexicon: Lexicon | None = None
        self._file: tuple[int, int] | None = None
        self._marked = True
        """False for a file from before marks, which has one column of terms."""

    @property
    def removed(self) -> bool:
        """Whether its open file was removed or replaced by another process, which dropped the version."""
        return self._file is not None and self._file != _identity(self._path)

    @property
    def memory(self) -> int:
        """Bytes of the vectors and postings in memory."""
        loaded, lexicon = self._matrix, self._lexicon
        return (loaded.matrix.nbytes if loaded else 0) + (lexicon.nbytes if lexicon else 0)

    def forget(self) -> None:
        """Free the vectors and postings in memory; the next search reads them again."""
        self._matrix = self._lexicon = None

    def close(self) -> None:
        """Close connections, each as soon as it is no longer in use."""
        self._closed = True
        self._matrix = self._lexicon = None
        self._spare.close(self)

    def upsert(self, entries: Sequence[Entry], fence: Fence | None = None) -> None:
        """Write entries in one commit."""
        latest = {entry.id: entry for entry in entries}
        # Before the commit begins: other writers wait for it.
        terms = {entry.id: self._analyzed(entry) for entry in latest.values()}
        with self._write(fence) as connection:
            dimensions = _dimensions(connection, latest.values())
            existing = "SELECT row FROM entries WHERE id IN (SELECT value FROM json_each(?))"
            _delete(connection, existing, json.dumps([*latest]))
            for entry in latest.values():
                self._insert(connection, entry, terms[entry.id])
            if dimensions is not None:
                from .codes import write_codes

                write_codes(connection, dimensions)
            connection.execute("UPDATE about SET dimensions = ?, generation = generation + 1", (dimensions,))

    def delete(self, document: str | None, ids: Collection[str] | None = None, fence: Fence | None = None) -> None:
        """Remove a document's entries, or only those of ``ids``; without a document, all entries."""
        if not self._path.exists():
            return
        parts, values = ["1"], []
        if document is not None:
            parts.append("document = ?")
            values.append(document)
        if ids is not None:
            parts.append("id IN (SELECT value FROM json_each(?))")
            values.append(json.dumps(list(ids)))
        with self._write(fence) as connection:
            _delete(connection, f"SELECT row FROM entries WHERE {' AND '.join(parts)}", *values)  # noqa: S608
            if document is None:
                # Terms of removed texts stay in FTS5's segments until a merge: merge now.
                connection.execute("INSERT INTO terms (terms) VALUES ('optimize')")
            connection.execute("UPDATE about SET generation = generation + 1")
        if document is None:
            with self._connection(create=True) as connection:
                assert connection is not None  # noqa: S101 - it was created
                empty_wal(connection)

    def nearest(self, vector: Vector, k: int, where: Where) -> list[Hit]:
        """Return the nearest entries by cosine."""
        with self._read() as connection:
            matrix = None if connection is None else self._load_matrix(connection)
            if connection is None or matrix is None:
                return []
            if len(vector) != matrix.dimensions:
                raise _wrong_length(len(vector), matrix.dimensions)
            allowed = _rows_where(connection, where)
            cosines = dict(matrix.nearest(vector, k, allowed, lambda rows: _vectors_of(connection, rows)))
            sql = f"SELECT {_COLUMNS}, e.row FROM entries e WHERE e.row IN (SELECT value FROM json_each(?))"  # noqa: S608
            rows = connection.execute(sql, (json.dumps(list(cosines)),)).fetchall()
            return sorted((self._hit(row, cosines[row[-1]]) for row in rows), key=lambda hit: -hit.score)

    def matching(self, query: str, k: int, where: Where) -> list[Hit]:
        """Return the entries with the highest BM25."""
        with self._read() as connection:
            if connection is None:
                return []
            present = [name for (name,) in connection.execute("SELECT name FROM languages")]
            words = chosen(query, self._analyzer, present, lambda terms: _counts(connection, terms))
            parts = parts_of(corrected(words, self._terms(connection)))
            if not parts:
                return []
            if not self._marked:
                parts = [QueryPart((), part.forms, (), part.weight) for part in parts]
            scores = dict(self._best(connection, parts, k, where))
            sql = f"SELECT {_COLUMNS}, e.row FROM entries e WHERE e.row IN (SELECT value FROM json_each(?))"  # noqa: S608
            rows = connection.execute(sql, (json.dumps(list(scores)),)).fetchall()
        # The scores are in the order of the hits.
        found = {row[-1]: row for row in rows}
        return [self._hit(found[row], score) for row, score in scores.items() if row in found]

    def read(self, document: str) -> list[Hit]:
        """Return a document's entries with their vectors."""
        sql = f"SELECT {_COLUMNS}, v.vector FROM entries e LEFT JOIN vectors v USING (row) WHERE e.document = ?"  # noqa: S608
        with self._read() as connection:
            rows = [] if connection is None else connection.execute(sql, (document,)).fetchall()
        return [self._hit(row, 0.0, row[-1]) for row in rows]

    def count(self) -> int:
        """Return the number of entries."""
        with self._read() as connection:
            row = (0,) if connection is None else connection.execute("SELECT count(*) FROM entries").fetchone()
        return int(row[0])

    def _analyzed(self, entry: Entry) -> Analyzed:
        give_way()
        return self._analyzer.analyze(entry.text, entry.title, entry.language)

    def _insert(self, connection: sqlite3.Connection, entry: Entry, analyzed: Analyzed) -> None:
        inserted = connection.execute(
            "INSERT INTO entries (id, document, text, tags, place) VALUES (?, ?, ?, ?, ?)",
            (entry.id, entry.document, entry.text, _json(entry.tags), _json(entry.place)),
        )
        if self._marked:
            columns = map(" ".join, analyzed.columns)
            sql = "INSERT INTO terms (rowid, words, fragments, marks) VALUES (?, ?, ?, ?)"
            connection.execute(sql, (inserted.lastrowid, *columns))
        else:
            terms = " ".join(analyzed.terms)
            connection.execute("INSERT INTO terms (rowid, words) VALUES (?, ?)", (inserted.lastrowid, terms))
        connection.execute("INSERT OR IGNORE INTO languages VALUES (?)", (analyzed.language,))
        if entry.vector is not None:
            from .vectors import unit

            connection.execute("INSERT INTO vectors VALUES (?, ?)", (inserted.lastrowid, unit(entry.vector).tobytes()))

    def _hit(self, row: tuple[Any, ...], score: float, vector: bytes | None = None) -> Hit:
        app_id, owner, version, _ = self._about
        return Hit(app_id, owner, version, _entry(row, vector), score)

    def _load_matrix(self, connection: sqlite3.Connection) -> Matrix | None:
        """Return the vectors as of the connection's transaction.

        Changes by other writers since the last time are read first.
        """
        loaded = self._matrix
        generation, dimensions = _state(connection)
        if loaded is not None and loaded.generation == generation:
            return loaded.matrix
        if dimensions is None:
            return None
        with self._loading:
            # Another thread may have loaded a newer state than this transaction sees, so begin a new transaction.
            connection.execute("ROLLBACK")
            connection.execute("BEGIN")
            loaded = self._matrix
            generation, dimensions = _state(connection)
            if loaded is None or loaded.generation != generation:
                loaded = self._matrix = _refresh(connection, loaded, generation, dimensions)
            return loaded.matrix

    def _best(
        self, connection: sqlite3.Connection, parts: Sequence[QueryPart], k: int, where: Where
    ) -> list[tuple[int, float]]:
        """Return the rows that match the parts best, as of the connection's transaction, which may begin anew."""
        with self._asking:
            lexicon = self._load_lexicon(connection)
            allowed = _allowed(connection, lexicon, where)
            return lexicon.best(parts, k, self._terms(connection), allowed)

    def _load_lexicon(self, connection: sqlite3.Connection) -> Lexicon:
        """Return the texts as of the connection's transaction. Changes since the last time are read first."""
        from .postings import Lexicon

        lexicon = self._lexicon
        if lexicon is not None and lexicon.generation == _state(connection)[0]:
            return lexicon
        # Another thread may have loaded a newer state than this transaction sees, so begin a new transaction.
        connection.execute("ROLLBACK")
        connection.execute("BEGIN")
        generation, _ = _state(connection)
        oldest, newest = connection.execute("SELECT min(number), max(number) FROM removals").fetchone()
        last = newest or 0
        if lexicon is None or lexicon.worn or lexicon.removals + 1 < (oldest or 0):
            lexicon = self._lexicon = Lexicon(generation, last, _texts(connection, 0))
            return lexicon
        removed = connection.execute("SELECT row FROM removals WHERE number > ?", (lexicon.removals,)).fetchall()
        added = _texts(connection, lexicon.texts.last)
        lexicon.update(generation, last, [row[0] for row in removed], added, self._terms(connection))
        return lexicon

    def _terms(self, connection: sqlite3.Connection) -> _Terms:
        return _Terms(connection, self._marked)

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection | None]:
        with self._connection(create=False) as connection:
            if connection is None:
                yield None
                return
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    @contextmanager
    def _write(self, fence: Fence | None = None) -> Iterator[sqlite3.Connection]:
        with self._writing, self._connection(create=True) as connection:
            assert connection is not None  # noqa: S101 - it was created
            connection.execute("BEGIN IMMEDIATE")
            try:
                # The process that raises the fence needs this lock, too, before it removes entries. So either it comes
                # after this write and removes it, or this check sees the raised fence.
                if fence is not None:
                    fence.check()
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _connection(self, *, create: bool) -> Iterator[sqlite3.Connection | None]:
        connection = self._spare.take(self) or self._open(create)
        try:
            yield connection
        except sqlite3.OperationalError as error:
            locked = "locked" in str(error) or "busy" in str(error)
            raise IndexUnavailable(reason=str(error)) if locked else _failure(error, str(error)) from error
        except (sqlite3.Error, UnicodeEncodeError) as error:
            raise _failure(error, str(error)) from error
        finally:
            if connection is not None:
                self._spare.put(self, connection)
                if self._closed:
                    self._spare.close(self)

    def _open(self, create: bool) -> sqlite3.Connection | None:
        if not create and not self._path.exists():
            return None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path.touch(mode=0o600)
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA synchronous = NORMAL")
            # Overwrite erased text instead of only freeing its pages.
            connection.execute("PRAGMA secure_delete = ON")
            self._prepare(connection)
            self._file = _identity(self._path)
        except (sqlite3.Error, OSError) as error:
            raise _failure(error, f"{self._path}: {error}") from error
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            _switch_to_wal(connection)
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                for statement in _SCHEMA.split(";\n"):
                    connection.execute(statement)
                connection.execute("INSERT INTO about VALUES (?, ?, ?, ?, NULL, 0)", self._about)
                connection.execute(f"PRAGMA user_version = {_LAYOUT}")
            connection.execute("COMMIT")
        for statement in _MORE.split(";\n"):
            connection.execute(statement)
        self._marked = (
            connection.execute("SELECT 1 FROM pragma_table_info('terms') WHERE name = 'marks'").fetchone() is not None
        )
        owner_record = connection.execute("SELECT app, owner, version, words FROM about").fetchone()
        if owner_record != self._about:
            connection.close()
            raise IndexFailed(
                reason=f"{self._path} holds {owner_record!r} and not {self._about!r}; build another version"
            )


class _Terms(Vocabulary):
    """The terms of a file, as of a connection's transaction.

    Args:
        marked: False for a file from before marks, which has one column of terms.
    """

    def __init__(self, connection: sqlite3.Connection, marked: bool) -> None:
        self._connection = connection
        self._columns = "words, fragments, marks" if marked else "words"

    def has(self, term: str) -> bool:
        """Return whether any entry has a term."""
        return self._connection.execute("SELECT 1 FROM places WHERE term = ? LIMIT 1", (term,)).fetchone() is not None

    def beginning(self, letter: str) -> Mapping[str, int]:
        """Return the terms that begin with a letter, and how many entries have each."""
        rows = self._connection.execute(
            "SELECT term, doc FROM counts WHERE term >= ? AND term < ?", (letter, chr(ord(letter) + 1))
        )
        return dict(rows.fetchall())

    def postings(self, term: str) -> list[tuple[int, float]]:
        """Return the rows that have a term, in order, each with its BM25 for this term alone. Marks count nothing."""
        if term[0] == MARK:
            sql, column = "SELECT rowid, 0.0 FROM terms WHERE terms MATCH ? ORDER BY rowid", "marks"
        else:
            # Marks have a weight of 0.
            sql = "SELECT rowid, -bm25(terms, 1.0, 1.0, 0.0) FROM terms WHERE terms MATCH ? ORDER BY rowid"
            column = "words" if is_word(term) else "fragments"
        return self._connection.execute(sql, (f'{column} : "{term}"',)).fetchall()

    def having(self, word: str) -> int:
        """Return how many entries have a word."""
        sql = "SELECT doc FROM columns WHERE term = ? AND col = 'words'"
        return sum(row[0] for row in self._connection.execute(sql, (word,)))

    def terms_of(self, rows: Sequence[int]) -> list[Counter[str]]:
        """Return how often each of these entries has each term, and the mark of its language."""
        sql = f"SELECT rowid, {self._columns} FROM terms WHERE rowid IN (SELECT value FROM json_each(?))"  # noqa: S608
        found = {row[0]: row[1:] for row in self._connection.execute(sql, (json.dumps(list(rows)),))}
        return [_counted(*found[row]) for row in rows]


def _counted(words: str, fragments: str = "", marks: str = "") -> Counter[str]:
    return Counter([*words.split(), *fragments.split(), *(mark for mark in marks.split() if mark[0] == MARK)])


def _texts(connection: sqlite3.Connection, after: int) -> Texts:
    """Return the texts behind a row, with their lengths."""
    from .postings import Texts

    found = connection.execute("SELECT id, sz FROM terms_docsize WHERE id > ? ORDER BY id", (after,)).fetchall()
    sizes = [size for _, size in found]
    lengths = {size: _length(size) for size in set(sizes)}  # many texts are equally long
    return Texts.of([row for row, _ in found], [lengths[size] for size in sizes])


def _length(size: bytes) -> int:
    """Return the sum of the numbers of FTS5's record of a text's length, one for each column.

    They are SQLite's varints (https://sqlite.org/fileformat.html#varint): seven bits a byte, the highest ones first.
    """
    total = number = 0
    for byte in size:
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            total += number
            number = 0
    return total


def _allowed(connection: sqlite3.Connection, lexicon: Lexicon, where: Where) -> Any:
    """Return which texts a filter accepts; None for all."""
    documents, others = where.get("document"), {name: where[name] for name in where if name != "document"}
    allowed = None
    if documents is not None:
        sql = "SELECT row, document FROM entries WHERE row > ?"
        allowed = lexicon.of_documents(documents, lambda after: connection.execute(sql, (after,)))
    if others:
        import numpy as np

        accepted = np.zeros(len(lexicon.texts.rows), np.bool_)
        accepted[lexicon.texts.places_of(_rows_where(connection, others))] = True
        allowed = accepted if allowed is None else allowed & accepted
    return allowed


def _counts(connection: sqlite3.Connection, terms: Sequence[str]) -> dict[str, int]:
    """Return how many entries have each of these terms; terms that none has are missing."""
    sql = "SELECT term, doc FROM counts WHERE term = ?"
    return dict(row for term in terms for row in connection.execute(sql, (term,)))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    # SQLite's busy timeout does not cover this switch, and two processes may open a new file at once.
    give_up = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.01)


def _state(connection: sqlite3.Connection) -> tuple[int, int]:
    state: tuple[int, int] = connection.execute("SELECT generation, dimensions FROM about").fetchone()
    return state


def _dimensions(connection: sqlite3.Connection, entries: Collection[Entry]) -> int | None:
    (length,) = connection.execute("SELECT dimensions FROM about").fetchone()
    for entry in entries:
        if entry.vector is not None:
            length = length or len(entry.vector)
            if len(entry.vector) != length:
                raise _wrong_length(len(entry.vector), length)
    return None if length is None else int(length)


def _wrong_length(length: int, expected: int) -> IndexFailed:
    return IndexFailed(reason=f"a vector has {length} dimensions, and those of this version have {expected}")


def _delete(connection: sqlite3.Connection, rows: str, *values: str) -> None:
    rows_to_delete = [row[0] for row in connection.execute(rows, values)]
    for table, key in (("terms", "rowid"), ("vectors", "row"), ("entries", "row")):
        connection.executemany(f"DELETE FROM {table} WHERE {key} = ?", ((row,) for row in rows_to_delete))  # noqa: S608
    if rows_to_delete:
        if connection.execute("SELECT 1 FROM codes LIMIT 1").fetchone():
            from .codes import forget_codes

            forget_codes(connection, rows_to_delete)
        kept = "SELECT max(number) - ? FROM removals"
        connection.execute(f"DELETE FROM removals WHERE number <= ({kept})", (_REMOVALS_KEPT,))  # noqa: S608


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The vectors of one state of the file. ``removals``: the number of the last removal that they know."""

    generation: int
    removals: int
    matrix: Matrix


def _refresh(connection: sqlite3.Connection, loaded: _Loaded | None, generation: int, dimensions: int) -> _Loaded:
    """Return the vectors as of the connection's transaction; only what changed since ``loaded`` is read."""
    from .codes import read_codes, read_middle
    from .vectors import Matrix

    oldest, newest = connection.execute("SELECT min(number), max(number) FROM removals").fetchone()
    last, middle = newest or 0, read_middle(connection)
    is_known = loaded is not None and loaded.matrix.made_of == (middle.made_of if middle else 0)
    if loaded is not None and is_known and loaded.removals + 1 >= (oldest or 0):
        removed = connection.execute("SELECT row FROM removals WHERE number > ?", (loaded.removals,)).fetchall()
        matrix = loaded.matrix.without([row[0] for row in removed])
    else:
        (most,) = connection.execute("SELECT count(*) FROM entries").fetchone()
        matrix = Matrix.coded(dimensions, middle, read_codes(connection), most)
    for rows, vectors in _vectors(connection, matrix.last):
        matrix = matrix.add(rows, vectors)
    return _Loaded(generation, last, matrix)


def _vectors(connection: sqlite3.Connection, after: int) -> Iterator[tuple[list[int], list[bytes]]]:
    """Yield the rows behind ``after`` that have vectors, in batches."""
    added = connection.execute("SELECT row, vector FROM vectors WHERE row > ? ORDER BY row", (after,))
    while batch := added.fetchmany(_ROWS_AT_A_TIME):
        yield [row for row, _ in batch], [vector for _, vector in batch]


def _vectors_of(connection: sqlite3.Connection, rows: Sequence[int]) -> list[tuple[int, bytes]]:
    sql = "SELECT row, vector FROM vectors WHERE row IN (SELECT value FROM json_each(?)) ORDER BY row"
    return connection.execute(sql, (json.dumps(rows),)).fetchall()


def _condition(where: Where) -> tuple[str, list[str]]:
    parts, values = ["1"], []
    for name, allowed in where.items():
        if name == "document":
            parts.append("e.document IN (SELECT value FROM json_each(?))")
        else:
            parts.append("json_extract(e.tags, ?) IN (SELECT value FROM json_each(?))")
            values.append(f'$."{name}"')
        values.append(_json(list(allowed)))
    return " AND ".join(parts), values


def _rows_where(connection: sqlite3.Connection, where: Where) -> Any:
    if not where:
        return None
    import numpy as np

    condition, values = _condition(where)
    rows = connection.execute(f"SELECT e.row FROM entries e WHERE {condition}", values).fetchall()  # noqa: S608
    return np.fromiter((row[0] for row in rows), np.int64, len(rows))


def _entry(row: tuple[Any, ...], vector: bytes | None = None) -> Entry:
    name, document, text, tags, place = row[:5]
    entry = Entry(name, document, text, None, json.loads(tags), json.loads(place))
    if vector is None:
        return entry
    import numpy as np

    return replace(entry, vector=np.frombuffer(vector, np.float32))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _failure(error: Exception, reason: str) -> IndexFailed:
    fault = machine_fault(error)
    return (
        IndexFailed(reason=reason) if fault is None else IndexUnavailable(reason=reason, retry_after=fault.retry_after)
    )
