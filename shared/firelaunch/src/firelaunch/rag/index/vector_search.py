"""The index in a Vector Search collection: the newer service, which has no node to pay for when idle.

One collection serves all apps. Its data objects hold the text, the vector, and the app, owner and version that every
request filters by. docs/search.md has the command that creates the collection.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ...errors import IndexFailed, IndexUnavailable
from ...scope import Scope
from ...store.fence import Fence
from ..google_calls import GoogleError
from ..google_rest import GoogleRest
from .base import Entry, Hit, Where, owner_of, scopes_of
from .words import Analyzer

if TYPE_CHECKING:
    from .base import Vector

__all__ = ["VectorSearchIndex"]

_BATCH = 100
"""Data objects in one call, of the 1,000 allowed: with text and 3,072 dimensions each, some megabytes."""

_CHECKS = 8
_PAGE = 1_000
_SECONDS = 30.0
_QUERY_SECONDS = 10.0
_FIELD = "embedding"
_QUERY_WORDS = 64
"""The most words of a query, as in the embedded index, in case someone pastes a page."""


class VectorSearchIndex:
    """An :class:`~firelaunch.rag.index.base.Index` on one collection. The service's text search finds words.

    Args:
        collection: ``projects/{p}/locations/{l}/collections/{id}``.
        credentials, base_url: replace the environment's and Google's, for tests.
        analyzer: selects the words of a query to search for.
    """

    has_words = True

    def __init__(
        self,
        collection: str,
        credentials: Any = None,
        base_url: str | None = None,
        analyzer: Analyzer | None = None,
    ) -> None:
        self._collection = collection
        self._analyzer = analyzer or Analyzer()
        self._rest = GoogleRest(base_url or "https://vectorsearch.googleapis.com/v1", credentials)
        self._threads = ThreadPoolExecutor(_CHECKS, thread_name_prefix="vector-search-fence")

    def upsert(self, scope: Scope, version: str, entries: Sequence[Entry], fence: Fence | None = None) -> None:
        """Write entries, as :class:`~firelaunch.rag.index.base.Index` describes.

        The service separates creation from update, so existing objects are looked up first.
        """
        # The service cannot check a condition on the database. A writer that is suspended after this check, and resumes
        # when its document was deleted, leaves entries that no search shows, because their generation is dead.
        allowed = None if fence is None else self._threads.submit(fence.check)
        latest = {_object_id(scope, version, entry.id): entry for entry in entries}
        items = list(latest.items())
        for first in range(0, len(items), _BATCH):
            batch = dict(items[first : first + _BATCH])
            chunks = [entry.id for entry in batch.values()]
            existing = {each["dataObjectId"] for each in self._query(_filter(scope, version, {"chunk": chunks}), [])}
            if allowed is not None:
                allowed.result()
            self._write(scope, version, {name: e for name, e in batch.items() if name not in existing}, create=True)
            self._write(scope, version, {name: e for name, e in batch.items() if name in existing}, create=False)

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
        where = {} if document is None else {"document": [document]}
        if ids is None:
            self._remove(_filter(scope, version, where), fence)
            return
        names = list(ids)
        for first in range(0, len(names), _BATCH):
            self._remove(_filter(scope, version, {**where, "chunk": names[first : first + _BATCH]}), fence)

    def nearest(
        self, scope: Scope, version: str, vector: Vector, k: int, where: Where | None = None, *, library: bool = True
    ) -> list[Hit]:
        """Return the nearest entries, as :class:`~firelaunch.rag.index.base.Index` describes."""
        search = {
            "searchField": _FIELD,
            "vector": {"values": vector.tolist()},
            "filter": _filter(scope, version, where or {}, library=library),
            "topK": k,
            "distanceMetric": "COSINE_DISTANCE",
            "outputFields": {"dataFields": ["*"]},
        }
        answer = self._call("search", {"vectorSearch": search, "pageSize": k}, _QUERY_SECONDS)
        hits = [_hit(each["dataObject"]["data"], 1.0 - each.get("distance", 0.0)) for each in answer.get("results", [])]
        return sorted(hits, key=lambda hit: -hit.score)

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
        """Return the entries that match the words best, as :class:`~firelaunch.rag.index.base.Index` describes.

        The service ranks them; a hit's score only depends on its rank.
        """
        words = self._analyzer.words(query)[:_QUERY_WORDS]
        if not words:
            return []
        search = {
            "searchText": " ".join(words),
            "dataFieldNames": ["text"],
            "filter": _filter(scope, version, where or {}, library=library),
            "topK": k,
            "outputFields": {"dataFields": ["*"]},
        }
        answer = self._call("search", {"textSearch": search, "pageSize": k}, _QUERY_SECONDS)
        return [_hit(each["dataObject"]["data"], 1 / rank) for rank, each in enumerate(answer.get("results", []), 1)]

    def texts(self, scope: Scope, hits: Sequence[Hit]) -> list[Hit]:  # noqa: ARG002 - of the port
        """Return the hits with their texts, as :class:`~firelaunch.rag.index.base.Index` describes."""
        return list(hits)

    def read(self, scope: Scope, version: str, document: str) -> list[Hit]:
        """Return a document's entries, as :class:`~firelaunch.rag.index.base.Index` describes."""
        objects = self._query(_filter(scope, version, {"document": [document]}), ["*"], vectors=True)
        return [_hit(each["data"], 0.0, each.get("vectors")) for each in objects]

    def count(self, scope: Scope, version: str) -> int:
        """Return the number of entries, as :class:`~firelaunch.rag.index.base.Index` describes."""
        return sum(1 for _ in self._query(_filter(scope, version, {}), []))

    def drop(self, app_id: str, version: str) -> None:
        """Remove a version, as :class:`~firelaunch.rag.index.base.Index` describes."""
        self._remove(_all({"app": [app_id], "version": [version]}))

    def close(self) -> None:
        """Release connections and memory, as :class:`~firelaunch.rag.index.base.Index` describes."""
        self._threads.shutdown(wait=False)
        self._rest.close()

    def _write(self, scope: Scope, version: str, entries: Mapping[str, Entry], *, create: bool) -> None:
        objects = {name: _object(scope, version, entry) for name, entry in entries.items()}
        if not objects:
            return
        if create:
            requests: list[Any] = [
                {"parent": self._collection, "dataObjectId": name, "dataObject": each} for name, each in objects.items()
            ]
            self._call("batchCreate", {"requests": requests}, _SECONDS)
        else:
            requests = [{"dataObject": {**each, "name": self._name(name)}} for name, each in objects.items()]
            self._call("batchUpdate", {"requests": requests}, _SECONDS)

    def _remove(self, where: Any, fence: Fence | None = None) -> None:
        object_ids = [each["dataObjectId"] for each in self._query(where, [])]
        # Objects that were read before this check are older than any write after the fence is raised again.
        if fence is not None and object_ids:
            fence.check()
        for first in range(0, len(object_ids), _PAGE):
            requests = [{"name": self._name(each)} for each in object_ids[first : first + _PAGE]]
            self._call("batchDelete", {"requests": requests}, _SECONDS)

    def _query(self, where: Any, fields: Sequence[str], *, vectors: bool = False) -> list[dict[str, Any]]:
        output_fields = {"dataFields": list(fields), "vectorFields": ["*"] if vectors else [], "metadataFields": ["*"]}
        body: dict[str, Any] = {"filter": where, "outputFields": output_fields, "pageSize": _PAGE}
        objects: list[dict[str, Any]] = []
        while True:
            answer = self._call("query", body, _SECONDS)
            objects += [
                {**each, "dataObjectId": each.get("dataObjectId") or each["name"].rpartition("/")[2]}
                for each in answer.get("dataObjects", [])
            ]
            if not answer.get("nextPageToken"):
                return objects
            body = {**body, "pageToken": answer["nextPageToken"]}

    def _call(self, method: str, body: Any, seconds: float) -> dict[str, Any]:
        with _translate_errors():
            return self._rest.call_patiently(f"{self._collection}/dataObjects:{method}", body, seconds)

    def _name(self, object_id: str) -> str:
        return f"{self._collection}/dataObjects/{object_id}"


def _object_id(scope: Scope, version: str, name: str) -> str:
    """Return the id of a data object: at most 63 characters, a letter first (RFC 1035)."""
    key = "\n".join((scope.app_id, owner_of(scope), version, name))
    return "c" + sha256(key.encode()).hexdigest()[:48]


def _object(scope: Scope, version: str, entry: Entry) -> dict[str, Any]:
    data = {
        "app": scope.app_id,
        "owner": owner_of(scope),
        "version": version,
        "chunk": entry.id,
        "document": entry.document,
        "text": entry.text,
        "place": json.dumps(dict(entry.place), ensure_ascii=False),
        **{f"tag_{name}": value for name, value in entry.tags.items()},
    }
    vectors = {} if entry.vector is None else {_FIELD: {"dense": {"values": entry.vector.tolist()}}}
    return {"data": data, "vectors": vectors}


def _filter(
    scope: Scope, version: str | None, where: Where, *, library: bool = False
) -> dict[str, list[dict[str, Any]]]:
    owners = [owner_of(each) for each in scopes_of(scope, library)]
    fields: dict[str, Sequence[str]] = {"app": [scope.app_id], "owner": owners}
    if version is not None:
        fields["version"] = [version]
    own = {"document", "chunk"}
    return _all(fields | {name if name in own else f"tag_{name}": values for name, values in where.items()})


def _all(fields: Mapping[str, Sequence[str]]) -> dict[str, list[dict[str, Any]]]:
    return {"$and": [{name: {"$in": list(values)}} for name, values in fields.items()]}


def _entry(data: Mapping[str, Any], vectors: Mapping[str, Any] | None = None) -> Entry:
    vector = None
    if vectors and _FIELD in vectors:
        import numpy as np

        vector = np.asarray(vectors[_FIELD]["dense"]["values"], np.float32)
    tags = {name.removeprefix("tag_"): value for name, value in data.items() if name.startswith("tag_")}
    return Entry(data["chunk"], data["document"], data["text"], vector, tags, json.loads(data["place"]))


def _hit(data: Mapping[str, Any], score: float, vectors: Mapping[str, Any] | None = None) -> Hit:
    return Hit(data["app"], data["owner"], data["version"], _entry(data, vectors), score)


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except GoogleError as error:
        kind = IndexUnavailable if error.passing else IndexFailed
        raise kind(reason=f"Vector Search: {error}"[:500], retry_after=error.retry_after) from error
