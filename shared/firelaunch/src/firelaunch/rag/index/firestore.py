"""The index in Firestore itself: each owner's chunks in one collection below the owner, searched with ``find_nearest``.

Words are found by the postings that :mod:`.firestore_words` stores next to the chunks. The collection of chunks is
``apps/{app}/users/{uid}/chunks``, or ``apps/{app}/chunks`` for the library. A query reads one collection, so a query
of one owner cannot reach another's chunks. In production, Firestore needs a composite index of ``version`` and the
vector; docs/search.md has the command. The emulator needs none.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions as google
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter
from google.cloud.firestore_v1.base_vector_query import DistanceMeasure
from google.cloud.firestore_v1.vector import Vector as FirestoreVector

from ...errors import IndexFailed, IndexUnavailable
from ...scope import Scope
from ...store.fence import Fence
from .base import Entry, Hit, Where, owner_of, scopes_of
from .firestore_words import FirestoreWords, commit
from .words import Analyzer

if TYPE_CHECKING:
    from .base import Vector

__all__ = ["FirestoreIndex"]

_MAX_DIMENSIONS = 2_048
"""The most dimensions (https://firebase.google.com/docs/firestore/vector-search#limitations)."""

_BATCH = 100
_BATCH_TEXT = 70_000
"""The most bytes of text in one commit; ``_BATCH`` is the most chunks.

With 2,048 dimensions, both stay well below a commit's 10 MiB. The postings of such texts stay below the 1 MiB of a
document, since each byte of text makes at most 13 bytes of postings (fragments of long words).
"""

_MAX_IN = 30
"""The most values of an ``in`` (https://firebase.google.com/docs/firestore/query-data/queries)."""

_SECONDS = 15.0
_PASSING = (google.ServiceUnavailable, google.DeadlineExceeded, google.ResourceExhausted, google.Aborted)
_DISTANCE = "distance"
_SHOWN = ("chunk", "version", "document", "text", "tags", "place")
"""The fields of a hit: all but the vector, which is the largest part of a chunk."""


class FirestoreIndex:
    """An :class:`~firelaunch.rag.index.base.Index` on one Firestore database.

    If ``FIRESTORE_EMULATOR_HOST`` is set, the client library uses the emulator.

    Args:
        project: Google Cloud project.
        database: "(default)" or a named one.
        client: an existing client.
        analyzer: makes terms of texts and queries. Another analyzer needs another version.
    """

    has_words = True

    def __init__(
        self,
        project: str,
        database: str = "(default)",
        client: firestore.Client | None = None,
        analyzer: Analyzer | None = None,
    ) -> None:
        self._project = project
        self._database = database
        self._own_client = client
        self._lock = threading.Lock()
        self._lengths: dict[tuple[str, str], int] = {}
        self._words = FirestoreWords(lambda: self._client, analyzer or Analyzer())

    @cached_property
    def _client(self) -> firestore.Client:
        with self._lock:
            cached = self.__dict__.get("_client")
            return cached or self._own_client or firestore.Client(project=self._project, database=self._database)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(8, thread_name_prefix="firestore-index")

    def upsert(self, scope: Scope, version: str, entries: Sequence[Entry], fence: Fence | None = None) -> None:
        """Write entries in commits of 100, as :class:`~firelaunch.rag.index.base.Index` describes.

        A chunk's terms are written in the same commit.
        """
        latest = list({entry.id: entry for entry in entries}.values())
        with _translate_errors():
            self._check_lengths(scope, version, latest)
            for group in _batches(latest):
                batch = self._client.batch()
                for entry in group:
                    batch.set(self._chunk(scope, version, entry.id), _fields(version, entry))
                self._words.add(batch, scope, version, group)
                commit(self._client, batch, fence)
            self._words.settle(scope, version)

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
        if ids is not None:
            with _translate_errors():
                self._remove([self._chunk(scope, str(version), each) for each in ids], fence)
                self._words.remove(scope, version, lambda chunk: chunk.name in ids, fence)
            return
        query: Any = self._chunks(scope)
        for field, value in (("document", document), ("version", version)):
            if value is not None:
                query = query.where(filter=FieldFilter(field, "==", value))
        with _translate_errors():
            self._delete(query, fence)
            if document is None:
                self._words.clear(scope, version, fence)
            else:
                self._words.remove(scope, version, lambda chunk: chunk.document == document, fence)

    def nearest(
        self, scope: Scope, version: str, vector: Vector, k: int, where: Where | None = None, *, library: bool = True
    ) -> list[Hit]:
        """Return the nearest entries, as :class:`~firelaunch.rag.index.base.Index` describes.

        Firestore returns at most 1,000. It takes a query for each 30 documents of a filter.
        """
        searches = [
            self._threads.submit(self._nearest, each, version, vector, k, part)
            for each in scopes_of(scope, library)
            for part in _parts(where or {})
        ]
        hits = [hit for future in searches for hit in future.result()]
        return sorted(hits, key=lambda hit: -hit.score)[:k]

    def matching(
        self,
        scope: Scope,
        version: str,
        query: str,
        k: int,
        where: Where | None = None,
        *,
        library: bool = True,
        texts: bool = True,
    ) -> list[Hit]:
        """Return the entries that match the words best, as :class:`~firelaunch.rag.index.base.Index` describes.

        Scores are BM25's, from each owner's own statistics.
        """
        searches = [
            self._threads.submit(self._matching, each, version, query, k, where or {})
            for each in scopes_of(scope, library)
        ]
        hits = sorted((hit for future in searches for hit in future.result()), key=lambda hit: -hit.score)[:k]
        return self.texts(scope, hits) if texts else hits

    def texts(self, scope: Scope, hits: Sequence[Hit]) -> list[Hit]:
        """Return the hits with their texts, as :class:`~firelaunch.rag.index.base.Index` describes."""
        app = Scope(scope.app_id)
        owners = {owner_of(each): each for each in (scope, app)}
        names = {
            self._chunk(owners[hit.owner], hit.version, hit.entry.id): n for n, hit in enumerate(hits) if hit.unread
        }
        if not names:
            return list(hits)
        with _translate_errors():
            snapshots = self._client.get_all(list(names), field_paths=_SHOWN, timeout=_SECONDS)
            entries = {names[each.reference]: _entry(each) for each in snapshots if each.exists}
        return [
            replace(hit, entry=entries.get(n, hit.entry), unread=False)
            for n, hit in enumerate(hits)
            if not hit.unread or n in entries
        ]

    def read(self, scope: Scope, version: str, document: str) -> list[Hit]:
        """Return a document's entries, as :class:`~firelaunch.rag.index.base.Index` describes."""
        query = self._of_version(scope, version).where(filter=FieldFilter("document", "==", document))
        with _translate_errors():
            return [_hit(snapshot, 0.0, with_vector=True) for snapshot in query.stream(timeout=_SECONDS)]

    def count(self, scope: Scope, version: str) -> int:
        """Return the number of entries, as :class:`~firelaunch.rag.index.base.Index` describes."""
        with _translate_errors():
            return int(self._of_version(scope, version).count(alias="n").get(timeout=_SECONDS)[0][0].value)

    def drop(self, app_id: str, version: str) -> None:
        """Remove a version, as :class:`~firelaunch.rag.index.base.Index` describes.

        It goes from user to user; an interrupted call can be repeated.
        """
        app = Scope(app_id)
        with _translate_errors():
            self._delete(self._of_version(app, version))
            self._words.clear(app, version)
            # The list includes users whose own document does not exist.
            for user in self._client.collection(app.users()).list_documents(page_size=300):
                self._delete(self._of_version(app.of(user.id), version))
                self._words.clear(app.of(user.id), version)
        for key in [key for key in self._lengths if key[1] == version]:
            self._lengths.pop(key, None)

    def close(self) -> None:
        """Release connections and memory, as :class:`~firelaunch.rag.index.base.Index` describes."""
        if "_threads" in self.__dict__:
            self._threads.shutdown(wait=False)
        if "_client" in self.__dict__:
            self._client.close()  # type: ignore[no-untyped-call]

    def _chunks(self, scope: Scope) -> Any:
        return self._client.collection(scope.chunks())

    def _chunk(self, scope: Scope, version: str, name: str) -> Any:
        return self._chunks(scope).document(f"{version}.{name}")

    def _of_version(self, scope: Scope, version: str) -> Any:
        return self._chunks(scope).where(filter=FieldFilter("version", "==", version))

    def _nearest(self, scope: Scope, version: str, vector: Vector, k: int, where: Where) -> list[Hit]:
        with _translate_errors():
            length = self._length(scope, version)
            if length is None:
                return []
            if len(vector) != length:
                raise _wrong_length(len(vector), length)
            query = self._of_version(scope, version).select([*_SHOWN, _DISTANCE])
            for name, values in where.items():
                field = name if name == "document" else f"tags.{name}"
                query = query.where(filter=FieldFilter(field, "in", list(values)))
            neighbours = query.find_nearest(
                "embedding",
                FirestoreVector(vector.tolist()),
                limit=k,
                distance_measure=DistanceMeasure.COSINE,
                distance_result_field=_DISTANCE,
            )
            return [_hit(snapshot, 1.0 - snapshot.get(_DISTANCE)) for snapshot in neighbours.stream(timeout=_SECONDS)]

    def _matching(self, scope: Scope, version: str, query: str, k: int, where: Where) -> list[Hit]:
        with _translate_errors():
            ranked = self._words.rank(scope, version, query, k, where)
        return [
            Hit(
                scope.app_id,
                owner_of(scope),
                version,
                Entry(match.chunk.name, match.chunk.document, "", None, match.chunk.tags),
                match.score,
                unread=True,
            )
            for match in ranked
        ]

    def _check_lengths(self, scope: Scope, version: str, entries: Sequence[Entry]) -> None:
        length = self._length(scope, version)
        for entry in entries:
            if entry.vector is None:
                continue
            length = length or len(entry.vector)
            if len(entry.vector) != length:
                raise _wrong_length(len(entry.vector), length)
            if length > _MAX_DIMENSIONS:
                raise IndexFailed(
                    reason=f"{length} dimensions, and Firestore takes {_MAX_DIMENSIONS}: index.dimensions"
                )

    def _length(self, scope: Scope, version: str) -> int | None:
        """Return the dimensions of a scope's vectors in a version; they never change, so they are read once."""
        key = (scope.root, version)
        if key not in self._lengths:
            snapshots = list(self._of_version(scope, version).limit(1).stream(timeout=_SECONDS))
            vector = (
                snapshots[0].get("embedding") if snapshots and "embedding" in (snapshots[0].to_dict() or {}) else None
            )
            if vector is None:
                return None
            self._lengths[key] = len(vector)
        return self._lengths[key]

    def _delete(self, query: Any, fence: Fence | None = None) -> None:
        self._remove([snapshot.reference for snapshot in query.select(["__name__"]).stream(timeout=_SECONDS)], fence)

    def _remove(self, names: Sequence[Any], fence: Fence | None) -> None:
        for first in range(0, len(names), 4 * _BATCH):
            batch = self._client.batch()
            for name in names[first : first + 4 * _BATCH]:
                batch.delete(name)
            commit(self._client, batch, fence)


def _parts(where: Where) -> Iterator[Where]:
    """Yield a filter in parts that a query takes, whose results together are the filter's."""
    documents = where.get("document", ())
    for first in range(0, len(documents), _MAX_IN):
        yield {**where, "document": documents[first : first + _MAX_IN]}
    if not documents:
        yield where


def _batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        bytes_added = len(entry.text.encode())
        if batch and (len(batch) == _BATCH or size + bytes_added > _BATCH_TEXT):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += bytes_added
    if batch:
        yield batch


def _fields(version: str, entry: Entry) -> dict[str, Any]:
    fields = {
        "chunk": entry.id,
        "version": version,
        "document": entry.document,
        "text": entry.text,
        "tags": dict(entry.tags),
        "place": json.dumps(dict(entry.place), ensure_ascii=False),
    }
    return fields if entry.vector is None else {**fields, "embedding": FirestoreVector(entry.vector.tolist())}


def _entry(snapshot: Any, *, with_vector: bool = False) -> Entry:
    data = snapshot.to_dict()
    vector = None
    if with_vector and "embedding" in data:
        import numpy as np

        vector = np.asarray(list(data["embedding"]), np.float32)
    return Entry(data["chunk"], data["document"], data["text"], vector, data["tags"], json.loads(data["place"]))


def _hit(snapshot: Any, score: float, *, with_vector: bool = False) -> Hit:
    # Take the owner from the path, which shows where the chunk really is, and not from its fields.
    _, app_id, *rest, _, _ = snapshot.reference.path.split("/")
    scope = Scope(app_id)
    if rest:
        scope = scope.of_group(rest[1]) if rest[0] == "groups" else scope.of(rest[1])
    return Hit(app_id, owner_of(scope), snapshot.get("version"), _entry(snapshot, with_vector=with_vector), score)


def _wrong_length(length: int, expected: int) -> IndexFailed:
    return IndexFailed(reason=f"a vector has {length} dimensions, and those of this version have {expected}")


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except _PASSING as error:
        raise IndexUnavailable(reason=f"{type(error).__name__}: {error}"[:500], retry_after=1) from error
    except (google.GoogleAPIError, UnicodeEncodeError) as error:
        raise IndexFailed(reason=f"{type(error).__name__}: {error}"[:500]) from error
