"""Cloud Quotas: what a project may have of each thing, as far as a deploy asks."""

from __future__ import annotations

from typing import Any

from .base import Call, Route, not_found
from .project import Project

__all__ = ["Quotas"]

_API = "cloudquotas.googleapis.com"
_IDS = {
    "CpuAllocPerProjectRegion": ("run", "cpu_allocation", 200_000),
    "MemAllocPerProjectRegion": ("run", "mem_allocation", 400 * 2**30),
    "DATABASES-per-project": ("firestore", "databases", 100),
    "MatchingEngineDeployedIndexNodes": ("aiplatform", "matching_engine_deployed_index_nodes", 5),
    "GenerateContentRequestsPerMinutePerProjectPerRegionPerBaseModel": (
        *("aiplatform", "generate_content_requests_per_minute_per_project_per_base_model"),
        None,
    ),
    "GlobalGenerateContentRequestsPerMinutePerProjectPerBaseModel": (
        *("aiplatform", "global_generate_content_requests_per_minute_per_project_per_base_model"),
        None,
    ),
    "EmbedContentInputTokensPerMinutePerRegionPerBaseModel": (
        *("aiplatform", "embed_content_input_tokens_per_minute_per_base_model"),
        1_000_000,
    ),
}
"""By id: the API, the metric, and what a project is given everywhere; None where all projects share."""


class Quotas:
    """State and routes.

    Attributes:
        limits: by id, in the order in which Google lists them: for these dimensions, so much.
    """

    def __init__(self, project: str, account: Project) -> None:
        self.limits: dict[str, list[tuple[dict[str, str], int]]] = {
            name: [] if value is None else [({}, value)] for name, (_, _, value) in _IDS.items()
        }
        self._account = account
        self._project = project

    def routes(self) -> list[Route]:
        """Every route."""
        infos = f"{_API}/v1/projects/(?:{self._project}|1234)/locations/global/services/([^/]+)/quotaInfos"
        return [
            Route("GET", infos, self._list, "cloudquotas.quotas.get"),
            Route("GET", infos + "/([^/:]+)", self._get, "cloudquotas.quotas.get"),
        ]

    def limit(self, name: str, region: str) -> int | None:
        """What holds in a region; None for no limit."""
        found = [
            (len(dims), value) for dims, value in self.limits.get(name, []) if dims.get("region", region) == region
        ]
        value = max(found, default=(0, -1))[1]
        return None if value == -1 else value

    def _list(self, _: Call, service: str) -> Any:
        return {"quotaInfos": [self._info(name) for name in self.limits if _service(name) == service]}

    def _get(self, _: Call, service: str, name: str) -> Any:
        if name not in self.limits or _service(name) != service:
            raise not_found(f"Quota {name} of {service}")
        return self._info(name)

    def _info(self, name: str) -> dict[str, Any]:
        return {
            "name": f"projects/1234/locations/global/services/{_service(name)}/quotaInfos/{name}",
            "quotaId": name,
            "metric": f"{_service(name)}/{_IDS[name][1]}",
            "service": _service(name),
            "containerType": "PROJECT",
            "dimensionsInfos": [
                {
                    "dimensions": dimensions,
                    "details": {"value": str(value)},
                    "applicableLocations": _locations(dimensions),
                }
                for dimensions, value in self.limits[name]
            ],
        }


def _service(name: str) -> str:
    return f"{_IDS[name][0]}.googleapis.com"


def _locations(dimensions: dict[str, str]) -> list[str]:
    return [dimensions["region"]] if "region" in dimensions else ["europe-west1", "us-central1"]
