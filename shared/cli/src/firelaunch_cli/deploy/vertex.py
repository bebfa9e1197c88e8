"""The table of the Vertex AI index that a deploy makes for an app which names none: names, settings, who may."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from firelaunch.settings.app import Settings, VertexIndexSettings
from firelaunch.settings.search import index_problems, with_vertex

from .resources import Service, permissions_of

__all__ = [
    "INDEX",
    "LABEL",
    "NODE",
    "PERMISSIONS",
    "PLACEHOLDER",
    "OwnIndex",
    "deployed_index_problems",
    "own_index",
    "told",
]

LABEL = "firelaunch-app"
"""By which an index and its endpoint are found again: Google gives them their ids."""

INDEX: Mapping[str, Any] = {
    "update_method": "STREAM_UPDATE",
    "distance": "DOT_PRODUCT_DISTANCE",
    "shard": "SHARD_SIZE_SMALL",
    "approximate_neighbors": 150,
    "leaf_embeddings": 1_000,
    "leaf_percent": 10,
}
"""Vectors come in one by one, and have the length 1, so that dot products are cosines. Small shards alone fit the
smallest machine; the rest are Google's own defaults
(https://cloud.google.com/vertex-ai/docs/vector-search/configuring-indexes)."""

NODE: Mapping[str, Any] = {"machine_type": "e2-standard-2", "min_replicas": 1, "max_replicas": 1}
"""The smallest machine, and one of it: what may be added by itself counts against the quota of nodes and costs as much
again (https://cloud.google.com/vertex-ai/docs/vector-search/deploy-index-public)."""

PERMISSIONS: Mapping[str, str] = permissions_of(
    {
        "roles/aiplatform.user": (
            "indexes.create indexes.get indexes.list indexEndpoints.create indexEndpoints.deploy indexEndpoints.get "
            "indexEndpoints.list operations.list"
        )
    }
)
"""The further permissions to deploy such an app, each with the least of Google's roles that grants it."""

PLACEHOLDER = VertexIndexSettings(index="INDEX", domain="DOMAIN", endpoint="ENDPOINT", deployed="DEPLOYED")
"""In a dry run, which knows none."""

_VARIABLE = "FIRELAUNCH_VERTEX_INDEX"


@dataclass(frozen=True, slots=True)
class OwnIndex:
    """One app's index, its endpoint, and the index as it is deployed there.

    Args:
        name: that people see, of the index and of the endpoint.
        deployed: an id of the deploy's own making, unique in the project. It takes letters, digits and underscores, and
            an app's id has no underscore, so that no two apps have the same.
    """

    app: str
    name: str
    deployed: str
    dimensions: int

    def metadata(self) -> dict[str, Any]:
        """As ``gcloud ai indexes create`` reads it."""
        tree = {
            "leafNodeEmbeddingCount": INDEX["leaf_embeddings"],
            "leafNodesToSearchPercent": INDEX["leaf_percent"],
        }
        return {
            "config": {
                "dimensions": self.dimensions,
                "approximateNeighborsCount": INDEX["approximate_neighbors"],
                "distanceMeasureType": INDEX["distance"],
                "shardSize": INDEX["shard"],
                "algorithmConfig": {"treeAhConfig": tree},
            }
        }


def own_index(settings: Settings) -> OwnIndex | None:
    """The index that a deploy makes for an app; None where it has another, or names one that is there."""
    if settings.index.backend != "vertex" or settings.index.vertex is not None:
        return None
    app = settings.app.id
    return OwnIndex(app, f"firelaunch-{app}", f"fl_{app.replace('-', '_')}", settings.embedding.length)


def deployed_index_problems(settings: Settings) -> Iterator[str]:
    """Return the settings in ``[index]`` that keep a deployed app from starting, each with its fix.

    The keys that a deployed app needs are not this machine's, and a Vertex AI index is one that the deploy makes.
    """
    index = settings.index if settings.index.vertex else with_vertex(settings.index, PLACEHOLDER.model_dump_json())
    return index_problems(index, settings.embedding)


def told(service: Service, index: VertexIndexSettings) -> Service:
    """The service, knowing which index is its own."""
    return replace(service, environ={**service.environ, _VARIABLE: index.model_dump_json()})
