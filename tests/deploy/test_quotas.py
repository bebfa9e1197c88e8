"""What a deploy needs of a project's quotas is seen before anything is made, and named with its mend."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.google import GoogleCloud
from fakes.google.base import TOKEN
from firelaunch.settings.app import Settings
from firelaunch_cli.deploy.functions import membership_service
from firelaunch_cli.deploy.gcloud import CommandFailed, Request, Tools
from firelaunch_cli.deploy.quotas import Quota, quota_steps, quotas
from firelaunch_cli.deploy.resources import APIS, FEATURE_APIS, Place, app_service
from firelaunch_cli.deploy.steps import perform

from .gcloud_parser import refusals
from .test_plan import settings
from .test_release import never
from .world import gcloud_is_there

pytestmark = pytest.mark.skipif(not gcloud_is_there(), reason="the Google Cloud CLI is not installed")

PLACE = Place("demo-project", "europe-west1", "1234")


@pytest.fixture
def cloud() -> Iterator[GoogleCloud]:
    """A project whose APIs are on."""
    with GoogleCloud() as cloud:
        cloud.account.apis |= {*APIS, *FEATURE_APIS.values()}
        yield cloud


def looked_at(cloud: GoogleCloud, home: Path, app: Settings) -> list[str]:
    """Every warning; raises Failed where a quota is too small."""
    warned: list[str] = []
    tools = Tools({**os.environ, **cloud.environ(home)}, warned.append, pause=lambda _: None, token=TOKEN)
    services = [app_service(app, PLACE), membership_service(PLACE, frozenset())]
    for step in quota_steps(PLACE, quotas(app, PLACE, services)):
        assert perform(step, tools, never) == 0, "looking changes nothing"
    return warned


def test_an_app_that_fits_is_looked_at_once_for_each_quota_that_it_needs(cloud: GoogleCloud, tmp_path: Path) -> None:
    assert looked_at(cloud, tmp_path / "home", settings(tmp_path / "plain")) == []
    at = "GET cloudquotas.googleapis.com/v1/projects/demo-project/locations/global/services"
    run = [
        f"{at}/run.googleapis.com/quotaInfos/{name}"
        for name in ("CpuAllocPerProjectRegion", "MemAllocPerProjectRegion")
    ]
    assert cloud.requests == run
    cloud.requests.clear()
    assert looked_at(cloud, tmp_path / "home", settings(tmp_path / "all", "all")) == []
    assert cloud.requests == [
        *run,
        "GET firestore.googleapis.com/v1/projects/demo-project/databases",
        f"{at}/firestore.googleapis.com/quotaInfos",
        f"{at}/aiplatform.googleapis.com/quotaInfos",
        f"{at}/aiplatform.googleapis.com/quotaInfos/EmbedContentInputTokensPerMinutePerRegionPerBaseModel",
    ]
    assert cloud.unexpected == []


HERE, THERE = {"region": "europe-west1"}, {"region": "us-central1"}
MODEL = {"base_model": "gemini-3.8-flash"}
REQUESTS = "GlobalGenerateContentRequestsPerMinutePerProjectPerBaseModel"
REGIONAL = "GenerateContentRequestsPerMinutePerProjectPerRegionPerBaseModel"
TOKENS = "EmbedContentInputTokensPerMinutePerRegionPerBaseModel"


@pytest.mark.parametrize(
    ("name", "limits", "said"),
    [
        ("CpuAllocPerProjectRegion", [(HERE, 9_999)], "it is 9,999, and 10 instances of .* takes 10,000; 9 would fit"),
        ("CpuAllocPerProjectRegion", [({}, 500_000), (HERE, 5_000)], "5 would fit"),
        ("CpuAllocPerProjectRegion", [(HERE, 10_000), ({}, 0)], None),
        ("CpuAllocPerProjectRegion", [(THERE, 0), ({}, -1)], None),
        ("MemAllocPerProjectRegion", [(HERE, 8 * 2**30)], "10 instances of my-app with 2Gi .* 4 would fit"),
        ("MemAllocPerProjectRegion", [(HERE, 20 * 2**30)], None),
        ("DATABASES-per-project", [({}, 1)], "takes 2"),
        ("DATABASES-per-project", [({}, 2)], None),
        (REQUESTS, [(MODEL, 0)], "it is 0, and a user of the plan 'pro' alone"),
        (REQUESTS, [({"base_model": "another"}, 0)], None),
        (TOKENS, [({**HERE, "base_model": "gemini-embedding"}, 0), ({}, 1_000)], "what .index. has embedded"),
    ],
)
def test_what_is_too_small_is_refused_with_what_would_fit_and_the_command_that_asks_for_more(
    name: str, limits: list[tuple[dict[str, str], int]], said: str | None, cloud: GoogleCloud, tmp_path: Path
) -> None:
    """Of several that apply, the one of the most dimensions is the one that holds."""
    cloud.quotas.limits[name] = limits
    app = settings(tmp_path / "all", "all")
    if said is None:
        assert looked_at(cloud, tmp_path / "home", app) == []
        return
    with pytest.raises(CommandFailed, match=said) as failed:
        looked_at(cloud, tmp_path / "home", app)
    assert "https://console.cloud.google.com/iam-admin/quotas?project=demo-project" in failed.value.mend
    assert cloud.unexpected == []


def test_databases_that_are_there_already_count_and_the_apps_own_count_once(cloud: GoogleCloud, tmp_path: Path) -> None:
    app = settings(tmp_path / "all", "all")
    cloud.quotas.limits["DATABASES-per-project"] = [({}, 3)]
    databases = cloud.firestore.databases
    databases |= {name: {"name": f"projects/demo-project/databases/{name}"} for name in ("my-app", "(default)", "x")}
    assert looked_at(cloud, tmp_path / "home", app) == []
    databases["y-app"] = {"name": "projects/demo-project/databases/y-app"}
    with pytest.raises(CommandFailed, match="takes 4"):
        looked_at(cloud, tmp_path / "home", app)


def test_a_model_that_serves_fewer_requests_than_one_user_may_send_is_a_warning(
    cloud: GoogleCloud, tmp_path: Path
) -> None:
    cloud.quotas.limits[REQUESTS] = [(MODEL, 59)]
    (said,) = looked_at(cloud, tmp_path / "home", settings(tmp_path / "app", "all"))
    assert "it is 59, and a user of the plan 'pro'" in said
    cloud.quotas.limits[REQUESTS] = [(MODEL, 60)]
    assert looked_at(cloud, tmp_path / "home", settings(tmp_path / "again", "all")) == []


@pytest.mark.parametrize(
    ("location", "said"), [("global", False), ("europe-west1", True), ("us-central1", False), ("eu", False)]
)
def test_a_models_quota_is_looked_at_where_the_model_is_called(
    location: str, said: bool, cloud: GoogleCloud, tmp_path: Path
) -> None:
    cloud.quotas.limits[REGIONAL] = [({**HERE, **MODEL}, 1), ({**THERE, **MODEL}, 100)]
    app = settings(tmp_path / "app", "all", location=location)
    assert bool(looked_at(cloud, tmp_path / "home", app)) is said


@pytest.mark.parametrize("why", ["permission", "api", "exhausted"])
def test_who_may_not_see_quotas_is_told_how_to_once_asked_and_is_not_stopped(
    why: str, cloud: GoogleCloud, tmp_path: Path
) -> None:
    if why == "permission":
        cloud.denied = {"cloudquotas.quotas.get"}
    elif why == "exhausted":
        cloud.exhausted = {"cloudquotas.quotas.get"}
    else:
        cloud.account.apis.discard("cloudquotas.googleapis.com")
    said = "\n".join(looked_at(cloud, tmp_path / "home", settings(tmp_path / "app")))
    assert said.count("warning: it could not be looked at") == 2
    mend = "gcloud services enable cloudquotas.googleapis.com" if why == "api" else "--role=roles/cloudquotas.viewer"
    assert said.count(mend) == 2
    asked = [line for line in cloud.requests if "CpuAlloc" not in line]
    assert asked == [], "once Google refuses one, it is not asked for the others"


def test_who_may_not_see_what_counts_against_a_quota_is_not_stopped_here_either(
    cloud: GoogleCloud, tmp_path: Path
) -> None:
    """The step that is about it says so, with the mend that fits."""
    cloud.denied = {"datastore.databases.list"}
    said = "\n".join(looked_at(cloud, tmp_path / "home", settings(tmp_path / "app", "all")))
    assert "warning: it could not be looked at" in said
    assert "'datastore.databases.list' denied" in said


def test_who_only_looks_waits_for_nothing_that_was_just_turned_on(cloud: GoogleCloud, tmp_path: Path) -> None:
    """A deploy waits for the API that it turned on; the doctor turned nothing on."""
    cloud.account.apis.discard("cloudquotas.googleapis.com")
    request = quota_steps(PLACE, [Quota("x", "run.googleapis.com", "CpuAllocPerProjectRegion", 1, "x")])[0].looks[0]
    assert isinstance(request, Request)
    environ, paused = {**os.environ, **cloud.environ(tmp_path / "home")}, list[float]()
    for patient in (True, False):
        tools = Tools(environ, print, pause=paused.append, token=TOKEN, patient=patient)
        tools.expect_on(["cloudquotas.googleapis.com"], "demo-project", "1234")
        with pytest.raises(CommandFailed, match="has not been used in project"):
            tools.request(request)
    assert paused[:5] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert sum(paused) == pytest.approx(300), "of the deploy alone"


def test_a_quota_that_google_no_longer_has_is_a_warning(cloud: GoogleCloud, tmp_path: Path) -> None:
    del cloud.quotas.limits["CpuAllocPerProjectRegion"]
    said = looked_at(cloud, tmp_path / "home", settings(tmp_path / "app"))
    assert said == [
        "warning: run.googleapis.com has no quota CpuAllocPerProjectRegion any more, so that it was not looked at"
    ]


def test_gcloud_takes_the_commands_that_ask_for_more(tmp_path: Path) -> None:
    app = settings(tmp_path / "all", "all", location="europe-west1")
    mends = [step.mend for step in quota_steps(PLACE, quotas(app, PLACE, [app_service(app, PLACE)]))]
    commands = [
        shlex.split(mend.partition("ask for more: ")[2].partition(" (or at")[0])[1:]
        for mend in mends
        if "gcloud beta" in mend
    ]
    assert len(commands) == 4
    assert refusals(commands, tmp_path) == {}


@pytest.mark.parametrize("answer", [None, {}, {"dimensionsInfos": []}, {"dimensionsInfos": [{"details": {}}]}])
def test_an_answer_without_a_number_is_no_limit(answer: Any) -> None:
    assert Quota("x", "run.googleapis.com", "Any", 1, "x", dimensions=HERE).limit(answer) is None
