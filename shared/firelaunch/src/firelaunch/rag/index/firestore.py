"""The index in Firestore itself: each owner's chunks in one collection below the owner, searched with ``find_nearest``.

Words are found by the postings that :mod:`.firestore_words` keeps beside them. The collection of chunks is
``apps/{app}/users/{uid}/chunks``, or ``apps/{app}/chunks`` for the library: a query reads one collection, so that of
one owner can reach no other's. In production Firestore asks for a composite index of ``version`` and the vector;
docs/search.md has the command. The emulator asks for none.
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
"""https://firebase.google.com/docs/firestore/vector-search#limitations."""

_BATCH = 100
_BATCH_TEXT = 120_000
"""Chunks in one commit, and bytes of their texts: with 2,048 dimensions each well below its 10 MiB, and the postings of
such texts are below the 1 MiB of a document, as each byte of text makes six of them at most (by pairs of CJK)."""

_SECONDS = 15.0
_PASSING = (google.ServiceUnavailable, google.DeadlineExceeded, google.ResourceExhausted, google.Aborted)
_DISTANCE = "distance"
_SHOWN = ("chunk", "version", "document", "text", "tags", "place")
"""What a hit is made of: all but the vector, which is the largest part of a chunk."""


class FirestoreIndex:
    """An :class:`~firelaunch.rag.index.base.Index` on one Firestore database.

    ``FIRESTORE_EMULATOR_HOST``, where it is set, leads to the emulator; the client library reads it.

    Args:
        project: Google Cloud project.
        database: "(default)" or a named one.
        client: a client made elsewhere.
        analyzer: makes terms of texts and questions. Another one needs another version.
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
        self._given = client
        self._lock = threading.Lock()
        self._lengths: dict[tuple[str, str], int] = {}
        self._words = FirestoreWords(lambda: self._client, analyzer or Analyzer())

    @cached_property
    def _client(self) -> firestore.Client:
        with self._lock:
            made = self.__dict__.get("_client")
            return made or self._given or firestore.Client(project=self._project, database=self._database)

    @cached_property
    def _beside(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(8, thread_name_prefix="firestore-index")

    def upsert(self, scope: Scope, version: str, entries: Sequence[Entry], fence: Fence | None = None) -> None:
        """See :class:`~firelaunch.rag.index.base.Index`. Written in commits of 100; a chunk's terms come with it."""
        latest = list({entry.id: entry for entry in entries}.values())
        with _translated():
            self._check_lengths(scope, version, latest)
            for some in _batches(latest):
                batch = self._client.batch()
                for entry in some:
                    batch.set(self._chunk(scope, version, entry.id), _fields(version, entry))
                self._words.add(batch, scope, version, some)
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
        """See :class:`~firelaunch.rag.index.base.Index`."""
        if ids is not None:
            with _translated():
                self._remove([self._chunk(scope, str(version), each) for each in ids], fence)
                self._words.remove(scope, version, lambda chunk: chunk.name in ids, fence)
            return
        query: Any = self._chunks(scope)
        for field, value in (("document", document), ("version", version)):
            if value is not None:
                query = query.where(filter=FieldFilter(field, "==", value))
        with _translated():
            self._delete(query, fence)
            if document is None:
                self._words.clear(scope, version, fence)
            else:
                self._words.remove(scope, version, lambda chunk: chunk.document == document, fence)

    def nearest(
        self, scope: Scope, version: str, vector: Vector, k: int, where: Where | None = None, *, library: bool = True
    ) -> list[Hit]:
        """See :class:`~firelaunch.rag.index.base.Index`. At most 1,000 (Firestore's limit)."""
        running = [
            self._beside.submit(self._nearest, each, version, vector, k, where or {})
            for each in scopes_of(scope, library)
        ]
        hits = [hit for future in running for hit in future.result()]
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
        """See :class:`~firelaunch.rag.index.base.Index`. Scores are BM25's, each owner's by the owner's own counts."""
        running = [
            self._beside.submit(self._matching, each, version, query, k, where or {})
            for each in scopes_of(scope, library)
        ]
        hits = sorted((hit for future in running for hit in future.result()), key=lambda hit: -hit.score)[:k]
        return self.texts(scope, hits) if texts else hits

    def texts(self, scope: Scope, hits: Sequence[Hit]) -> list[Hit]:
        """See :class:`~firelaunch.rag.index.base.Index`."""
        app = Scope(scope.app_id)
        owners = {owner_of(each): each for each in (scope, app)}
        names = {
            self._chunk(owners[hit.owner], hit.version, hit.entry.id): n for n, hit in enumerate(hits) if hit.unread
        }
        if not names:
            return list(hits)
        with _translated():
            read = self._client.get_all(list(names), field_paths=_SHOWN, timeout=_SECONDS)
            found = {names[each.reference]: _entry(each) for each in read if each.exists}
        return [
            replace(hit, entry=found.get(n, hit.entry), unread=False)
            for n, hit in enumerate(hits)
            if not hit.unread or n in found
        ]

    def read(self, scope: Scope, version: str, document: str) -> list[Hit]:
        """See :class:`~firelaunch.rag.index.base.Index`."""
        query = self._of_version(scope, version).where(filter=FieldFilter("document", "==", document))
        with _translated():
            return [_hit(found, 0.0, with_vector=True) for found in query.stream(timeout=_SECONDS)]

    def count(self, scope: Scope, version: str) -> int:
        """See :class:`~firelaunch.rag.index.base.Index`."""
        with _translated():
            return int(self._of_version(scope, version).count(alias="n").get(timeout=_SECONDS)[0][0].value)

    def drop(self, app_id: str, version: str) -> None:
        """See :class:`~firelaunch.rag.index.base.Index`. Goes from user to user; may be broken off and repeated."""
        app = Scope(app_id)
        with _translated():
            self._delete(self._of_version(app, version))
            self._words.clear(app, version)
            # Users whose own document does not exist are listed too.
            for user in self._client.collection(app.users()).list_documents(page_size=300):
                self._delete(self._of_version(app.of(user.id), version))
                self._words.clear(app.of(user.id), version)
        for key in [key for key in self._lengths if key[1] == version]:
            self._lengths.pop(key, None)

    def close(self) -> None:
        """See :class:`~firelaunch.rag.index.base.Index`."""
        if "_beside" in self.__dict__:
            self._beside.shutdown(wait=False)
        if "_client" in self.__dict__:
            self._client.close()  # type: ignore[no-untyped-call]

    def _chunks(self, scope: Scope) -> Any:
        return self._client.collection(scope.chunks())

    def _chunk(self, scope: Scope, version: str, name: str) -> Any:
        return self._chunks(scope).document(f"{version}.{name}")

    def _of_version(self, scope: Scope, version: str) -> Any:
        return self._chunks(scope).where(filter=FieldFilter("version", "==", version))

    def _nearest(self, scope: Scope, version: str, vector: Vector, k: int, where: Where) -> list[Hit]:
        with _translated():
            there = self._length(scope, version)
            if there is None:
                return []
            if len(vector) != there:
                raise _other_length(len(vector), there)
            query = self._of_version(scope, version).select([*_SHOWN, _DISTANCE])
            for name, values in where.items():
                field = name if name == "document" else f"tags.{name}"
                query = query.where(filter=FieldFilter(field, "in", list(values)))
            found = query.find_nearest(
                "embedding",
                FirestoreVector(vector.tolist()),
                limit=k,
                distance_measure=DistanceMeasure.COSINE,
                distance_result_field=_DISTANCE,
            )
            return [_hit(each, 1.0 - each.get(_DISTANCE)) for each in found.stream(timeout=_SECONDS)]

    def _matching(self, scope: Scope, version: str, query: str, k: int, where: Where) -> list[Hit]:
        with _translated():
            found = self._words.rank(scope, version, query, k, where)
        return [
            Hit(
                scope.app_id,
                owner_of(scope),
                version,
                Entry(each.chunk.name, each.chunk.document, "", None, each.chunk.tags),
                each.score,
                unread=True,
            )
            for each in found
        ]

    def _check_lengths(self, scope: Scope, version: str, entries: Sequence[Entry]) -> None:
        there = self._length(scope, version)
        for entry in entries:
            if entry.vector is None:
                continue
            there = there or len(entry.vector)
            if len(entry.vector) != there:
                raise _other_length(len(entry.vector), there)
            if there > _MAX_DIMENSIONS:
                raise IndexFailed(reason=f"{there} dimensions, and Firestore takes {_MAX_DIMENSIONS}: index.dimensions")

    def _length(self, scope: Scope, version: str) -> int | None:
        """The dimensions of the vectors that a scope holds of a version; they never change, so they are asked once."""
        key = (scope.root, version)
        if key not in self._lengths:
            found = list(self._of_version(scope, version).limit(1).stream(timeout=_SECONDS))
            vector = found[0].get("embedding") if found and "embedding" in (found[0].to_dict() or {}) else None
            if vector is None:
                return None
            self._lengths[key] = len(vector)
        return self._lengths[key]

    def _delete(self, query: Any, fence: Fence | None = None) -> None:
        self._remove([found.reference for found in query.select(["__name__"]).stream(timeout=_SECONDS)], fence)

    def _remove(self, names: Sequence[Any], fence: Fence | None) -> None:
        for first in range(0, len(names), 4 * _BATCH):
            batch = self._client.batch()
            for name in names[first : first + 4 * _BATCH]:
                batch.delete(name)
            commit(self._client, batch, fence)


def _batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        more = len(entry.text.encode())
        if batch and (len(batch) == _BATCH or size + more > _BATCH_TEXT):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += more
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


def _entry(found: Any, *, with_vector: bool = False) -> Entry:
    data = found.to_dict()
    vector = None
    if with_vector and "embedding" in data:
        import numpy as np

        vector = np.asarray(list(data["embedding"]), np.float32)
    return Entry(data["chunk"], data["document"], data["text"], vector, data["tags"], json.loads(data["place"]))


def _hit(found: Any, score: float, *, with_vector: bool = False) -> Hit:
    # Whose it is says the path alone, which is where it really lies.
    _, app_id, *rest, _, _ = found.reference.path.split("/")
    scope = Scope(app_id, rest[1] if rest else None)
    return Hit(app_id, owner_of(scope), found.get("version"), _entry(found, with_vector=with_vector), score)


def _other_length(given: int, there: int) -> IndexFailed:
    return IndexFailed(reason=f"a vector has {given} dimensions, and those of this version have {there}")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except _PASSING as error:
        raise IndexUnavailable(reason=f"{type(error).__name__}: {error}"[:500], retry_after=1) from error
    except (google.GoogleAPIError, UnicodeEncodeError) as error:
        raise IndexFailed(reason=f"{type(error).__name__}: {error}"[:500]) from error
