"""The index in PostgreSQL with pgvector: one table for all apps, row-level security by app, HNSW for large owners.

Every statement runs as the role ``firelaunch_apps``. A policy binds this role to the app that the transaction names,
so a statement with a wrong filter still reads no other app's rows, whatever role the URL logs in with.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ...errors import IndexFailed, IndexUnavailable
from ...scope import Scope
from ...store.fence import Fence
from .base import Entry, Hit, Where, owner_of, scopes_of
from .words import Analyzer, chosen, flat

if TYPE_CHECKING:
    from .base import Vector

__all__ = ["PgvectorIndex"]

log = logging.getLogger(__name__)

_POOL = 10
_WAIT_SECONDS = 10.0
_LOCK = 0x66697265  # "fire": key of the advisory lock for creating the schema
_EXACT_ROWS = 20_000
"""Up to this many chunks of an owner are compared one by one, which misses none; beyond, HNSW finds nearly all."""

_HNSW_DIMENSIONS = 2_000
"""The most dimensions of an HNSW index (https://github.com/pgvector/pgvector#hnsw)."""

_TIMEOUTS = {"lock_timeout": "10s", "idle_in_transaction_session_timeout": "60s"}
_CONNECTION_LIMITS = {"connect_timeout": 10, "tcp_user_timeout": 30_000}
"""Seconds to connect, and milliseconds that sent data may stay unacknowledged, so that no thread waits for a server
that is gone (https://www.postgresql.org/docs/current/libpq-connect.html)."""

_MOST_TERMS = 256
"""The most terms of a query, in all languages that it may be in."""

_POSITIONS = 255
_MOST_POSITION = 16_383
"""The largest position; ``_POSITIONS`` is the most positions of a lexeme
(https://www.postgresql.org/docs/current/textsearch-limitations.html).
"""

_TABLE = "SELECT count(*) FROM pg_class WHERE relname = 'firelaunch_chunks' AND pg_table_is_visible(oid)"
"""Counts our table. After a wait for the lock, ``to_regclass`` may still answer from what the session cached before."""

_SCHEMA = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE firelaunch_chunks (
    app text NOT NULL, owner text NOT NULL, version text NOT NULL, id text NOT NULL, document text NOT NULL,
    body text NOT NULL, terms tsvector NOT NULL, tags jsonb NOT NULL, place text NOT NULL, embedding vector,
    PRIMARY KEY (app, owner, version, id)
);
CREATE INDEX firelaunch_chunks_document ON firelaunch_chunks (app, owner, document);
CREATE INDEX firelaunch_chunks_version ON firelaunch_chunks (app, version);
CREATE INDEX firelaunch_chunks_terms ON firelaunch_chunks USING gin (terms);
ALTER TABLE firelaunch_chunks ENABLE ROW LEVEL SECURITY;
ALTER TABLE firelaunch_chunks FORCE ROW LEVEL SECURITY;
CREATE POLICY of_the_app ON firelaunch_chunks
    USING (app = current_setting('firelaunch.app', true)) WITH CHECK (app = current_setting('firelaunch.app', true));
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'firelaunch_apps') THEN
        CREATE ROLE firelaunch_apps NOLOGIN NOSUPERUSER NOBYPASSRLS;
    END IF;
END $$;
GRANT firelaunch_apps TO CURRENT_USER;
GRANT SELECT, INSERT, UPDATE, DELETE ON firelaunch_chunks TO firelaunch_apps;
"""
_FIELDS = "app, owner, version, id, document, body, tags, place"


class PgvectorIndex:
    """An :class:`~firelaunch.rag.index.base.Index`. Words are ranked by PostgreSQL's ``ts_rank``, which is not BM25.

    The first use creates the table, for which the URL's role needs the right; afterwards it needs ``firelaunch_apps``.

    Args:
        url: ``postgresql://user:password@host/database``.
        analyzer: makes terms of texts and queries. Another analyzer needs another version.
    """

    has_words = True

    def __init__(self, url: str, analyzer: Analyzer | None = None) -> None:
        self._url = url
        self._analyzer = analyzer or Analyzer()
        self._lock = threading.Lock()
        self._indexed: set[tuple[str, int]] = set()
        self._threads = ThreadPoolExecutor(_POOL, thread_name_prefix="pgvector-fence")

    @cached_property
    def _pool(self) -> Any:
        with self._lock:
            if "_pool" in self.__dict__:
                return self.__dict__["_pool"]
            from psycopg_pool import ConnectionPool

            pool = ConnectionPool(
                self._url, min_size=0, max_size=_POOL, timeout=_WAIT_SECONDS, open=True, kwargs=_CONNECTION_LIMITS
            )
            with pool.connection() as connection:
                _prepare(connection)
            return pool

    def upsert(self, scope: Scope, version: str, entries: Sequence[Entry], fence: Fence | None = None) -> None:
        """Write all entries in one commit, as :class:`~firelaunch.rag.index.base.Index` describes."""
        # Write in the order of ids, so that two writers wait for each other instead of deadlocking.
        latest = sorted({entry.id: entry for entry in entries}.values(), key=lambda entry: entry.id)
        with self._transaction(scope, "_shared", fence) as run:
            length = _checked_length(run, scope, version, latest)
            for entry in latest:
                run(
                    f"INSERT INTO firelaunch_chunks ({_FIELDS}, terms, embedding) "  # noqa: S608
                    "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s::tsvector, %s::vector) "
                    "ON CONFLICT (app, owner, version, id) DO UPDATE SET document = excluded.document, "
                    "body = excluded.body, tags = excluded.tags, place = excluded.place, terms = excluded.terms, "
                    "embedding = excluded.embedding",
                    self._row(scope, version, entry),
                )
        if length is not None:
            self._make_hnsw(version, length)

    def delete(
        self,
        scope: Scope,
        document: str | None = None,
        *,
        version: str | None = None,
        ids: Collection[str] | None = None,
        fence: Fence | None = None,
    ) -> None:
        """Remove entries, as :class:`~firelaunch.rag.index.base.Index` describes."""
        parts = ["app = %s", "owner = %s"]
        values: list[Any] = [scope.app_id, owner_of(scope)]
        if ids is not None:
            parts.append("id = ANY(%s)")
            values.append(list(ids))
        for field, value in (("document", document), ("version", version)):
            if value is not None:
                parts.append(f"{field} = %s")
                values.append(value)
        with self._transaction(scope, "", fence) as run:
            run(f"DELETE FROM firelaunch_chunks WHERE {' AND '.join(parts)}", values)  # noqa: S608

    def nearest(
        self, scope: Scope, version: str, vector: Vector, k: int, where: Where | None = None, *, library: bool = True
    ) -> list[Hit]:
        """Return the nearest entries, as :class:`~firelaunch.rag.index.base.Index` describes."""
        condition, values = _condition(scope, version, where, library)
        with self._transaction(scope) as run:
            length = _length(run, scope, version)
            if length is None:
                return []
            if len(vector) != length:
                raise _wrong_length(len(vector), length)
            counts = run(
                f"SELECT count(*) FROM (SELECT FROM firelaunch_chunks WHERE {condition} LIMIT %s) AS seen",  # noqa: S608
                [*values, _EXACT_ROWS + 1],
            )
            rows: list[Any] = []
            if counts[0][0] > _EXACT_ROWS and length <= _HNSW_DIMENSIONS:
                run("SELECT set_config('hnsw.ef_search', %s, true)", [str(min(1_000, max(40, 4 * k)))])
                rows = _nearest_rows(run, "firelaunch_chunks", condition, values, vector, k)
            if len(rows) < k:
                # HNSW picks the nearest of all owners before it filters, so too few of this owner's may remain.
                own = f"(SELECT * FROM firelaunch_chunks WHERE {condition} OFFSET 0) AS own"  # noqa: S608
                rows = _nearest_rows(run, own, condition, values, vector, k, twice=True)
        return [_hit(row) for row in rows]

    def matching(
        self,
        scope: Scope,
        version: str,
        query: str,
        k: int,
        where: Where | None = None,
        *,
        library: bool = True,
        texts: bool = True,  # noqa: ARG002 - they come with the hits
    ) -> list[Hit]:
        """Return the entries that match the words best, as :class:`~firelaunch.rag.index.base.Index` describes."""
        condition, values = _condition(scope, version, where, library)
        with self._transaction(scope) as run:
            words = chosen(query, self._analyzer, None, lambda terms: _counts(run, condition, values, terms))
            terms = " | ".join(map(_quote, flat(words)[:_MOST_TERMS]))
            if not terms:
                return []
            rows = run(
                f"SELECT {_FIELDS}, ts_rank(terms, %s::tsquery, 1) AS score FROM firelaunch_chunks "  # noqa: S608
                f"WHERE {condition} AND terms @@ %s::tsquery ORDER BY score DESC, id LIMIT %s",
                [terms, *values, terms, k],
            )
        return [_hit(row) for row in rows]

    def texts(self, scope: Scope, hits: Sequence[Hit]) -> list[Hit]:  # noqa: ARG002 - of the port
        """Return the hits with their texts, as :class:`~firelaunch.rag.index.base.Index` describes."""
        return list(hits)

    def read(self, scope: Scope, version: str, document: str) -> list[Hit]:
        """Return a document's entries, as :class:`~firelaunch.rag.index.base.Index` describes."""
        with self._transaction(scope) as run:
            rows = run(
                f"SELECT {_FIELDS}, embedding::real[] FROM firelaunch_chunks "  # noqa: S608
                "WHERE app = %s AND owner = %s AND version = %s AND document = %s",
                [scope.app_id, owner_of(scope), version, document],
            )
        return [Hit(row[0], row[1], row[2], _entry(row, row[-1]), 0.0) for row in rows]

    def count(self, scope: Scope, version: str) -> int:
        """Return the number of entries, as :class:`~firelaunch.rag.index.base.Index` describes."""
        condition, values = _condition(scope, version, None, library=False)
        with self._transaction(scope) as run:
            return int(run(f"SELECT count(*) FROM firelaunch_chunks WHERE {condition}", values)[0][0])  # noqa: S608

    def drop(self, app_id: str, version: str) -> None:
        """Remove a version, as :class:`~firelaunch.rag.index.base.Index` describes."""
        with self._transaction(Scope(app_id)) as run:
            run("DELETE FROM firelaunch_chunks WHERE app = %s AND version = %s", [app_id, version])

    def close(self) -> None:
        """Release connections and memory, as :class:`~firelaunch.rag.index.base.Index` describes."""
        self._threads.shutdown(wait=False)
        if "_pool" in self.__dict__:
            self._pool.close()

    def _row(self, scope: Scope, version: str, entry: Entry) -> list[Any]:
        text = entry.text.replace("\x00", "\ufffd")  # PostgreSQL cannot store NUL
        own = [scope.app_id, owner_of(scope), version, entry.id, entry.document, text]
        vector = None if entry.vector is None else _literal(entry.vector)
        place = json.dumps(dict(entry.place), ensure_ascii=False)
        return [
            *own,
            json.dumps(dict(entry.tags)),
            place,
            _lexemes(self._analyzer.analyze(entry.text, entry.title, entry.language).terms),
            vector,
        ]

    @contextmanager
    def _transaction(self, scope: Scope, lock: str | None = None, fence: Fence | None = None) -> Iterator[Any]:
        """Open a transaction that sees one app.

        Args:
            lock: on the owner's entries: "_shared" for writers, "" for an exclusive one, None for reading.
            fence: the condition of the transaction. It needs a lock.
        """
        with _translate_errors(), self._pool.connection() as connection:
            connection.execute("SET LOCAL ROLE firelaunch_apps")
            setting = "SELECT set_config('firelaunch.app', %s, true)"
            values: list[Any] = [scope.app_id]
            if lock is not None:
                # Without these limits, a writer that is suspended in here would keep the lock all the time.
                for name, limit in _TIMEOUTS.items():
                    setting += ", set_config(%s, %s, true)"
                    values += [name, limit]
                setting += f", pg_advisory_xact_lock{lock}(%s)"
                values.append(_owner_lock(scope))
            connection.execute(setting.encode(), values)
            # The process that raises the fence needs the exclusive lock before it removes entries. So either it waits
            # for this transaction and removes its entries, or the check, which runs meanwhile, sees the raised fence.
            allowed = None if fence is None else self._threads.submit(fence.check)

            def run(sql: str, values: Sequence[Any]) -> list[Any]:
                cursor = connection.execute(sql, values)
                return cursor.fetchall() if cursor.description else []

            yield run
            if allowed is not None:
                allowed.result()

    def _make_hnsw(self, version: str, length: int) -> None:
        """Create an HNSW index of a version's vectors while writes go on. Without it, searches are exact and slower."""
        if (version, length) in self._indexed or length > _HNSW_DIMENSIONS:
            return
        self._indexed.add((version, length))
        import psycopg

        name = f"firelaunch_hnsw_{sha256(f'{version} {length}'.encode()).hexdigest()[:16]}"
        try:
            with psycopg.connect(self._url, autocommit=True) as connection:
                # Version ids hold only letters, digits, "_" and "-" (scope.check_id), so the literal is safe.
                definition = (
                    f"USING hnsw ((embedding::vector({length:d})) vector_cosine_ops) WHERE version = '{version}'"
                )
                connection.execute(
                    f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON firelaunch_chunks {definition}".encode()
                )
        except psycopg.Error as error:
            log.warning("no HNSW index was made for version %s, and searches compare all vectors: %s", version, error)


def _prepare(connection: Any) -> None:
    with connection.transaction():
        if not connection.execute(_TABLE).fetchone()[0]:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            if not connection.execute(_TABLE).fetchone()[0]:
                connection.execute(_SCHEMA)


def _counts(run: Any, condition: str, values: list[Any], terms: Sequence[str]) -> dict[str, int]:
    """Return how many chunks have each of these terms."""
    rows = run(
        f"SELECT term, (SELECT count(*) FROM firelaunch_chunks WHERE {condition} AND terms @@ quoted::tsquery) "  # noqa: S608
        "FROM unnest(%s::text[], %s::text[]) AS asked (term, quoted)",
        [*values, list(terms), list(map(_quote, terms))],
    )
    return {term: count for term, count in rows if count}


def _owner_lock(scope: Scope) -> int:
    """Return the key of the advisory lock of an owner's entries: a signed 64-bit integer."""
    key = sha256(f"{scope.app_id}\n{owner_of(scope)}".encode()).digest()
    return int.from_bytes(key[:8], "big", signed=True)


def _nearest_rows(
    run: Any, table: str, condition: str, values: list[Any], vector: Vector, k: int, *, twice: bool = False
) -> list[Any]:
    cast = f"embedding::vector({len(vector):d})"
    rows: list[Any] = run(
        f"SELECT {_FIELDS}, 1 - ({cast} <=> %s::vector) FROM {table} WHERE {condition} AND embedding IS NOT NULL "  # noqa: S608
        f"ORDER BY {cast} <=> %s::vector LIMIT %s",
        [_literal(vector), *(values if twice else []), *values, _literal(vector), k],
    )
    return rows


def _condition(scope: Scope, version: str, where: Where | None, library: bool) -> tuple[str, list[Any]]:
    owners = [owner_of(each) for each in scopes_of(scope, library)]
    parts, values = ["app = %s", "owner = ANY(%s)", "version = %s"], [scope.app_id, owners, version]
    for name, allowed in (where or {}).items():
        if name == "document":
            parts.append("document = ANY(%s)")
        else:
            parts.append("tags ->> %s = ANY(%s)")
            values.append(name)
        values.append(list(allowed))
    return " AND ".join(parts), values


def _length(run: Any, scope: Scope, version: str) -> int | None:
    rows = run(
        "SELECT vector_dims(embedding) FROM firelaunch_chunks "
        "WHERE app = %s AND version = %s AND embedding IS NOT NULL LIMIT 1",
        [scope.app_id, version],
    )
    return rows[0][0] if rows else None


def _checked_length(run: Any, scope: Scope, version: str, entries: Sequence[Entry]) -> int | None:
    length = _length(run, scope, version)
    for entry in entries:
        if entry.vector is not None:
            length = length or len(entry.vector)
            if len(entry.vector) != length:
                raise _wrong_length(len(entry.vector), length)
    return length


def _wrong_length(length: int, expected: int) -> IndexFailed:
    return IndexFailed(reason=f"a vector has {length} dimensions, and those of this version have {expected}")


def _literal(vector: Vector) -> str:
    return "[" + ",".join(map(repr, vector.tolist())) + "]"


def _lexemes(terms: Sequence[str]) -> str:
    positions: dict[str, list[str]] = defaultdict(list)
    for number, term in enumerate(terms, 1):
        if len(positions[term]) < _POSITIONS:
            positions[term].append(str(min(number, _MOST_POSITION)))
    return " ".join(f"{_quote(term)}:{','.join(numbers)}" for term, numbers in positions.items())


def _quote(term: str) -> str:
    doubled = term.replace("\\", "\\\\").replace("'", "''")
    return f"'{doubled}'"


def _entry(row: Sequence[Any], vector: Sequence[float] | None = None) -> Entry:
    _, _, _, name, document, text, tags, place = row[:8]
    if vector is None:
        return Entry(name, document, text, None, tags, json.loads(place))
    import numpy as np

    return Entry(name, document, text, np.asarray(vector, np.float32), tags, json.loads(place))


def _hit(row: Sequence[Any]) -> Hit:
    return Hit(row[0], row[1], row[2], _entry(row), float(row[-1]))


@contextmanager
def _translate_errors() -> Iterator[None]:
    import psycopg
    from psycopg_pool import PoolTimeout

    try:
        yield
    except (psycopg.OperationalError, PoolTimeout) as error:
        raise IndexUnavailable(reason=f"{type(error).__name__}: {error}"[:500], retry_after=1) from error
    except (psycopg.Error, UnicodeEncodeError) as error:
        raise IndexFailed(reason=f"{type(error).__name__}: {error}"[:500]) from error
