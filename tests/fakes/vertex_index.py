"""Vertex AI Vector Search on real sockets, by gRPC and by REST, as far as an index's reads and writes go.

Each request is parsed into Google's own message, which refuses what it does not know; the rest is checked here. Nearest
neighbours are found by comparing all. Needs the package google-cloud-aiplatform.
"""

from __future__ import annotations

from typing import Any

from firelaunch.testing.grpc_server import GrpcServer, Method
from firelaunch.testing.http import RequestRefused, parsed

__all__ = ["VertexIndexServer"]

_MAX_DATAPOINTS = 1_000
_MAX_NEIGHBORS = 1_000
_NAMESPACES = ("app", "owner", "version")


class VertexIndexServer(GrpcServer):
    """One index of ``dimensions``, deployed at one endpoint.

    Attributes:
        datapoints: what the index holds, by id; a test may add what an attacker or a mistake would.
        extra: ids that every query returns besides, whatever its restricts: a poisoned index.
    """

    INDEX = "projects/proj/locations/europe-west1/indexes/123"
    ENDPOINT = "projects/proj/locations/europe-west1/indexEndpoints/456"
    DEPLOYED = "chunks_1"

    def __init__(self, dimensions: int) -> None:
        import google.cloud.aiplatform_v1.types  # noqa: F401 - takes seconds, and a client would not wait

        super().__init__()
        self.base_url = f"{self.url}/v1"
        self.datapoints: dict[str, Any] = {}
        self.extra: list[str] = []
        self._dimensions = dimensions

    def methods(self) -> list[Method]:
        """See :class:`GrpcServer`."""
        from google.cloud.aiplatform_v1 import types

        indexes, matches = ("google.cloud.aiplatform.v1." + name for name in ("IndexService", "MatchService"))
        upsert = types.UpsertDatapointsRequest, types.UpsertDatapointsResponse
        remove = types.RemoveDatapointsRequest, types.RemoveDatapointsResponse
        find = types.FindNeighborsRequest, types.FindNeighborsResponse
        return [
            (indexes, "UpsertDatapoints", *upsert, lambda asked: f"v1/{asked.index}:upsertDatapoints"),
            (indexes, "RemoveDatapoints", *remove, lambda asked: f"v1/{asked.index}:removeDatapoints"),
            (matches, "FindNeighbors", *find, lambda asked: f"v1/{asked.index_endpoint}:findNeighbors"),
        ]

    def answer(self, path: str, body: Any) -> Any:
        """See :class:`JsonServer`."""
        routes = {
            f"v1/{self.INDEX}:upsertDatapoints": self._upsert,
            f"v1/{self.INDEX}:removeDatapoints": self._remove,
            f"v1/{self.ENDPOINT}:findNeighbors": self._find,
        }
        if path not in routes:
            raise RequestRefused(404, f"{path} is not found", "NOT_FOUND")
        return routes[path](body)

    def _upsert(self, body: Any) -> Any:
        from google.cloud.aiplatform_v1.types import UpsertDatapointsRequest

        points = parsed(UpsertDatapointsRequest, body).datapoints
        if not 1 <= len(points) <= _MAX_DATAPOINTS:
            raise RequestRefused(400, f"{len(points)} datapoints, and {_MAX_DATAPOINTS} at most are allowed")
        for point in points:
            if not point.datapoint_id:
                raise RequestRefused(400, "a datapoint has no id")
            self._check_vector(point.feature_vector)
            _check_sparse(point.sparse_embedding)
            _check_restricts(point.restricts)
        for point in points:
            self.datapoints[point.datapoint_id] = point
        return {}

    def _remove(self, body: Any) -> Any:
        from google.cloud.aiplatform_v1.types import RemoveDatapointsRequest

        ids = parsed(RemoveDatapointsRequest, body).datapoint_ids
        if not 1 <= len(ids) <= _MAX_DATAPOINTS:
            raise RequestRefused(400, f"{len(ids)} datapoint ids, and {_MAX_DATAPOINTS} at most are allowed")
        for each in ids:
            self.datapoints.pop(each, None)
        return {}

    def _find(self, body: Any) -> Any:
        from google.cloud.aiplatform_v1.types import FindNeighborsRequest

        request = parsed(FindNeighborsRequest, body)
        if request.deployed_index_id != self.DEPLOYED:
            raise RequestRefused(404, f"there is no deployed index {request.deployed_index_id!r}", "NOT_FOUND")
        return {"nearestNeighbors": [self._neighbors(query) for query in request.queries]}

    def _neighbors(self, query: Any) -> Any:
        like = query.datapoint
        _check_sparse(like.sparse_embedding)
        sparse = len(like.sparse_embedding.dimensions) > 0
        if sparse and len(like.feature_vector):
            raise RequestRefused(400, "a query of both kinds needs rrf, which is not used here")
        if not sparse:
            self._check_vector(like.feature_vector)
        _check_restricts(like.restricts)
        if not 1 <= query.neighbor_count <= _MAX_NEIGHBORS:
            raise RequestRefused(400, f"neighbor_count is {query.neighbor_count}, and must be 1 to {_MAX_NEIGHBORS}")
        wanted = {each.namespace: set(each.allow_list) for each in query.datapoint.restricts}
        found = [
            (_sparse_dot(like, point) if sparse else _dot(like.feature_vector, point.feature_vector), name)
            for name, point in self.datapoints.items()
            if _matches(wanted, point.restricts)
        ]
        found = [(score, name) for score, name in found if score > 0 or not sparse]
        best = sorted(found, reverse=True)[: query.neighbor_count]
        best += [(1.0, name) for name in self.extra]
        return {"neighbors": [{"datapoint": {"datapointId": name}, "distance": distance} for distance, name in best]}

    def _check_vector(self, vector: Any) -> None:
        if len(vector) != self._dimensions:
            raise RequestRefused(400, f"the vector has {len(vector)} dimensions, and the index has {self._dimensions}")


def _check_restricts(restricts: Any) -> None:
    """That none is missing: an index shared by apps is of no use to one that forgets whose a datapoint is."""
    given = {each.namespace for each in restricts if each.allow_list}
    missing = [name for name in _NAMESPACES if name not in given]
    if missing or len(given) != len(restricts):
        raise RequestRefused(
            400, f"restricts are missing, empty or given twice: {missing or [r.namespace for r in restricts]}"
        )


def _check_sparse(sparse: Any) -> None:
    if len(sparse.dimensions) != len(sparse.values) or len(set(sparse.dimensions)) != len(sparse.dimensions):
        raise RequestRefused(400, "a sparse embedding has as many dimensions as values, each dimension once")


def _sparse_dot(one: Any, other: Any) -> float:
    values = dict(zip(other.sparse_embedding.dimensions, other.sparse_embedding.values, strict=True))
    mine = zip(one.sparse_embedding.dimensions, one.sparse_embedding.values, strict=True)
    return float(sum(value * values.get(dimension, 0.0) for dimension, value in mine))


def _matches(wanted: dict[str, set[str]], restricts: Any) -> bool:
    has = {each.namespace: set(each.allow_list) for each in restricts}
    return all(values & has.get(name, set()) for name, values in wanted.items())


def _dot(one: Any, other: Any) -> float:
    return float(sum(a * b for a, b in zip(one, other, strict=True)))
