"""What Google refuses and takes back by itself, and what it refuses for good."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from fakes.google import GoogleCloud, ServiceAccount
from fakes.google.base import TOKEN
from firelaunch_cli.deploy import sign_in, vertex
from firelaunch_cli.deploy.build_folder import Staged
from firelaunch_cli.deploy.data import indexes, indexes_built, wanted_indexes
from firelaunch_cli.deploy.delays import API_IS_NEW, DELAYS, DisabledApi, delay_of, disabled_api, pauses
from firelaunch_cli.deploy.gcloud import CommandFailed, Tools
from firelaunch_cli.deploy.iam import account, roles
from firelaunch_cli.deploy.plan import preflight
from firelaunch_cli.deploy.release import Release
from firelaunch_cli.deploy.resources import APIS, FEATURE_PERMISSIONS, PERMISSIONS, Role
from firelaunch_cli.deploy.steps import perform

from .test_release import INDEXES, PLACE, SERVICE, cloud, never
from .world import gcloud_is_there

__all__ = ["cloud"]

pytestmark = pytest.mark.skipif(not gcloud_is_there(), reason="the Google Cloud CLI is not installed")


@pytest.fixture
def said() -> list[str]:
    """The lines that a deploy shows while it waits."""
    return []


@pytest.fixture
def paused() -> list[float]:
    """The seconds that a deploy waits."""
    return []


@pytest.fixture
def tools(cloud: GoogleCloud, tmp_path: Path, said: list[str], paused: list[float]) -> Tools:
    return Tools({**os.environ, **cloud.environ(tmp_path / "home")}, said.append, paused.append, TOKEN)


def test_indexes_and_fields_are_made_though_firestore_makes_one_change_at_a_time(
    cloud: GoogleCloud, tools: Tools, said: list[str], paused: list[float]
) -> None:
    cloud.firestore.polls = 5
    wanted = json.loads(INDEXES.read_text())
    perform(indexes(PLACE, "(default)", wanted_indexes(INDEXES, vector=768)), tools, never)
    assert len(cloud.firestore.fields) == len(wanted["fieldOverrides"])
    assert len(cloud.firestore.indexes["(default)"]) == len(wanted["indexes"]) + 2
    assert said[0] == "waiting, 10 minutes at most: another change is being made at the same time"
    assert len(said) == 1, "what many changes wait for is said once"
    assert paused[:4] == [1.0, 2.0, 1.0, 2.0], "each change has a patience of its own"
    assert perform(indexes_built(PLACE, "(default)", wanted_indexes(INDEXES, vector=768)), tools, never) == 0
    assert {index["state"] for index in cloud.firestore.indexes["(default)"]} == {"READY"}


def test_a_revision_waits_until_its_indexes_are_built_and_says_how_many_are_left(
    cloud: GoogleCloud, tools: Tools, said: list[str]
) -> None:
    perform(indexes(PLACE, "(default)", wanted_indexes(INDEXES)), tools, never)
    perform(indexes_built(PLACE, "(default)", wanted_indexes(INDEXES)), tools, never)
    ours = cloud.firestore.indexes["(default)"]
    most = len(ours)
    ours[0]["state"] = "CREATING"
    cloud.firestore.keep_building = True
    with pytest.raises(CommandFailed, match=rf"still building 1 of {most} indexes of \(default\)") as failed:
        perform(indexes_built(PLACE, "(default)", wanted_indexes(INDEXES)), tools, never)
    assert "run the same command again" in failed.value.mend
    assert said[-1] == f"waiting, 30 minutes at most: Firestore is building 1 of {most} indexes"
    ours[0]["state"] = "NEEDS_REPAIR"
    with pytest.raises(CommandFailed, match="could not build 1"):
        perform(indexes_built(PLACE, "(default)", wanted_indexes(INDEXES)), tools, never)


@pytest.mark.parametrize("late", ["secret", "build"])
def test_a_revision_is_made_once_its_accounts_rights_hold_and_built_once(
    cloud: GoogleCloud, tools: Tools, tmp_path: Path, said: list[str], late: str
) -> None:
    cloud.account.late[late] = 2
    (tmp_path / "staged").mkdir()
    (tmp_path / "staged" / "Dockerfile").write_text("FROM scratch\n")
    done = Release(tools, PLACE, SERVICE, lambda _: None).deploy(Staged(tmp_path / "staged", "one"))
    assert "serves at" in done
    waiting = [line for line in said if line.startswith("waiting, 7 minutes at most")]
    assert len(waiting) == 1
    assert len(cloud.run.services["demo"]["spec"]["template"]["spec"]["containers"][0]["image"]) > 0
    builds = [line for line in cloud.requests if line.endswith("builds:submit")]
    assert len(builds) == (1 if late == "secret" else 3)


@pytest.mark.long
def test_a_right_that_never_comes_ends_after_what_google_documents(
    cloud: GoogleCloud, tools: Tools, paused: list[float]
) -> None:
    cloud.account.late["account"] = 10_000
    with pytest.raises(CommandFailed, match="does not exist"):
        perform(roles(PLACE, SERVICE.account, (Role("roles/a.b"),)), tools, never)
    assert sum(paused) >= 120
    assert max(paused) <= 30


def test_a_new_account_is_given_its_roles_once_it_is_known_everywhere(cloud: GoogleCloud, tools: Tools) -> None:
    cloud.account.late["account"] = 3
    perform(account(PLACE, "fl-app-new", "new"), tools, never)
    assert perform(roles(PLACE, "fl-app-new", (Role("roles/a.b"),)), tools, never) == 1


def steps_of(tools: Tools, *titles: str) -> None:
    for step in preflight(PLACE, ()):
        if step.title in titles:
            perform(step, tools, never)


def test_an_api_that_this_deploy_turned_on_is_waited_for(cloud: GoogleCloud, tools: Tools, said: list[str]) -> None:
    cloud.account.apis -= {"firebase.googleapis.com"}
    cloud.account.late["firebase.googleapis.com"] = 3
    steps_of(tools, "APIs are on", "it is a Firebase project")
    assert cloud.account.firebase
    assert said == ["waiting, 5 minutes at most: the API was turned on and does not answer everywhere yet"]


def test_an_api_that_is_off_in_the_callers_own_project_ends_a_deploy_at_once_with_the_command(
    cloud: GoogleCloud, tools: Tools, paused: list[float]
) -> None:
    cloud.caller = ServiceAccount("5678", {"cloudresourcemanager.googleapis.com"})
    with pytest.raises(CommandFailed) as failed:
        steps_of(tools, "APIs by which the project is looked at", "billing is on")
    assert failed.value.mend.startswith("gcloud services enable cloudbilling.googleapis.com --project=5678")
    assert paused == []


def test_a_service_account_of_the_project_has_what_it_asks_turned_on_before_it_asks(
    cloud: GoogleCloud, tools: Tools
) -> None:
    cloud.account.apis = {"cloudresourcemanager.googleapis.com", "serviceusage.googleapis.com"}
    cloud.caller = ServiceAccount("1234", set())
    titles = [step.title for step in preflight(PLACE, ())]
    steps_of(tools, *titles)
    assert set(APIS) <= cloud.account.apis


@pytest.mark.parametrize(
    ("said", "off"),
    [
        (
            "Cloud Billing API has not been used in project 12 before or it is disabled. Enable it by visiting https://"
            "console.developers.google.com/apis/api/cloudbilling.googleapis.com/overview?project=12 then retry.",
            DisabledApi("cloudbilling.googleapis.com", "12"),
        ),
        ("API [run.googleapis.com] not enabled on project [a-b].", DisabledApi("run.googleapis.com", "a-b")),
        (
            "reason: SERVICE_DISABLED\nmetadata:\n  consumer: projects/7\n  service: iam.googleapis.com",
            DisabledApi("iam.googleapis.com", "7"),
        ),
        ("SERVICE_DISABLED", DisabledApi("", "")),
        ("403 The caller does not have permission", None),
    ],
)
def test_which_api_is_off_and_where_is_read_from_every_form_of_the_refusal(said: str, off: DisabledApi | None) -> None:
    assert disabled_api(said) == off
    assert delay_of(said) is None
    assert (delay_of(said, api_is_on=True) is API_IS_NEW) is (off is not None)


@pytest.mark.parametrize("delay", [*DELAYS, API_IS_NEW])
def test_every_delay_is_tried_again_until_its_time_is_up(delay: object) -> None:
    assert isinstance(delay, type(API_IS_NEW))
    waited = list(pauses(delay))
    assert sum(waited) == pytest.approx(delay.seconds)
    assert waited[:3] == [1.0, 2.0, 4.0]


# Permissions

GOLDEN = Path(__file__).parent / "requests.json"
ASKS_NO_PERMISSION = (":testIamPermissions", "artifactregistry.googleapis.com/v1/projects/")
EVERY_PERMISSION = {
    **PERMISSIONS,
    **vertex.PERMISSIONS,
    **sign_in.OF_TENANTS,
    **{k: v for f in FEATURE_PERMISSIONS.values() for k, v in f.items()},
}
BESIDE = {
    "iam.serviceAccounts.actAs",
    "serviceusage.services.use",
    "pubsub.topics.attachSubscription",
    "datastore.entities.create",
}
"""Permissions that Google wants besides a request's own: on the account that it names, on the quota's project, on a
subscription's topic, and for a document that is not there yet."""


OPTIONAL = {"cloudquotas.quotas.get", "billing.budgets.list", "billing.budgets.create"}
"""Those without which a deploy goes on, with a warning. Budgets are the billing account's, and no role on the project
shows whether the caller may make one there."""


def requests_of_every_scenario() -> set[str]:
    lines = {line for scenario in json.loads(GOLDEN.read_text()).values() for line in scenario}
    lines = {re.sub(r"^(POST .*collectionGroups/)\.\.\.$", r"\1x/indexes", line) for line in lines}
    return {re.sub(r"^(PATCH .*collectionGroups/)\.\.\.$", r"\1x/fields/y", line) for line in lines}


def test_preflight_asks_for_the_permission_of_every_request_that_a_deploy_was_seen_to_make() -> None:
    with GoogleCloud() as cloud:
        taken = {line: cloud.permission_of(line) for line in requests_of_every_scenario()}
    unknown = [line for line, permission in taken.items() if not permission and not _asks_none(line)]
    assert unknown == [], "a new kind of request: look up its permission, and give it to its route in testing/google"
    needed = set(taken.values()) - {"", *OPTIONAL}
    assert needed - set(EVERY_PERMISSION) == set()


def test_preflight_asks_for_nothing_that_no_request_takes() -> None:
    with GoogleCloud() as cloud:
        known = {route.permission for route in cloud.routes}
    assert set(EVERY_PERMISSION) - known - BESIDE == set()


def _asks_none(line: str) -> bool:
    return line.endswith(ASKS_NO_PERMISSION[0]) or (ASKS_NO_PERMISSION[1] in line and "/operations/" in line)


@pytest.mark.parametrize("features", [(), ("vector_search",)])
def test_each_permission_that_is_missing_is_named_with_its_role_before_anything_is_made(
    cloud: GoogleCloud, tools: Tools, features: tuple[str, ...]
) -> None:
    (step,) = [step for step in preflight(PLACE, features) if step.title.startswith("permissions")]
    wanted = {**PERMISSIONS, **{k: v for name in features for k, v in FEATURE_PERMISSIONS[name].items()}}
    assert len(wanted) <= 100, "Google takes no more in one request"
    for permission, role in wanted.items():
        cloud.account.lacks = {permission}
        with pytest.raises(CommandFailed, match=re.escape(f"{role} (for {permission})")):
            perform(step, tools, never)
