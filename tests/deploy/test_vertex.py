"""An app's Vertex AI index: made once, waited for, gone on with after an interruption, and never another app's."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.google import GoogleCloud
from fakes.google.base import TOKEN
from firelaunch.errors import SettingsError
from firelaunch.settings.app import Settings, VertexIndexSettings
from firelaunch_cli.deploy.gcloud import CommandFailed, Request, Tools
from firelaunch_cli.deploy.quotas import quota_steps, quotas
from firelaunch_cli.deploy.resources import APIS, FEATURE_APIS, Place
from firelaunch_cli.deploy.steps import Step, perform
from firelaunch_cli.deploy.vertex import OwnIndex, own_index, told
from firelaunch_cli.deploy.vertex_steps import begin, finish, found, named

from .test_plan import settings
from .test_release import SERVICE, never
from .world import gcloud_is_there

pytestmark = pytest.mark.skipif(not gcloud_is_there(), reason="the Google Cloud CLI is not installed")

PLACE = Place("demo-project", "europe-west1", "1234")
OWN = OwnIndex("demo", "firelaunch-demo", "fl_demo", 1536)
AT = "projects/1234/locations/europe-west1"
CREATED = "POST aiplatform.googleapis.com/v1/projects/demo-project/locations/europe-west1/indexes"

MakeTools = Callable[[], Tools]


@pytest.fixture
def cloud() -> Iterator[GoogleCloud]:
    """A project in which Vertex AI is on, and whose operations take three looks."""
    with GoogleCloud() as cloud:
        cloud.account.apis |= {*APIS, *FEATURE_APIS.values()}
        cloud.vertex.looks = 3
        yield cloud


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def new(cloud: GoogleCloud, tmp_path: Path, said: list[str]) -> MakeTools:
    """Tools as a run of its own has them, which remember nothing of the run before."""
    environ = {**os.environ, **cloud.environ(tmp_path / "home")}
    return lambda: Tools(environ, said.append, pause=lambda _: None, token=TOKEN)


def make(tools: Tools, own: OwnIndex = OWN) -> VertexIndexSettings:
    for step in [*begin(PLACE, own), *finish(PLACE, own)]:
        perform(step, tools, never)
    return found(tools, PLACE, own)


def stand(cloud: GoogleCloud, own: OwnIndex = OWN) -> None:
    """As after a deploy."""
    label = {"labels": {"firelaunch-app": own.app}, "createTime": "2026"}
    index, endpoint = f"{AT}/indexes/{own.app}-1", f"{AT}/indexEndpoints/{own.app}-2"
    config = {"config": {"dimensions": own.dimensions}}
    cloud.vertex.indexes[index] = {
        "name": index,
        "metadata": config,
        "indexUpdateMethod": "STREAM_UPDATE",
        **label,
    }
    cloud.vertex.endpoints[endpoint] = {
        "name": endpoint,
        "publicEndpointEnabled": True,
        "publicEndpointDomainName": "d.example",
        "deployedIndexes": [{"id": own.deployed, "index": index}],
        **label,
    }


def made(cloud: GoogleCloud) -> tuple[int, int, int]:
    """How many indexes, endpoints and deployed indexes there are."""
    endpoints = cloud.vertex.endpoints.values()
    return len(cloud.vertex.indexes), len(endpoints), sum(len(each.get("deployedIndexes", [])) for each in endpoints)


def test_an_index_is_made_as_the_adapter_reads_it_waited_for_and_named(
    cloud: GoogleCloud, new: MakeTools, said: list[str]
) -> None:
    index = make(new())
    assert index == VertexIndexSettings(
        index="7000", endpoint="8001", deployed="fl_demo", domain="8001.europe-west1-1234.vdb.vertexai.goog"
    )
    (there,) = cloud.vertex.indexes.values()
    assert there["indexUpdateMethod"] == "STREAM_UPDATE"
    assert there["labels"] == {"firelaunch-app": "demo"}
    config = there["metadata"]["config"]
    assert (config["dimensions"], config["distanceMeasureType"]) == (1536, "DOT_PRODUCT_DISTANCE")
    ((deployed,),) = [each["deployedIndexes"] for each in cloud.vertex.endpoints.values()]
    assert deployed["dedicatedResources"] == {
        "machineSpec": {"machineType": "e2-standard-2"},
        "minReplicaCount": 1,
        "maxReplicaCount": 1,
    }
    waits = [line for line in said if "is being" in line]
    assert ["made" in waits[0], "deployed" in waits[1]] == [True, True]
    assert "a deploy that is broken off here goes on with it" in waits[0]
    assert cloud.unexpected == []


def test_what_is_there_is_found_again_by_two_requests_and_nothing_is_made(cloud: GoogleCloud, new: MakeTools) -> None:
    stand(cloud)
    assert make(new()).endpoint == "demo-2"
    at = "GET aiplatform.googleapis.com/v1/projects/demo-project/locations/europe-west1"
    assert cloud.requests == [f"{at}/indexes", f"{at}/indexEndpoints"]


class BrokenOff(Exception):
    """As Ctrl-C."""


@pytest.mark.long
def test_a_deploy_that_is_broken_off_while_it_waits_is_gone_on_with_by_the_next(
    cloud: GoogleCloud, new: MakeTools
) -> None:
    """Again and again: at the first look at the index, at a later one, and at two of its deployment's."""
    for polls in (0, 1, 1, 0):
        tools, left = new(), iter(range(polls))

        def pause(_: float, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise BrokenOff

        tools._pause = pause
        with pytest.raises(BrokenOff):
            make(tools)
        assert cloud.vertex.busy()
    make(new())
    assert made(cloud) == (1, 1, 1)
    assert cloud.unexpected == []


def test_a_permission_that_is_missing_is_named_and_the_next_run_makes_the_rest(
    cloud: GoogleCloud, new: MakeTools
) -> None:
    for permission in (
        *("aiplatform.indexes.list", "aiplatform.indexes.create", "aiplatform.indexEndpoints.create"),
        "aiplatform.operations.list",
    ):
        cloud.denied = {permission}
        tools = new()
        tools._pause = None  # type: ignore[assignment]
        with pytest.raises(CommandFailed, match=f"{permission}' denied") as failed:
            make(tools)
        assert "role" in failed.value.mend
    cloud.denied = {"aiplatform.indexEndpoints.deploy"}
    with pytest.raises(CommandFailed, match=r"aiplatform.indexEndpoints.deploy' denied"):
        make(new())
    cloud.denied = set()
    make(new())
    assert made(cloud) == (1, 1, 1)


@pytest.mark.long
def test_two_apps_of_a_project_have_an_index_each_and_neither_finds_the_others(
    cloud: GoogleCloud, new: MakeTools, tmp_path: Path
) -> None:
    names = ("a-b", "a")
    owns = [own_index(settings(tmp_path / name, "indexed", id=name)) for name in names]
    found = [make(new(), own) for own in owns if own]
    assert len({each.index for each in found}) == len({each.endpoint for each in found}) == 2
    assert {each.deployed for each in found} == {"fl_a_b", "fl_a"}


def test_an_index_that_somebody_made_by_hand_under_the_same_name_is_let_be() -> None:
    index, endpoint = begin(PLACE, OWN)
    by_hand = [{"name": f"{AT}/indexes/1", "displayName": OWN.name, "createTime": "2020"}]
    assert len(list(index.lacks([by_hand]))) == len(list(endpoint.lacks([by_hand]))) == 1


def test_of_two_that_were_made_at_once_every_run_takes_the_older(cloud: GoogleCloud, new: MakeTools) -> None:
    stand(cloud)
    (whole,) = cloud.vertex.indexes
    later = f"{AT}/indexes/1"
    cloud.vertex.indexes[later] = {**cloud.vertex.indexes[whole], "name": later, "createTime": "2099"}
    assert make(new()).index == "demo-1"


@pytest.mark.long
def test_a_deployment_that_fails_says_why_and_is_tried_again(cloud: GoogleCloud, new: MakeTools) -> None:
    cloud.vertex.failing = {"DeployIndex": "The following quotas are exceeded: MatchingEngineDeployedIndexNodes"}
    with pytest.raises(CommandFailed, match="MatchingEngineDeployedIndexNodes") as failed:
        make(new())
    assert "https://console.cloud.google.com/iam-admin/quotas" in failed.value.mend
    cloud.vertex.failing = {}
    make(new())
    assert made(cloud) == (1, 1, 1)


@pytest.mark.long
def test_an_index_that_could_not_be_made_says_why_and_how_to_be_rid_of_it(cloud: GoogleCloud, new: MakeTools) -> None:
    cloud.vertex.failing = {"CreateIndex": "internal"}
    with pytest.raises(CommandFailed, match="internal") as failed:
        make(new())
    assert f"gcloud ai indexes delete {AT}/indexes/7000" in failed.value.mend
    cloud.vertex.failing = {}
    cloud.vertex.indexes.clear()
    make(new())


def test_an_index_of_other_vectors_is_refused_before_anything_is_made(cloud: GoogleCloud, new: MakeTools) -> None:
    stand(cloud)
    with pytest.raises(CommandFailed, match="has vectors of 1536, and the app's are 768") as failed:
        make(new(), replace(OWN, dimensions=768))
    assert "undeploy-index ENDPOINT --deployed-index-id=fl_demo" in failed.value.mend
    assert made(cloud) == (1, 1, 1)


def test_another_index_under_the_deployed_id_is_refused(cloud: GoogleCloud, new: MakeTools) -> None:
    stand(cloud)
    (endpoint,) = cloud.vertex.endpoints.values()
    endpoint["deployedIndexes"][0]["index"] = f"{AT}/indexes/gone"
    with pytest.raises(CommandFailed, match=r"fl_demo is the index .*/gone, not .*/demo-1") as failed:
        make(new())
    assert "undeploy-index" in failed.value.mend


@pytest.mark.long
def test_a_wait_outlives_a_network_that_fails_now_and_then_and_not_one_that_is_gone(
    cloud: GoogleCloud, new: MakeTools, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools, real = new(), Tools.request
    failing = iter([True, True, False, True, False, False])

    def request(self: Tools, wanted: Any) -> Any:
        if next(failing, False):
            raise CommandFailed("the connection was reset", "try again", passing=True)
        return real(self, wanted)

    monkeypatch.setattr(Tools, "request", request)
    make(tools)
    assert made(cloud) == (1, 1, 1)
    cloud.vertex.indexes.clear()
    cloud.vertex.endpoints.clear()
    failing = iter([True] * 99)
    with pytest.raises(CommandFailed, match="reset"):
        make(new())


def test_a_token_that_ran_out_while_waiting_is_asked_for_anew(cloud: GoogleCloud, tmp_path: Path) -> None:
    environ = {**os.environ, **cloud.environ(tmp_path / "home")}
    tools = Tools(environ, lambda _: None, pause=lambda _: None, token="one-that-ran-out")
    stand(cloud)
    host = "https://europe-west1-aiplatform.googleapis.com/v1/projects/demo-project/locations/europe-west1"
    assert tools.request(Request("GET", f"{host}/indexes/demo-1"))["labels"] == {"firelaunch-app": "demo"}
    (tmp_path / "old").write_text("another-that-ran-out")
    with pytest.raises(CommandFailed, match="401"):
        Tools({**environ, "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(tmp_path / "old")}, print).request(
            Request("GET", f"{host}/indexes/demo-1")
        )


NAMED = VertexIndexSettings(index="7", endpoint="8", deployed="mine", domain="8.example")


@pytest.fixture
def there(cloud: GoogleCloud) -> dict[str, Any]:
    """The index that is named, as it is in the project."""
    name, other = f"{AT}/indexes/7", f"{AT}/indexes/9"
    index = {"name": name, "metadata": {"config": {"dimensions": "1536"}}, "indexUpdateMethod": "STREAM_UPDATE"}
    cloud.vertex.indexes |= {name: index, other: {**index, "name": other}}
    cloud.vertex.endpoints[f"{AT}/indexEndpoints/8"] = {
        "name": f"{AT}/indexEndpoints/8",
        "publicEndpointDomainName": "8.example",
        "deployedIndexes": [{"id": "mine", "index": name}],
    }
    return index


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"deployed": "other"}, "other is not deployed at the endpoint 8"),
        ({"index": "9"}, "mine is the index .*/7, not 9"),
        ({"domain": "else.example"}, "the endpoint's domain is 8.example, not else.example"),
        ({"endpoint": "1"}, "NOT_FOUND|not found"),
    ],
)
@pytest.mark.usefixtures("there")
def test_an_index_that_an_app_names_is_looked_at_and_used(
    change: dict[str, str], problem: str | None, cloud: GoogleCloud, new: MakeTools
) -> None:
    (step,) = named(PLACE, NAMED.model_copy(update=change), 1536)
    if problem is None:
        assert perform(step, new(), never) == 0
    else:
        with pytest.raises(CommandFailed, match=problem) as failed:
            perform(step, new(), never)
        assert "correct [index.vertex]" in failed.value.mend
    assert cloud.unexpected == []


def test_an_index_that_an_app_names_has_the_apps_dimensions_and_takes_streaming_updates(
    new: MakeTools, there: dict[str, Any]
) -> None:
    with pytest.raises(CommandFailed, match="has vectors of 1536, and the app's are 3072"):
        check(named(PLACE, NAMED, 3072), new())
    there["indexUpdateMethod"] = "BATCH_UPDATE"
    with pytest.raises(CommandFailed, match="takes no streaming updates"):
        check(named(PLACE, NAMED, 1536), new())


def check(steps: list[Step], tools: Tools) -> None:
    for step in steps:
        perform(step, tools, never)


def test_nodes_that_others_have_count_against_the_quota_and_the_apps_own_counts_once(
    cloud: GoogleCloud, new: MakeTools, tmp_path: Path
) -> None:
    app = settings(tmp_path / "app", "indexed", id="demo")

    def look() -> None:
        check(quota_steps(PLACE, quotas(app, PLACE, [SERVICE])), new())

    cloud.quotas.limits["MatchingEngineDeployedIndexNodes"] = [({"region": "europe-west1"}, 1)]
    look()
    stand(cloud)
    look()
    (endpoint,) = cloud.vertex.endpoints.values()
    endpoint["deployedIndexes"].append({"id": "another", "automaticResources": {"minReplicaCount": 1}})
    with pytest.raises(CommandFailed, match=r"it is 1, and .* takes 2"):
        look()


def test_the_services_read_the_index_from_their_environment(tmp_path: Path) -> None:
    index = VertexIndexSettings(index="7", endpoint="8", deployed="fl_demo", domain="d.example")
    environ = told(SERVICE, index).environ
    app = settings(tmp_path / "app", "indexed")
    assert own_index(app) is not None
    path = tmp_path / "app" / "firelaunch.toml"
    loaded = Settings.load(path, {"FIRELAUNCH_VERTEX_INDEX": environ["FIRELAUNCH_VERTEX_INDEX"]})
    assert loaded.index.vertex == index
    assert own_index(loaded) is None
    with pytest.raises(SettingsError, match="FIRELAUNCH_VERTEX_INDEX is not JSON with index, domain"):
        Settings.load(path, {"FIRELAUNCH_VERTEX_INDEX": json.dumps({"index": "7"})})
