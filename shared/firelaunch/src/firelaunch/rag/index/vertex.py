"""The index in Vertex AI Vector Search: one index for all apps, with ``restricts`` for app, owner and version.

Vertex AI stores vectors and returns ids. The texts are in the document store, below the app, and are read there with
the caller's own scope. So an id of someone else's that the index returns by mistake leads to no text.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote
from zlib import crc32

from ...errors import IndexFailed, IndexUnavailable
from ...llm.google_locations import vertex_host
from ...scope import Scope
from ...store.base import Delete, Document, DocumentStore, Filter, Query, Set
from ...store.fence import Fence
from ..google_calls import GoogleError
from ..vertex_clients import VertexClients
from .base import Entry, Hit, Where, owner_of, scopes_of
from .words import Analyzer, chosen, flat

if TYPE_CHECKING:
    from .base import Vector

__all__ = ["VertexIndex"]

_BATCH = 100
"""Datapoints in one call: with 3,072 dimensions each, some megabytes of JSON."""

_SECONDS = 30.0
_QUERY_SECONDS = 10.0
_MAX_NEIGHBORS = 1_000

_K1, _B = 1.2, 0.75
_MEAN_TERMS = 120
"""Assumed terms of a chunk of the default size: a sparse embedding cannot change when other chunks come in."""

_MOST_TERMS = 500
"""The most terms of a chunk, and of a query in all languages that it may be in."""


class VertexIndex:
    """An :class:`~firelaunch.rag.index.base.Index` on an index with streaming updates.

    Words are found by sparse embeddings, which are stored with the vectors. Each term is a dimension; its value is
    what the term adds to a chunk's BM25 score, except for the term's rarity. The rarity is estimated from a query's
    candidates.

    Written entries are found after some seconds. Deleted entries are gone at once, because their texts are.

    Args:
        index: ``projects/{p}/locations/{l}/indexes/{id}``.
        endpoint: ``projects/{p}/locations/{l}/indexEndpoints/{id}``.
        deployed: the id of the index as it is deployed at the endpoint.
        domain: the endpoint's public domain name.
        store: keeps the texts.
        clients, query_clients: replace those of the region's host and of the domain, for tests.
        analyzer: makes terms of texts and queries. Another analyzer needs another version.
    """

    has_words = True

    def __init__(
        self,
        index: str,
        endpoint: str,
        deployed: str,
        domain: str,
        store: DocumentStore,
        clients: VertexClients | None = None,
        query_clients: VertexClients | None = None,
        analyzer: Analyzer | None = None,
    ) -> None:
        region = index.split("/")[3]
        self._index = index
        self._endpoint = endpoint
        self._deployed = deployed
        self._store = store
        self._analyzer = analyzer or Analyzer()
        self._writes = clients or VertexClients(vertex_host(region))
        self._queries = query_clients or VertexClients(domain)

    def upsert(self, scope: Scope, version: str, entries: Sequence[Entry], fence: Fence | None = None) -> None:
        """Write entries, as :class:`~firelaunch.rag.index.base.Index` describes.

        Texts are written first, so that every found point has one.
        """
        latest = list({entry.id: entry for entry in entries}.values())
        self._check_lengths(scope, version, latest)
        for first in range(0, len(latest), _BATCH):
            batch = latest[first : first + _BATCH]
            # A raised fence makes the commit of the texts fail, and no point is written or found without its text.
            condition = [] if fence is None else [fence.condition]
            texts = [Set(_path(scope, version, entry.id), _fields(scope, version, entry)) for entry in batch]
            self._store.commit([*condition, *texts])
            points = [self._datapoint(scope, version, entry) for entry in batch if entry.vector is not None]
            if points:
                request = {"index": self._index, "datapoints": points}
                with _translate_errors():
                    self._writes.call_patiently(lambda clients: clients.indexes.upsert_datapoints, request, _SECONDS)

    def delete(
        self,
        scope: Scope,
        document: str | None = None,
        *,
        version: str | None = None,
        ids: Collection[str] | None = None,
        fence: Fence | None = None,
    ) -> None:
        """Remove entries, as :class:`~firelaunch.rag.index.base.Index` describes.

        Texts are removed last, so that an interrupted call can be repeated.
        """
        if ids is not None and version is not None:
            # A point may exist without its text, if its writer was stopped between the two.
            key = (scope.app_id, owner_of(scope), version)
            datapoints: dict[str, str | None] = {_path_of(*key, each): _datapoint_id(*key, each) for each in ids}
        else:
            where = {"owner": owner_of(scope), "document": document, "version": version}
            datapoints = _points(self._stored_documents(scope, where))
        # Entries that were read before this check are older than any write after the fence is raised again.
        if fence is not None and datapoints:
            fence.check()
        self._remove(datapoints)

    def nearest(
        self, scope: Scope, version: str, vector: Vector, k: int, where: Where | None = None, *, library: bool = True
    ) -> list[Hit]:
        """Return the nearest entries, as :class:`~firelaunch.rag.index.base.Index` describes.

        The cosines are computed here, whatever the index measures.
        """
        from .vectors import unit

        query = unit(vector)
        owners = [owner_of(each) for each in scopes_of(scope, library)]
        ids = self._neighbors(scope, version, owners, {"feature_vector": query.tolist()}, k, where)

        def cosine(data: Mapping[str, Any]) -> float:
            return float(_vector(data) @ query)  # type: ignore[operator]  # found by its vector, so it has one

        return self._hits(scope, version, owners, ids, cosine)

    def matching(
        self,
        scope: Scope,
        version: str,
        query: str,
        k: int,
        where: Where | None = None,
        *,
        library: bool = True,
        texts: bool = True,  # noqa: ARG002 - they are what hits are ranked by
    ) -> list[Hit]:
        """Return the entries that match the words best, as :class:`~firelaunch.rag.index.base.Index` describes.

        Twice as many candidates are requested, and ranked here by their words.
        """
        words = chosen(query, self._analyzer, None, lambda all_terms: dict.fromkeys(all_terms, 1))
        terms = flat(words)[:_MOST_TERMS]
        if not terms:
            return []
        owners = [owner_of(each) for each in scopes_of(scope, library)]
        sparse = {"sparse_embedding": _sparse(dict.fromkeys(terms, 1.0))}
        ids = self._neighbors(scope, version, owners, sparse, min(2 * k, _MAX_NEIGHBORS), where)
        candidates = self._hits(scope, version, owners, ids, lambda _: 0.0)
        weights = [self._weights(hit.entry) for hit in candidates]
        rarity = {term: _idf(len(candidates), sum(term in each for each in weights)) for term in terms}
        scored = [
            replace(hit, score=sum(each.get(term, 0.0) * rarity[term] for term in terms))
            for hit, each in zip(candidates, weights, strict=True)
        ]
        return sorted(scored, key=lambda hit: -hit.score)[:k]

    def texts(self, scope: Scope, hits: Sequence[Hit]) -> list[Hit]:  # noqa: ARG002 - of the port
        """Return the hits with their texts, as :class:`~firelaunch.rag.index.base.Index` describes."""
        return list(hits)

    def read(self, scope: Scope, version: str, document: str) -> list[Hit]:
        """Return a document's entries, as :class:`~firelaunch.rag.index.base.Index` describes."""
        where = {"owner": owner_of(scope), "document": document, "version": version}
        documents = [(each.path.split("/")[1], each.data) for each in self._stored_documents(scope, where)]
        return [Hit(app, d["owner"], d["version"], _entry(d, with_vector=True), 0.0) for app, d in documents]

    def count(self, scope: Scope, version: str) -> int:
        """Return the number of entries, as :class:`~firelaunch.rag.index.base.Index` describes."""
        where = (Filter("owner", "==", owner_of(scope)), Filter("version", "==", version))
        return self._store.count(Query(scope.vectors(), where))

    def drop(self, app_id: str, version: str) -> None:
        """Remove a version, as :class:`~firelaunch.rag.index.base.Index` describes."""
        self._remove(_points(self._stored_documents(Scope(app_id), {"version": version})))

    def close(self) -> None:
        """Release connections and memory, as :class:`~firelaunch.rag.index.base.Index` describes."""
        self._writes.close()
        self._queries.close()

    def _neighbors(
        self, scope: Scope, version: str, owners: Sequence[str], like: Mapping[str, Any], k: int, where: Where | None
    ) -> list[str]:
        """Return the ids of the datapoints that are most similar to a datapoint's fields."""
        allowed: dict[str, Sequence[str]] = {"app": [scope.app_id], "owner": owners, "version": [version]}
        allowed |= {name if name == "document" else f"tag_{name}": values for name, values in (where or {}).items()}
        query = {"datapoint": {**like, "restricts": _restricts(allowed)}, "neighbor_count": k}
        request = {"index_endpoint": self._endpoint, "deployed_index_id": self._deployed, "queries": [query]}
        with _translate_errors():
            answer = self._queries.call_patiently(
                lambda clients: clients.matches.find_neighbors, request, _QUERY_SECONDS
            )
        return [each.datapoint.datapoint_id for group in answer.nearest_neighbors for each in group.neighbors]

    def _datapoint(self, scope: Scope, version: str, entry: Entry) -> dict[str, Any]:
        from .vectors import unit

        owner = owner_of(scope)
        values = {"app": [scope.app_id], "owner": [owner], "version": [version], "document": [entry.document]}
        values |= {f"tag_{name}": [value] for name, value in entry.tags.items()}
        weights = self._weights(entry)
        return {
            "datapoint_id": _datapoint_id(scope.app_id, owner, version, entry.id),
            "feature_vector": unit(entry.vector).tolist() if entry.vector is not None else [],
            **({"sparse_embedding": _sparse(weights)} if weights else {}),
            "restricts": _restricts(values),
        }

    def _weights(self, entry: Entry) -> dict[str, float]:
        """Return the heaviest terms of an entry with what each adds to its BM25 score, except for the term's rarity."""
        terms = self._analyzer.analyze(entry.text, entry.title, entry.language).terms
        norm = _K1 * (1 - _B + _B * len(terms) / _MEAN_TERMS)
        weights = {term: times * (_K1 + 1) / (times + norm) for term, times in Counter(terms).items()}
        return dict(sorted(weights.items(), key=lambda item: -item[1])[:_MOST_TERMS])

    def _hits(
        self,
        scope: Scope,
        version: str,
        owners: Sequence[str],
        ids: Sequence[str],
        score: Callable[[Mapping[str, Any]], float],
    ) -> list[Hit]:
        keys = list(dict.fromkeys(map(_parse_id, ids)))
        own = [each for each in keys if each[0] == scope.app_id and each[1] in owners and each[2] == version]
        documents = self._store.get_many([_path_of(*each) for each in own])
        hits = []
        for (app_id, owner, _, _), document in zip(own, documents, strict=True):
            if document is not None and document.data["owner"] == owner and document.data["vector"]:
                hits.append(Hit(app_id, owner, version, _entry(document.data), score(document.data)))
        # Pass on hits of other scopes without a text: the wall (ScopedIndex) drops and reports them.
        foreign = [Hit(each[0], each[1], each[2], Entry(each[3], "", ""), -1.0) for each in keys if each not in own]
        return sorted(hits, key=lambda hit: -hit.score) + foreign

    def _stored_documents(self, scope: Scope, where: Mapping[str, str | None]) -> list[Document]:
        filters = tuple(Filter(field, "==", value) for field, value in where.items() if value is not None)
        return self._store.query(Query(scope.vectors(), filters))

    def _remove(self, datapoints: Mapping[str, str | None]) -> None:
        """Remove texts, by their paths, and the datapoint of each that has one."""
        paths = list(datapoints)
        for first in range(0, len(paths), _BATCH):
            batch = paths[first : first + _BATCH]
            ids = [point for path in batch if (point := datapoints[path]) is not None]
            if ids:
                request = {"index": self._index, "datapoint_ids": ids}
                with _translate_errors():
                    self._writes.call_patiently(lambda clients: clients.indexes.remove_datapoints, request, _SECONDS)
            self._store.commit([Delete(path) for path in batch])

    def _check_lengths(self, scope: Scope, version: str, entries: Sequence[Entry]) -> None:
        first = self._store.query(Query(scope.vectors(), (Filter("version", "==", version),), limit=1))
        length = len(first[0].data["vector"] or b"") // 4 if first else 0
        for entry in entries:
            if entry.vector is not None:
                length = length or len(entry.vector)
                if len(entry.vector) != length:
                    raise IndexFailed(
                        reason=f"a vector has {len(entry.vector)} dimensions, and those there have {length}"
                    )


def _points(documents: Sequence[Document]) -> dict[str, str | None]:
    return {each.path: each.data["datapoint"] if each.data["vector"] else None for each in documents}


def _datapoint_id(app_id: str, owner: str, version: str, name: str) -> str:
    return ":".join((app_id, quote(owner, safe=""), version, name))


def _parse_id(datapoint_id: str) -> tuple[str, str, str, str]:
    parts = datapoint_id.split(":")
    if len(parts) != 4:
        return ("", "", "", datapoint_id[:64])
    return (parts[0], unquote(parts[1]), parts[2], parts[3])


def _path(scope: Scope, version: str, name: str) -> str:
    return _path_of(scope.app_id, owner_of(scope), version, name)


def _path_of(app_id: str, owner: str, version: str, name: str) -> str:
    key = sha256(_datapoint_id(app_id, owner, version, name).encode()).hexdigest()[:40]
    return Scope(app_id).vector(key)


def _fields(scope: Scope, version: str, entry: Entry) -> dict[str, Any]:
    from .vectors import unit

    return {
        "datapoint": _datapoint_id(scope.app_id, owner_of(scope), version, entry.id),
        "owner": owner_of(scope),
        "version": version,
        "chunk": entry.id,
        "document": entry.document,
        "text": entry.text,
        "tags": dict(entry.tags),
        "place": json.dumps(dict(entry.place), ensure_ascii=False),
        "vector": None if entry.vector is None else unit(entry.vector).tobytes(),
    }


def _sparse(weights: Mapping[str, float]) -> dict[str, Any]:
    """Return a sparse embedding of terms. A term's hash is its dimension; on a collision, the heavier term stays."""
    values: dict[int, float] = {}
    for term, weight in weights.items():
        dimension = crc32(term.encode())
        values[dimension] = max(weight, values.get(dimension, 0.0))
    return {"dimensions": list(values), "values": list(values.values())}


def _idf(count: int, containing: int) -> float:
    return math.log(1 + (count - containing + 0.5) / (containing + 0.5))


def _restricts(values: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    return [{"namespace": name, "allow_list": list(allowed)} for name, allowed in values.items()]


def _entry(data: Mapping[str, Any], *, with_vector: bool = False) -> Entry:
    vector = _vector(data) if with_vector else None
    return Entry(data["chunk"], data["document"], data["text"], vector, dict(data["tags"]), json.loads(data["place"]))


def _vector(data: Mapping[str, Any]) -> Vector | None:
    import numpy as np

    return np.frombuffer(data["vector"], np.float32) if data["vector"] else None


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except GoogleError as error:
        kind = IndexUnavailable if error.passing else IndexFailed
        raise kind(reason=f"Vertex AI: {error}"[:500], retry_after=error.retry_after) from error
