"""A Vector Search collection on a real socket: data objects, filters, nearest neighbours by comparing all.

Each request is parsed into Google's own message, which refuses what it does not know; the rest is checked here. Needs
the package google-cloud-vectorsearch.
"""

from __future__ import annotations

import math
import re
from typing import Any

from firelaunch.rag.index.words import Analyzer
from firelaunch.testing.http import JsonServer, RequestRefused, parsed

__all__ = ["VectorSearchServer"]

_MAX_BATCH = 1_000
_MAX_PAGE = 1_000
_OBJECT_ID = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_NEEDED = ("app", "version")
_FIELD = "embedding"


class VectorSearchServer(JsonServer):
    """One collection whose vector field has ``dimensions``.

    Attributes:
        objects: what the collection holds, by id: (data, vector or None).
        poison: data that every search returns besides, whatever its filter.
    """

    COLLECTION = "projects/proj/locations/europe-west1/collections/firelaunch"

    def __init__(self, dimensions: int) -> None:
        import google.cloud.vectorsearch_v1.types  # noqa: F401 - takes seconds, and a client would not wait

        super().__init__()
        self.base_url = f"{self.url}/v1"
        self.objects: dict[str, tuple[dict[str, Any], list[float] | None]] = {}
        self.poison: list[dict[str, Any]] = []
        self._dimensions = dimensions
        self._analyzer = Analyzer()

    def answer(self, path: str, body: Any) -> Any:
        """See :class:`JsonServer`."""
        routes = {
            "batchCreate": self._create,
            "batchUpdate": self._update,
            "batchDelete": self._delete,
            "query": self._query,
            "search": self._search,
        }
        start, _, method = path.rpartition(":")
        if start != f"v1/{self.COLLECTION}/dataObjects" or method not in routes:
            raise RequestRefused(404, f"{path} is not found", "NOT_FOUND")
        return routes[method](body)

    def _create(self, body: Any) -> Any:
        from google.cloud.vectorsearch_v1.types import BatchCreateDataObjectsRequest

        requests = _batch(parsed(BatchCreateDataObjectsRequest, body))
        made = {request.data_object_id: self._checked(request.data_object) for request in requests}
        for request in requests:
            if request.parent != self.COLLECTION or not _OBJECT_ID.fullmatch(request.data_object_id):
                raise RequestRefused(400, f"parent or id is not valid: {request.parent}, {request.data_object_id!r}")
        there = [name for name in made if name in self.objects]
        if there or len(made) != len(requests):
            raise RequestRefused(409, f"it exists already: {there}", "ALREADY_EXISTS")
        self.objects |= made
        return {}

    def _update(self, body: Any) -> Any:
        from google.cloud.vectorsearch_v1.types import BatchUpdateDataObjectsRequest

        requests = _batch(parsed(BatchUpdateDataObjectsRequest, body))
        changed = {self._id(request.data_object.name): self._checked(request.data_object) for request in requests}
        self.objects |= changed
        return {}

    def _delete(self, body: Any) -> Any:
        from google.cloud.vectorsearch_v1.types import BatchDeleteDataObjectsRequest

        for name in [self._id(request.name) for request in _batch(parsed(BatchDeleteDataObjectsRequest, body))]:
            self.objects.pop(name, None)
        return {}

    def _query(self, body: Any) -> Any:
        from google.cloud.vectorsearch_v1.types import QueryDataObjectsRequest

        request = parsed(QueryDataObjectsRequest, body)
        found = sorted(name for name in self._matching(body.get("filter")))
        size = min(request.page_size or 100, _MAX_PAGE)
        begin = int(request.page_token or 0)
        answer: dict[str, Any] = {
            "dataObjects": [self._shown(name, request.output_fields) for name in found[begin : begin + size]]
        }
        if begin + size < len(found):
            answer["nextPageToken"] = str(begin + size)
        return answer

    def _search(self, body: Any) -> Any:
        from google.cloud.vectorsearch_v1.types import SearchDataObjectsRequest

        request = parsed(SearchDataObjectsRequest, body)
        if "text_search" in request:
            return self._text_search(request.text_search, body["textSearch"])
        search = request.vector_search
        vector = list(search.vector.values)
        if search.search_field != _FIELD or len(vector) != self._dimensions:
            raise RequestRefused(
                400, f"{search.search_field!r} has {self._dimensions} dimensions, and the query {len(vector)}"
            )
        if not 1 <= search.top_k <= _MAX_PAGE or search.distance_metric != 2:
            raise RequestRefused(400, "top_k must be 1 to 1000, and the collection is searched by COSINE_DISTANCE")
        far = [
            (_cosine_distance(vector, there), name)
            for name in self._matching(body["vectorSearch"].get("filter"))
            if (there := self.objects[name][1]) is not None
        ]
        results = [
            {"dataObject": self._shown(name, search.output_fields), "distance": distance}
            for distance, name in sorted(far)[: search.top_k]
        ]
        return {"results": results + [{"dataObject": {"data": data}, "distance": 0.0} for data in self.poison]}

    def _text_search(self, search: Any, body: Any) -> Any:
        """What has any of the words, best first. How the service itself weighs them is not documented."""
        if not search.search_text or list(search.data_field_names) != ["text"]:
            raise RequestRefused(400, "a text search names its text, and the data fields to look in")
        if not 1 <= search.top_k <= _MAX_PAGE:
            raise RequestRefused(400, "top_k must be 1 to 1000")
        wanted = set(self._analyzer.terms(search.search_text))
        found = []
        for name in self._matching(body.get("filter")):
            terms = self._analyzer.terms(self.objects[name][0]["text"])
            score = sum(term in wanted for term in terms) / (10 + len(terms))
            found += [(-score, name)] if score else []
        results = [{"dataObject": self._shown(name, search.output_fields)} for _, name in sorted(found)[: search.top_k]]
        return {"results": results + [{"dataObject": {"data": data}} for data in self.poison]}

    def _matching(self, where: Any) -> list[str]:
        wanted = _fields(where)
        missing = [name for name in _NEEDED if name not in wanted and not ("owner" in wanted and name == "version")]
        if missing:
            raise RequestRefused(400, f"the filter leaves out {missing}")
        return [
            n for n, (data, _) in self.objects.items() if all(data.get(f) in values for f, values in wanted.items())
        ]

    def _shown(self, name: str, fields: Any) -> dict[str, Any]:
        data, vector = self.objects[name]
        shown: dict[str, Any] = {"name": f"{self.COLLECTION}/dataObjects/{name}"}
        if fields.data_fields:
            every = "*" in fields.data_fields
            shown["data"] = {key: value for key, value in data.items() if every or key in fields.data_fields}
        if fields.vector_fields and vector is not None:
            shown["vectors"] = {_FIELD: {"dense": {"values": vector}}}
        return shown

    def _checked(self, given: Any) -> tuple[dict[str, Any], list[float] | None]:
        from google.protobuf import json_format

        data = json_format.MessageToDict(given.data)
        if any(not data.get(name) for name in (*_NEEDED, "owner")):
            raise RequestRefused(400, "a data object has no app, owner or version")
        if set(given.vectors) - {_FIELD}:
            raise RequestRefused(400, f"the schema has no vector field {sorted(given.vectors)}")
        vector = list(given.vectors[_FIELD].dense.values) if _FIELD in given.vectors else None
        if vector is not None and len(vector) != self._dimensions:
            raise RequestRefused(400, f"the vector has {len(vector)} dimensions, and the schema {self._dimensions}")
        return data, vector

    def _id(self, name: str) -> str:
        start, _, object_id = name.rpartition("/dataObjects/")
        if start != self.COLLECTION or object_id not in self.objects:
            raise RequestRefused(404, f"there is no data object {name!r}", "NOT_FOUND")
        return object_id


def _batch(message: Any) -> Any:
    if not 1 <= len(message.requests) <= _MAX_BATCH:
        raise RequestRefused(400, f"{len(message.requests)} requests in a batch, and {_MAX_BATCH} at most are allowed")
    return message.requests


def _fields(where: Any) -> dict[str, list[str]]:
    """The fields of a filter such as {"$and": [{"app": {"$in": ["demo"]}}]}; others are refused, not overlooked."""
    try:
        (parts,) = where.values()
        if list(where) != ["$and"]:
            raise ValueError
        pairs = [(name, test["$in"]) for part in parts for name, test in part.items() if list(test) == ["$in"]]
        if len(pairs) != len(parts):
            raise ValueError
    except (AttributeError, KeyError, TypeError, ValueError):
        raise RequestRefused(400, f"the filter cannot be read: {where}") from None
    return dict(pairs)


def _cosine_distance(one: list[float], other: list[float]) -> float:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return 1.0 - dot / (math.hypot(*one) * math.hypot(*other))
