"""The steps by which an app's Vertex AI index is made: begun early, waited for late, gone on with by the next run.

An index takes minutes to an hour to be made, and as long again to be deployed for the first time. Both are operations
of Google's that go on by themselves; whoever comes next finds the index by its label, and waits for what is running.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from firelaunch.settings.app import VertexIndexSettings

from .gcloud import QUOTA_MEND, Command, CommandFailed, Request, Tools, gcloud
from .resources import Place
from .steps import Action, Step
from .vertex import INDEX, LABEL, NODE, OwnIndex

__all__ = ["begin", "endpoints_command", "finish", "found", "named", "nodes"]

_POLL_SECONDS = 15.0
_TELL = 20
"""Polls between two lines that say that it still goes on: five minutes."""
_FAULTS = 5
"""Polls in a row that fail before it is given up: in an hour, the network may fail now and then."""
_APPEARS = 8
"""Times that a list is asked for what was begun a moment ago."""
_PAGE = 100
_TAKES = "30 to 60 minutes the first time; it goes on by itself, and a deploy that is broken off here goes on with it"

Found = Mapping[str, Any]


def begin(place: Place, own: OwnIndex) -> list[Step]:
    """The index, whose making is begun and not waited for, and its endpoint."""
    return [_index(place, own), _endpoint(place, own)]


def finish(place: Place, own: OwnIndex) -> list[Step]:
    """The index is deployed at its endpoint, once it is made; and can then be asked."""
    return [_deployed(place, own), _ready(place, own)]


def found(tools: Tools, place: Place, own: OwnIndex) -> VertexIndexSettings:
    """Return the ids by which the app reaches its index.

    Raises:
        CommandFailed: it is not deployed.
    """
    index, endpoint = _state(tools, place, own)
    if index is None or endpoint is None or _at(endpoint, own.deployed) is None:
        raise CommandFailed(f"{own.name}, the app's Vertex AI index, is not deployed", "deploy once without --preview")
    domain = endpoint.get("publicEndpointDomainName")
    if not domain:
        raise CommandFailed(
            f"the index endpoint {_id(endpoint)} has no public domain yet", "run the same command again"
        )
    return VertexIndexSettings(index=_id(index), endpoint=_id(endpoint), deployed=own.deployed, domain=domain)


def named(place: Place, wanted: VertexIndexSettings, dimensions: int) -> list[Step]:
    """The index that an app's settings name: looked at, and never changed."""
    at = (f"--region={place.region}",)
    endpoint = gcloud("ai", "index-endpoints", "describe", wanted.endpoint, *at, project=place.project)
    index = gcloud("ai", "indexes", "describe", wanted.index, *at, project=place.project)

    def wrong(answers: Sequence[Any]) -> str | None:
        there, made = answers
        deployed = _at(there, wanted.deployed)
        if deployed is None:
            return f"{wanted.deployed} is not deployed at the endpoint {wanted.endpoint}"
        if not str(deployed.get("index", "")).endswith(f"/indexes/{wanted.index}"):
            return f"{wanted.deployed} is the index {deployed.get('index')}, not {wanted.index}"
        if there.get("publicEndpointDomainName") != wanted.domain:
            return f"the endpoint's domain is {there.get('publicEndpointDomainName')}, not {wanted.domain}"
        return _unfit(made, dimensions)

    return [
        Step(
            f"Vertex AI index {wanted.index}, as [index.vertex] names it",
            (endpoint, index),
            refuses=wrong,
            mend="correct [index.vertex]; or take it out of firelaunch.toml, and the deploy makes the app an index",
        )
    ]


def nodes(listed: Any, own: OwnIndex) -> int:
    """Machines that the endpoints of a region have for other indexes than the app's own."""
    others = [
        each for endpoint in listed or [] for each in endpoint.get("deployedIndexes", []) if each["id"] != own.deployed
    ]
    sizes = [each.get("dedicatedResources") or each.get("automaticResources") or {} for each in others]
    return sum(int(size.get("maxReplicaCount") or size.get("minReplicaCount") or 1) for size in sizes)


def endpoints_command(place: Place) -> Command:
    """Return the request that lists the index endpoints of a region."""
    return gcloud("ai", "index-endpoints", "list", f"--region={place.region}", project=place.project)


def _indexes_command(place: Place) -> Command:
    return gcloud("ai", "indexes", "list", f"--region={place.region}", project=place.project)


def _index(place: Place, own: OwnIndex) -> Step:
    create = gcloud(
        *("ai", "indexes", "create", f"--display-name={own.name}", f"--labels={LABEL}={own.app}"),
        *(f"--index-update-method={INDEX['update_method'].lower().replace('_', '-')}", "--metadata-file=/dev/stdin"),
        f"--region={place.region}",
        project=place.project,
        text=json.dumps(own.metadata()),
    )

    def wrong(answers: Sequence[Any]) -> str | None:
        there = _own(answers[0], own)
        return _unfit(there, own.dimensions) if there else None

    return Step(
        f"Vertex AI index {own.name}",
        (_indexes_command(place),),
        lacks=lambda a: [] if _own(a[0], own) else [create],
        refuses=wrong,
        mend=f"ask for roles/aiplatform.user in {place.project}; or keep to the index's own dimensions in [index]; or "
        "take it away, and have all documents indexed anew: gcloud ai index-endpoints undeploy-index ENDPOINT "
        f"--deployed-index-id={own.deployed}, then gcloud ai indexes delete INDEX, each with --region and --project",
    )


def _endpoint(place: Place, own: OwnIndex) -> Step:
    create = gcloud(
        *("ai", "index-endpoints", "create", f"--display-name={own.name}", f"--labels={LABEL}={own.app}"),
        *("--public-endpoint-enabled", f"--region={place.region}"),
        project=place.project,
    )
    return Step(
        f"Vertex AI index endpoint {own.name}",
        (endpoints_command(place),),
        lacks=lambda a: [] if _own(a[0], own) else [create],
        refuses=lambda a: _private(_own(a[0], own)),
        mend=f"ask for roles/aiplatform.user in {place.project}",
    )


def _deployed(place: Place, own: OwnIndex) -> Step:
    def lacks(answers: Sequence[Any]) -> Iterable[Action]:
        index, endpoint = answers[:2]
        if endpoint is None or _at(endpoint, own.deployed) is None:
            yield gcloud(
                *("ai", "index-endpoints", "deploy-index", _id(endpoint) or "ENDPOINT"),
                *(f"--index={_id(index) or 'INDEX'}", f"--deployed-index-id={own.deployed}"),
                *(f"--display-name={own.name}", f"--machine-type={NODE['machine_type']}"),
                *(f"--min-replica-count={NODE['min_replicas']}", f"--max-replica-count={NODE['max_replicas']}"),
                f"--region={place.region}",
                project=place.project,
            )

    def wrong(answers: Sequence[Any]) -> str | None:
        index, endpoint = answers[:2]
        if index is None or endpoint is None:
            return f"{own.name} or its endpoint is not there"
        other = str((_at(endpoint, own.deployed) or {}).get("index", index["name"]))
        if _id({"name": other}) != _id(index):
            return f"{own.deployed} is the index {other}, not {index['name']}"
        return None

    return Step(
        f"{own.name} is deployed at its endpoint",
        (_operations(place, "indexes/INDEX"), _operations(place, "indexEndpoints/ENDPOINT")),
        lacks=lacks,
        refuses=wrong,
        mend=f"firelaunch deploy {own.app}; what stands in its way is taken away by gcloud ai index-endpoints "
        f"undeploy-index ENDPOINT --deployed-index-id={own.deployed} --region={place.region} --project={place.project}",
        look=lambda tools: _state(tools, place, own),
        waits=lambda tools: _check_made(_until_done(tools, place, own)),
    )


def _ready(place: Place, own: OwnIndex) -> Step:
    def wrong(answers: Sequence[Any]) -> str | None:
        _, endpoint = answers
        if endpoint is None or _at(endpoint, own.deployed) is None:
            return f"{own.name} is not deployed at its endpoint"
        return None

    return Step(
        f"{own.name} can be asked",
        (_operations(place, "indexEndpoints/ENDPOINT"),),
        refuses=wrong,
        mend=f"firelaunch deploy {own.app}",
        look=lambda tools: _state(tools, place, own),
        waits=lambda tools: _check_deployed(_until_done(tools, place, own)),
    )


def _state(tools: Tools, place: Place, own: OwnIndex) -> tuple[Found | None, Found | None]:
    """The index and the endpoint, as they were last seen; asked for anew where they were not."""
    index, endpoint = _indexes_command(place), endpoints_command(place)
    return (
        _own(tools.read(index), own) or _own(tools.read(index, fresh=True), own),
        _own(tools.read(endpoint), own) or _own(tools.read(endpoint, fresh=True), own),
    )


def _until_done(tools: Tools, place: Place, own: OwnIndex) -> tuple[Found, Found]:
    """Wait for whatever is being made of the app's index; what ran last of the index, and of its endpoint.

    Raises:
        CommandFailed: that cannot be seen.
    """
    for _ in range(_APPEARS):
        index, endpoint = _state(tools, place, own)
        if index is not None and endpoint is not None:
            break
        tools.pause(_POLL_SECONDS)
    if index is None or endpoint is None or _at(endpoint, own.deployed):
        return {}, {}
    made = _wait(tools, _operations(place, f"indexes/{_id(index)}"), f"{own.name} is being made")
    deployed = _wait(tools, _operations(place, f"indexEndpoints/{_id(endpoint)}"), f"{own.name} is being deployed")
    tools.read(endpoints_command(place), fresh=True)
    return made, deployed


def _wait(tools: Tools, operations: Request, what: str) -> Found:
    faults = 0
    for poll in count():
        try:
            listed = (tools.request(operations) or {}).get("operations", [])
        except CommandFailed as failed:
            faults += 1
            if faults == _FAULTS or not failed.passing:
                raise
        else:
            faults = 0
            if all(each.get("done") for each in listed):
                return max(listed, key=_begun, default={})
            if poll == 0:
                tools.say(f"{what}: {_TAKES}")
            elif poll % _TELL == 0:
                tools.say(f"{what}: since {poll * _POLL_SECONDS / 60:.0f} minutes")
        tools.pause(_POLL_SECONDS)
    raise AssertionError


def _check_made(last: tuple[Found, Found]) -> None:
    """An index that could not be made is one that nothing can be put into. A deployment that failed is tried again."""
    made, _ = last
    if "CreateIndexOperation" in str(made.get("metadata", {}).get("@type")):
        _raise(made, f"gcloud ai indexes delete {str(made['name']).partition('/operations/')[0]}, and deploy again")


def _check_deployed(last: tuple[Found, Found]) -> None:
    _raise(last[1], "mend what it says, and run the same command again: it goes on where it stopped")


def _raise(last: Found, mend: str) -> None:
    error = last.get("error")
    if error:
        quota = "quota" in str(error.get("message")).lower()
        raise CommandFailed(str(error.get("message")), QUOTA_MEND if quota else mend)


def _begun(operation: Found) -> str:
    return str(operation.get("metadata", {}).get("genericMetadata", {}).get("createTime", ""))


def _operations(place: Place, resource: str) -> Request:
    api = f"https://{place.region}-aiplatform.googleapis.com/v1"
    of = f"projects/{place.project}/locations/{place.region}/{resource}"
    return Request("GET", f"{api}/{of}/operations?pageSize={_PAGE}")


def _own(listed: Any, own: OwnIndex) -> Found | None:
    """The oldest that bears the app's label: should two runs have made one each, all choose the same."""
    mine = [item for item in listed or [] if item.get("labels", {}).get(LABEL) == own.app]
    return min(mine, key=lambda item: str(item.get("createTime", "")), default=None)


def _at(endpoint: Found, deployed: str) -> Found | None:
    return next((each for each in endpoint.get("deployedIndexes", []) if each.get("id") == deployed), None)


def _id(item: Found | None) -> str:
    return str(item["name"]).rpartition("/")[2] if item else ""


def _unfit(index: Found, dimensions: int) -> str | None:
    there = int(index.get("metadata", {}).get("config", {}).get("dimensions", dimensions))
    if there != dimensions:
        return f"the index {_id(index)} has vectors of {there}, and the app's are {dimensions}"
    if index.get("indexUpdateMethod") != INDEX["update_method"]:
        return f"the index {_id(index)} takes no streaming updates"
    return None


def _private(endpoint: Found | None) -> str | None:
    if endpoint and not endpoint.get("publicEndpointEnabled"):
        return f"the index endpoint {_id(endpoint)} has no public address"
    return None
