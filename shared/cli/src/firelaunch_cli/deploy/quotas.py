"""The quotas that a deploy needs, looked at before anything is made.

They are asked of the Cloud Quotas API: gcloud has them as a beta command alone, which many installations would have to
download first. Who may not see them is warned, and the deploy goes on.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from firelaunch.llm.claude_models import is_claude
from firelaunch.llm.google_locations import GLOBAL, MULTI_REGIONS
from firelaunch.settings.app import Settings

from .gcloud import Command, CommandFailed, Request, Tools, gcloud
from .resources import DEFAULT_DATABASE, QUOTA_VIEWER, RUN, Place, Service, databases
from .steps import Step
from .vertex import NODE, OwnIndex, own_index
from .vertex_steps import endpoints_command, nodes

__all__ = ["Quota", "quota_steps", "quotas"]

_API = "https://cloudquotas.googleapis.com/v1"
_PAGE = 500
_GLOBAL_REQUESTS = "aiplatform.googleapis.com/global_generate_content_requests_per_minute_per_project_per_base_model"
"""The metric of the global endpoint's quota, which has no region (https://cloud.google.com/vertex-ai/docs/quotas)."""

_UNLIMITED = -1
_METHOD = re.compile(r"^GET \S+ ")
_OFF = re.compile(r"SERVICE_DISABLED|has not been used in project")


@dataclass(frozen=True, slots=True)
class Quota:
    """One quota of an API, and what of it the deploy needs.

    Args:
        title: what it is a quota of, in a few words.
        id: Google's; empty where only its ``metric`` is known, by which it is then found among all of the API's.
        least: what the deploy cannot do without, in the quota's own unit. It comes on top of what ``beside`` shows.
        what: takes so much.
        wished: below this, users may be refused at times; a warning.
        dimensions: where it holds, such as the region.
        beside: shows what there is already, of which ``count`` tells how much counts against the quota.
        per: of each thing that a setting names the number of, and that setting: how many would fit is then said.
        otherwise: what helps besides more quota.
    """

    title: str
    api: str
    id: str
    least: int
    what: str
    wished: int = 0
    dimensions: Mapping[str, str] = field(default_factory=dict)
    metric: str = ""
    beside: Command | None = None
    count: Callable[[Any], int] = lambda _: 0
    per: int = 0
    otherwise: str = ""

    def look(self, project: str) -> Request:
        """The command that shows it."""
        of_api = f"{_API}/projects/{project}/locations/global/services/{self.api}/quotaInfos"
        return Request("GET", f"{of_api}/{self.id}" if self.id else f"{of_api}?pageSize={_PAGE}")

    def limit(self, answer: Any) -> int | None:
        """How much there is of it here; None where Google says nothing of that, as for what all projects share."""
        found = answer
        if not self.id:
            listed = (answer or {}).get("quotaInfos", [])
            found = next((item for item in listed if item.get("metric") == self.metric), None)
        infos = [info for info in (found or {}).get("dimensionsInfos", []) if self._here(info)]
        nearest: Mapping[str, Any] = max(infos, key=lambda info: len(info.get("dimensions", {})), default={})
        value = nearest.get("details", {}).get("value")
        return None if value is None else int(value)

    def _here(self, info: Mapping[str, Any]) -> bool:
        """Whether it is of these dimensions; one that it does not name may be any
        (https://cloud.google.com/docs/quotas/reference/rest/v1/DimensionsInfo)."""
        named = info.get("dimensions", {})
        places, region = info.get("applicableLocations", []), self.dimensions.get("region")
        anywhere = region is None or "region" in named or not places or region in places or "global" in places
        return anywhere and all(self.dimensions.get(name) == value for name, value in named.items())


def quotas(settings: Settings, place: Place, services: Sequence[Service]) -> Iterator[Quota]:
    """Those of an app's deploy. Ids and units are those of Google's own errors and of its list of quotas
    (https://console.cloud.google.com/iam-admin/quotas).

    Args:
        services: all that are deployed. Google holds the instances that each may have against the region's quota, by
            itself (https://cloud.google.com/run/docs/configuring/max-instances-limits).
    """
    here = {"region": place.region}
    cpu = int(RUN["cpu"]) * 1_000
    most = max(services, key=lambda service: service.max_instances)
    yield Quota(
        f"quota of CPU for Cloud Run in {place.region}",
        "run.googleapis.com",
        "CpuAllocPerProjectRegion",
        least=most.max_instances * cpu,
        what=f"{most.max_instances} instances of {most.name} with {RUN['cpu']} vCPU (milli-vCPU)",
        dimensions=here,
        per=cpu,
        otherwise="lower cloud.max_instances in firelaunch.toml",
    )
    largest = max(services, key=lambda service: service.max_instances * service.memory_bytes)
    yield Quota(
        f"quota of memory for Cloud Run in {place.region}",
        "run.googleapis.com",
        "MemAllocPerProjectRegion",
        least=largest.max_instances * largest.memory_bytes,
        what=f"{largest.max_instances} instances of {largest.name} with {largest.memory} (bytes)",
        dimensions=here,
        per=largest.memory_bytes,
        otherwise="lower cloud.max_instances or cloud.memory in firelaunch.toml",
    )
    if settings.cloud.database == "dedicated":
        yield _databases(settings, place)
    own = own_index(settings)
    if own:
        yield _nodes(own, place, here)
    if settings.models.provider == "vertex":
        yield from _model(settings)
    if settings.embedding.kind == "vertex" and settings.embedding.model.startswith("gemini-embedding"):
        yield _embedding(settings, here)


def quota_steps(place: Place, wanted: Iterable[Quota]) -> list[Step]:
    """A step for each. Once Google refuses to show one, it is not asked for the others."""
    refused: list[str] = []
    return [_step(place, quota, refused) for quota in wanted]


def _step(place: Place, quota: Quota, refused: list[str]) -> Step:
    request = quota.look(place.project)
    beside = (quota.beside,) if quota.beside else ()

    def look(tools: Tools) -> Sequence[Any]:
        if not refused:
            try:
                return [*(tools.read(command) for command in beside), tools.request(request)][::-1]
            except CommandFailed as failed:
                refused.append(_METHOD.sub("", str(failed).strip().splitlines()[-1]))
        return [None, None]

    def lacking(answers: Sequence[Any], more: int) -> str | None:
        limit = quota.limit(answers[0])
        if limit is None or limit == _UNLIMITED:
            return None
        wanted = more + (quota.count(answers[1]) if beside else 0)
        if limit >= wanted:
            return None
        fits = f"; {limit // quota.per} would fit" if quota.per else ""
        return f"it is {limit:,}, and {quota.what} takes {wanted:,}{fits}"

    def warns(answers: Sequence[Any]) -> str | None:
        if answers[0] is None and refused:
            return f"it could not be looked at: {refused[0]}\n{_seeing(place, refused[0])}"
        if answers[0] is None:
            return f"{quota.api} has no quota {quota.id} any more, so that it was not looked at"
        return lacking(answers, quota.wished) if quota.wished else None

    return Step(
        quota.title,
        (request, *beside),
        refuses=lambda answers: lacking(answers, quota.least),
        warns=warns,
        mend=_mend(place, quota),
        look=look,
    )


def _mend(place: Place, quota: Quota) -> str:
    page = f"https://console.cloud.google.com/iam-admin/quotas?project={place.project}"
    more = f"ask for more at {page}"
    if quota.id and quota.beside is None:
        dimensions = ",".join(f"{key}={value}" for key, value in quota.dimensions.items())
        command = shlex.join(
            [
                *("gcloud", "beta", "quotas", "preferences", "create", f"--service={quota.api}"),
                *(f"--quota-id={quota.id}", f"--preferred-value={max(quota.least, quota.wished)}"),
                *((f"--dimensions={dimensions}",) if dimensions else ()),
                f"--project={place.project}",
            ]
        )
        more = f"ask for more: {command} (or at {page})"
    return f"{quota.otherwise}; or {more}" if quota.otherwise else more


def _seeing(place: Place, said: str) -> str:
    if _OFF.search(said):
        return f"To have it looked at: gcloud services enable cloudquotas.googleapis.com --project={place.project}"
    return (
        f"To have it looked at, an owner of the project runs: gcloud projects add-iam-policy-binding {place.project} "
        f"--member=user:YOU --role={QUOTA_VIEWER} --condition=None"
    )


def _databases(settings: Settings, place: Place) -> Quota:
    wanted = {*databases(settings), DEFAULT_DATABASE}

    def there(listed: Any) -> int:
        """Those of others; the deploy's own are there already or will be."""
        return len({item["name"].rpartition("/")[2] for item in listed or []} - wanted)

    return Quota(
        "quota of Firestore databases",
        "firestore.googleapis.com",
        "",
        least=len(wanted),
        what="the databases that are there, with those of this app,",
        metric="firestore.googleapis.com/databases",
        beside=gcloud("firestore", "databases", "list", project=place.project),
        count=there,
        otherwise='set cloud.database = "shared" in firelaunch.toml',
    )


def _nodes(own: OwnIndex, place: Place, here: Mapping[str, str]) -> Quota:
    return Quota(
        f"quota of nodes for Vertex AI's indexes in {place.region}",
        "aiplatform.googleapis.com",
        "MatchingEngineDeployedIndexNodes",
        least=int(NODE["max_replicas"]),
        what="what is deployed there, with the node of this app's index,",
        dimensions=here,
        beside=endpoints_command(place),
        count=lambda listed: nodes(listed, own),
        otherwise="name an index that is there in [index.vertex], which several apps may share",
    )


def _model(settings: Settings) -> Iterator[Quota]:
    """Requests to the model, where it is called.

    Models of which Google shares out what there is have no such quota, and are let be; nor has any in the multi-regions
    (https://cloud.google.com/vertex-ai/generative-ai/docs/dynamic-shared-quota).
    """
    choice = settings.models.vertex
    if choice is None or choice.location in MULTI_REGIONS or is_claude(choice.chat):
        return
    plan, fastest = max(settings.plans.items(), key=lambda item: item[1].requests_per_minute)
    everywhere = choice.location == GLOBAL
    yield Quota(
        f"quota of requests to {choice.chat} in {choice.location}",
        "aiplatform.googleapis.com",
        "" if everywhere else "GenerateContentRequestsPerMinutePerProjectPerRegionPerBaseModel",
        least=1,
        what=f"a user of the plan {plan!r} alone, in requests a minute,",
        wished=fastest.requests_per_minute,
        dimensions={"base_model": choice.chat} | ({} if everywhere else {"region": choice.location}),
        metric=_GLOBAL_REQUESTS if everywhere else "",
        otherwise="name another model in [models.vertex]",
    )


def _embedding(settings: Settings, here: Mapping[str, str]) -> Quota:
    index = settings.index
    return Quota(
        f"quota of tokens for {settings.embedding.model} in {here['region']}",
        "aiplatform.googleapis.com",
        "EmbedContentInputTokensPerMinutePerRegionPerBaseModel",
        least=index.chunk_tokens,
        what="what [index] has embedded, in tokens a minute,",
        wished=index.tokens_per_minute,
        dimensions={**here, "base_model": "gemini-embedding"},
        otherwise="name another embedder in [index]",
    )
