"""Vertex AI's indexes of vectors and their endpoints, with operations that take their time."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .base import Call, Refusal, Route, exists, not_found
from .project import Project

__all__ = ["Vertex"]

_API = "aiplatform.googleapis.com"
_TYPES = "type.googleapis.com/google.cloud.aiplatform.v1."
_DEPLOYED = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}")
_MACHINES = {
    "SHARD_SIZE_SMALL": {"e2-standard-2", "e2-standard-16", "n1-standard-16", "n2d-standard-32"},
    "SHARD_SIZE_MEDIUM": {"e2-standard-16", "n1-standard-16", "n2d-standard-32"},
    "SHARD_SIZE_LARGE": {"e2-highmem-16", "n2d-standard-32"},
}
"""What fits a shard (https://cloud.google.com/vertex-ai/docs/vector-search/deploy-index-public)."""

Then = Callable[[], dict[str, Any]]


class Vertex:
    """State and routes.

    Attributes:
        looks: how often an operation is looked at before it is done.
        failing: what an operation of this kind, such as "DeployIndex", ends with.
        indexes, endpoints: by their whole names.
    """

    def __init__(self, project: str, account: Project) -> None:
        self.looks = 0
        self.failing: dict[str, str] = {}
        self.indexes: dict[str, dict[str, Any]] = {}
        self.endpoints: dict[str, dict[str, Any]] = {}
        self._operations: dict[str, dict[str, Any]] = {}
        self._left: dict[str, tuple[int, Then]] = {}
        self._account = account
        self._project = project

    def routes(self) -> list[Route]:
        """Every route."""
        at = f"{_API}/v1/(projects/(?:{self._project}|1234)/locations/[^/]+)"
        both = f"{at}/(indexes|indexEndpoints)/([^/:]+)"
        return [
            Route("GET", at + "/indexes", self._list_indexes, "aiplatform.indexes.list"),
            Route("POST", at + "/indexes", self._create_index, "aiplatform.indexes.create"),
            Route("GET", at + "/indexEndpoints", self._list_endpoints, "aiplatform.indexEndpoints.list"),
            Route("POST", at + "/indexEndpoints", self._create_endpoint, "aiplatform.indexEndpoints.create"),
            Route("GET", at + "/(indexes)/([^/:]+)", self._get, "aiplatform.indexes.get"),
            Route("GET", at + "/(indexEndpoints)/([^/:]+)", self._get, "aiplatform.indexEndpoints.get"),
            Route("GET", both + "/operations", self._list_operations, "aiplatform.operations.list"),
            Route("GET", both + "/operations/([^/:]+)", self._operation, "aiplatform.operations.list"),
            Route("GET", at + "/operations/([^/:]+)", self._any_operation, "aiplatform.operations.list"),
            Route(
                "POST", at + "/indexEndpoints/([^/:]+):deployIndex", self._deploy, "aiplatform.indexEndpoints.deploy"
            ),
        ]

    def busy(self) -> bool:
        """Whether an operation is running."""
        return bool(self._left)

    def _list_indexes(self, _: Call, where: str) -> Any:
        self._on()
        return {"indexes": [item for name, item in self.indexes.items() if name.startswith(self._numbered(where))]}

    def _list_endpoints(self, _: Call, where: str) -> Any:
        self._on()
        found = [item for name, item in self.endpoints.items() if name.startswith(self._numbered(where))]
        return {"indexEndpoints": found}

    def _get(self, _: Call, where: str, kind: str, name: str) -> Any:
        self._on()
        whole = f"{self._numbered(where)}/{kind}/{name}"
        kept = self.indexes if kind == "indexes" else self.endpoints
        if whole not in kept:
            raise not_found(whole)
        return kept[whole]

    def _create_index(self, call: Call, where: str) -> Any:
        self._on()
        body = call.json
        config = body.get("metadata", {}).get("config", {})
        if not 1 <= int(config.get("dimensions", 0)) <= 4096:
            raise Refusal(400, "INVALID_ARGUMENT", "config.dimensions must be between 1 and 4096.")
        if "treeAhConfig" in config.get("algorithmConfig", {}) and not config.get("approximateNeighborsCount"):
            raise Refusal(400, "INVALID_ARGUMENT", "approximateNeighborsCount is required by treeAhConfig.")
        whole = f"{self._numbered(where)}/indexes/{7_000 + len(self._operations)}"
        made = self._now()
        self.indexes[whole] = {"name": whole, "createTime": made, "deployedIndexes": [], **body}
        return self._begin(whole, "CreateIndex", lambda: self.indexes[whole])

    def _create_endpoint(self, call: Call, where: str) -> Any:
        self._on()
        number = 8_000 + len(self._operations)
        whole = f"{self._numbered(where)}/indexEndpoints/{number}"
        made = self._now()
        region = where.rpartition("/")[2]
        domain = {"publicEndpointDomainName": f"{number}.{region}-1234.vdb.vertexai.goog"}
        public = domain if call.json.get("publicEndpointEnabled") else {}
        self.endpoints[whole] = {"name": whole, "createTime": made, **call.json, **public}
        return self._begin(whole, "CreateIndexEndpoint", lambda: self.endpoints[whole], looks=0)

    def _deploy(self, call: Call, where: str, name: str) -> Any:
        self._on()
        endpoint, wanted = self._get(call, where, "indexEndpoints", name), call.json["deployedIndex"]
        index = self.indexes.get(self._numbered(wanted["index"]))
        if index is None:
            raise not_found(wanted["index"])
        if self._running(index["name"]):
            raise Refusal(400, "FAILED_PRECONDITION", f"Index {index['name']} is not ready yet.")
        if not _DEPLOYED.fullmatch(wanted["id"]):
            raise Refusal(400, "INVALID_ARGUMENT", f"Deployed index ID {wanted['id']} is not valid.")
        if self._running(endpoint["name"]) or wanted["id"] in self._deployed_ids():
            raise exists(f"Deployed index {wanted['id']}")
        machine = wanted.get("dedicatedResources", {}).get("machineSpec", {}).get("machineType", "e2-standard-16")
        if machine not in _MACHINES[index["metadata"]["config"].get("shardSize", "SHARD_SIZE_MEDIUM")]:
            raise Refusal(400, "INVALID_ARGUMENT", f"{machine} does not fit the shard size of the index.")

        def then() -> dict[str, Any]:
            endpoint.setdefault("deployedIndexes", []).append({**wanted, "index": index["name"]})
            return {"deployedIndex": wanted}

        return self._begin(endpoint["name"], "DeployIndex", then)

    def _deployed_ids(self) -> set[str]:
        return {each["id"] for one in self.endpoints.values() for each in one.get("deployedIndexes", [])}

    def _list_operations(self, _: Call, where: str, kind: str, name: str) -> Any:
        whole = f"{self._numbered(where)}/{kind}/{name}"
        for operation in [each for each in self._operations if each.startswith(f"{whole}/")]:
            self._look(operation)
        return {"operations": [each for key, each in self._operations.items() if key.startswith(f"{whole}/")]}

    def _operation(self, _: Call, where: str, kind: str, name: str, operation: str) -> Any:
        return self._look(f"{self._numbered(where)}/{kind}/{name}/operations/{operation}")

    def _any_operation(self, _: Call, where: str, operation: str) -> Any:
        """As gcloud asks for them: without what they are about."""
        ending = f"/operations/{operation}"
        whole = next((name for name in self._operations if name.endswith(ending)), f"{self._numbered(where)}{ending}")
        return self._look(whole)

    def _begin(self, whole: str, kind: str, then: Then, looks: int | None = None) -> Any:
        name = f"{whole}/operations/{9_000 + len(self._operations)}"
        generic = {"createTime": self._now()}
        metadata = {"@type": f"{_TYPES}{kind}OperationMetadata", "genericMetadata": generic}
        self._operations[name] = {"name": name, "metadata": {**metadata, "kind": kind}}
        self._left[name] = (self.looks if looks is None else looks, then)
        return self._operations[name]

    def _now(self) -> str:
        minutes, seconds = divmod(len(self._operations), 60)
        return f"2026-11-21T10:{minutes:02}:{seconds:02}Z"

    def _look(self, name: str) -> Any:
        if name not in self._operations:
            raise not_found(name)
        if name in self._left:
            left, then = self._left[name]
            self._left[name] = (left - 1, then)
            if left <= 0:
                self._end(name, then)
        return self._operations[name]

    def _end(self, name: str, then: Then) -> None:
        del self._left[name]
        operation = self._operations[name]
        kind = operation["metadata"]["kind"]
        operation["done"] = True
        if kind in self.failing:
            operation["error"] = {"code": 8, "message": self.failing[kind]}
        else:
            operation["response"] = {"@type": f"{_TYPES}{kind}Response", **then()}

    def _running(self, whole: str) -> bool:
        return any(name.startswith(f"{whole}/") for name in self._left)

    def _on(self) -> None:
        if _API not in self._account.apis:
            raise Refusal(403, "PERMISSION_DENIED", "Vertex AI API has not been used in project 1234 before.")

    def _numbered(self, name: str) -> str:
        return name.replace(f"projects/{self._project}/", "projects/1234/", 1)
