"""What the doctor finds of a project: the real gcloud, and a server that plays Google's APIs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from fakes.google import GoogleCloud
from firelaunch.membership.claims import MAX_BYTES
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import write_app
from firelaunch_cli.deploy.gcloud import Tools, gcloud
from firelaunch_cli.deploy.plan import for_service, preflight
from firelaunch_cli.deploy.resources import APIS, Place, app_service
from firelaunch_cli.deploy.steps import Step, perform
from firelaunch_cli.doctor.base import Finding
from firelaunch_cli.doctor.cloud import claims, clock, cloud_checks, looked

pytestmark = pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")

PROJECT = "demo-project"
PLACE = Place(PROJECT, "europe-west1")


@pytest.fixture
def google() -> Iterator[GoogleCloud]:
    with GoogleCloud(PROJECT) as server:
        server.account.apis |= {*APIS}
        yield server
        assert server.unexpected == []


@pytest.fixture
def tools(google: GoogleCloud, tmp_path: Path) -> Tools:
    return Tools({"PATH": os.environ["PATH"], **google.environ(tmp_path / "home")}, print, patient=False)


def found(tools: Tools, steps: Sequence[Step] = ()) -> dict[str, Finding]:
    return {finding.name: finding for finding in cloud_checks("demo", PROJECT, "", tools, lambda: steps)}


def secret_steps(folder: Path, key: str | None) -> list[Step]:
    settings = Settings.load(write_app(folder), {})
    keys = {"OPENAI_API_KEY": key} if key else {}
    steps = for_service(PLACE, app_service(settings, PLACE), keys)
    return [step for step in steps if "secret" in step.title]


def test_what_a_deploy_would_make_is_a_problem_and_afterwards_is_none(
    google: GoogleCloud, tools: Tools, tmp_path: Path
) -> None:
    steps = secret_steps(tmp_path, "sk-test")[:1]
    (before,) = [looked(step, tools, "demo") for step in steps]
    assert before.status == "problem"
    assert before.mend == "firelaunch deploy demo"
    assert google.account.secrets == {}, "the doctor only looks"
    for step in steps:
        perform(step, tools, lambda _: True)
    again = Tools({"PATH": os.environ["PATH"], **google.environ(tmp_path / "home")}, print)
    assert [looked(step, again, "demo").status for step in steps] == ["ok"]


def test_a_secret_that_is_not_set_is_a_problem_with_the_command_that_sets_it(tools: Tools, tmp_path: Path) -> None:
    (finding,) = [looked(step, tools, "demo") for step in secret_steps(tmp_path, None)[:1]]
    assert finding.status == "problem"
    assert "OPENAI_API_KEY is neither in Secret Manager" in finding.said
    assert "gcloud secrets versions add" in finding.mend


def test_what_is_asked_about_something_that_is_not_there_is_said_in_one_line(tools: Tools, tmp_path: Path) -> None:
    (finding,) = [looked(step, tools, "demo") for step in secret_steps(tmp_path, "sk-test")[1:]]
    assert (finding.status, finding.said) == ("problem", "what it is about is not there yet")
    assert finding.mend == "firelaunch deploy demo"


def test_a_missing_permission_is_a_problem_with_its_role(google: GoogleCloud, tools: Tools) -> None:
    google.account.lacks.add("run.services.create")
    step = next(step for step in preflight(PLACE, []) if step.title.startswith("permissions"))
    finding = looked(step, tools, "demo")
    assert finding.status == "problem"
    assert "roles/run.admin" in finding.said


def test_without_a_login_the_cloud_is_skipped_and_said_so(google: GoogleCloud, tmp_path: Path) -> None:
    environ = google.environ(tmp_path / "home")
    del environ["CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"]
    step = Step("never looked at", (gcloud("projects", "list", project=PROJECT),))
    (finding,) = found(Tools({"PATH": os.environ["PATH"], **environ}, print), [step]).values()
    assert finding.status == "skipped"
    assert "gcloud auth login" in finding.said
    assert google.requests == []


def test_an_app_without_a_project_is_skipped(tools: Tools) -> None:
    (finding,) = cloud_checks("demo", "", "", tools, list)
    assert finding.status == "skipped"
    assert "cloud.project" in finding.said


def test_claims_near_the_limit_are_a_problem_on_every_page(google: GoogleCloud, tools: Tools) -> None:
    google.users.claims = {f"user-{n:04}": {"apps": {"demo": "member"}} for n in range(1500)}
    assert claims(tools, PROJECT, "").status == "ok"
    google.users.claims["user-1400"] = {"apps": {f"a-longer-app-id-{n}": "member" for n in range(MAX_BYTES // 30)}}
    finding = claims(tools, PROJECT, "")
    assert finding.status == "problem"
    assert "1 of 1,500 accounts" in finding.said
    assert "user-1400" in finding.said
    google.denied.add("firebaseauth.users.get")
    assert claims(tools, PROJECT, "").status == "problem"


@pytest.mark.parametrize(("ahead", "status"), [(0.5, "ok"), (90, "problem"), (-90, "problem"), (None, "skipped")])
def test_a_clock_that_is_wrong_is_a_problem(tools: Tools, ahead: float | None, status: str) -> None:
    tools.clock_ahead = ahead
    assert clock(tools).status == status


def test_the_clock_is_compared_with_the_answers(google: GoogleCloud, tools: Tools) -> None:
    assert found(tools)["clock"].status == "ok"
