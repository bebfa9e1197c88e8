"""Backups and the spending alert: made where there are none, and never changed where there are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fakes.google import GoogleCloud
from fakes.google.base import TOKEN
from firelaunch.settings.sections import Cloud
from firelaunch_cli.deploy.backups import backups
from firelaunch_cli.deploy.data import database
from firelaunch_cli.deploy.gcloud import CommandFailed, Tools, gcloud
from firelaunch_cli.deploy.resources import Place
from firelaunch_cli.deploy.spending_alert import alert_name, spending_alert
from firelaunch_cli.deploy.steps import Step, perform
from firelaunch_cli.deploy.terraform import left_to_terraform
from firelaunch_cli.doctor.cloud import looked
from pydantic import ValidationError

from .test_release import PLACE, cloud, never
from .world import gcloud_is_there

__all__ = ["cloud"]

pytestmark = pytest.mark.skipif(not gcloud_is_there(), reason="the Google Cloud CLI is not installed")

DATABASE = "(default)"


@pytest.fixture
def said() -> list[str]:
    """The lines that a deploy shows."""
    return []


@pytest.fixture
def tools(cloud: GoogleCloud, tmp_path: Path, said: list[str]) -> Tools:
    """What a deploy acts through that has looked at the project's billing already."""
    made = Tools({**os.environ, **cloud.environ(tmp_path / "home")}, said.append, lambda _: None, TOKEN)
    described = gcloud("billing", "projects", "describe", PLACE.project, project=PLACE.project)
    made._seen[described] = {"billingAccountName": "billingAccounts/0-0-0", "billingEnabled": True}
    return made


def made(cloud: GoogleCloud, **settings: object) -> Step:
    """The step that sees to the backups of a database that is there."""
    cloud.firestore.databases.setdefault(
        DATABASE, {"name": f"projects/{cloud.project}/databases/{DATABASE}", "uid": "u", "locationId": "europe-west1"}
    )
    return backups(PLACE, DATABASE, Cloud.model_validate(settings))


def test_a_new_database_gets_point_in_time_recovery_and_a_daily_backup_once(cloud: GoogleCloud, tools: Tools) -> None:
    """Though databases were listed before it was made."""
    perform(database(PLACE, "notes"), tools, never)
    step = backups(PLACE, "notes", Cloud())
    assert perform(step, tools, never) == 2
    assert cloud.firestore.databases["notes"]["pointInTimeRecoveryEnablement"] == "POINT_IN_TIME_RECOVERY_ENABLED"
    (schedule,) = cloud.firestore.schedules["notes"]
    assert (schedule["retention"], schedule["dailyRecurrence"]) == ("604800s", {})
    assert perform(step, tools, never) == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"point_in_time": False}, ["--retention=7d"]),
        ({"backup_days": 0}, ["--enable-pitr"]),
        ({"point_in_time": False, "backup_days": 0}, []),
        ({"backup_days": 98}, ["--enable-pitr", "--retention=98d"]),
    ],
)
def test_settings_turn_each_off_and_say_how_long_backups_are_kept(
    cloud: GoogleCloud, settings: dict[str, object], words: list[str]
) -> None:
    actions = map(str, made(cloud, **settings).lacks([None, None]))
    assert [word for action in actions for word in action.split() if "pitr" in word or "retention" in word] == words


@pytest.mark.parametrize("days", [-1, 99])
def test_a_retention_that_google_would_refuse_is_refused_by_the_settings(days: int) -> None:
    with pytest.raises(ValidationError, match="backup_days"):
        Cloud(backup_days=days)


@pytest.mark.parametrize(
    ("settings", "warning"),
    [
        ({}, False),
        ({"backup_days": 30}, False),
        ({"backup_days": 3}, True),
        ({"backup_days": 0, "point_in_time": False}, False),
    ],
)
def test_a_schedule_and_recovery_that_are_there_already_are_never_changed(
    cloud: GoogleCloud, tools: Tools, said: list[str], settings: dict[str, object], warning: bool
) -> None:
    step = made(cloud, **settings)
    shared = cloud.firestore.databases[DATABASE]
    shared["pointInTimeRecoveryEnablement"] = "POINT_IN_TIME_RECOVERY_ENABLED"
    own = {"name": f"{shared['name']}/backupSchedules/mine", "retention": "2592000s", "dailyRecurrence": {}}
    weekly = {"name": f"{shared['name']}/backupSchedules/week", "retention": "604800s", "weeklyRecurrence": {}}
    cloud.firestore.schedules[DATABASE] = [weekly, own]
    assert perform(step, tools, never) == 0
    assert cloud.firestore.schedules[DATABASE] == [weekly, own]
    assert [line for line in said if "warning" in line and "--backup-schedule=mine --retention=3d" in line] == (
        said if warning else []
    )
    assert len(said) == warning


def test_a_weekly_schedule_does_not_stand_for_a_daily_one(cloud: GoogleCloud) -> None:
    weekly = {"name": "x/backupSchedules/w", "retention": "60s", "weeklyRecurrence": {}}
    step = made(cloud, point_in_time=False)
    assert len(list(step.lacks([{}, {"backupSchedules": [weekly]}]))) == 1


def test_a_schedule_that_another_deploy_makes_at_the_same_moment_is_taken_for_this_one(
    cloud: GoogleCloud, tools: Tools
) -> None:
    step = made(cloud, point_in_time=False)
    (create,) = step.lacks([{}, {}])
    tools.run(create)
    assert tools.run(create) is None
    assert len(cloud.firestore.schedules[DATABASE]) == 1


@pytest.mark.parametrize(
    "permission",
    [
        "datastore.databases.getMetadata",
        "datastore.databases.update",
        "datastore.backupSchedules.list",
        "datastore.backupSchedules.create",
    ],
)
def test_each_permission_that_is_missing_ends_the_step_with_its_mend(
    cloud: GoogleCloud, tools: Tools, permission: str
) -> None:
    step = made(cloud)
    cloud.denied = {permission}
    with pytest.raises(CommandFailed) as failed:
        perform(step, tools, never)
    assert "roles/datastore.owner" in failed.value.mend
    assert "cloud.backup_days = 0" in failed.value.mend


def test_a_project_without_billing_keeps_nothing_and_says_so(cloud: GoogleCloud, tools: Tools) -> None:
    step = made(cloud)
    cloud.account.billing = False
    with pytest.raises(CommandFailed, match="requires billing"):
        perform(step, tools, never)


# The alert


def alert(**settings: object) -> Step:
    """The step that makes the alert."""
    return spending_alert(PLACE, Cloud.model_validate(settings))


def test_the_project_gets_one_budget_of_its_own_that_owners_hear_of(cloud: GoogleCloud, tools: Tools) -> None:
    assert perform(alert(), tools, never) == 1
    (budget,) = cloud.billing.budgets.values()
    assert budget["displayName"] == alert_name(PLACE.project)
    assert budget["budgetFilter"] == {"projects": ["projects/1234"], "calendarPeriod": "MONTH"}
    assert budget["amount"] == {"specifiedAmount": {"units": "50", "currencyCode": "USD"}}
    assert [rule["thresholdPercent"] for rule in budget["thresholdRules"]] == [0.5, 0.8, 1.0]
    assert budget["notificationsRule"] == {"enableProjectLevelRecipients": True}
    assert perform(alert(), tools, never) == 0, "it is found again"
    assert len(cloud.billing.budgets) == 1


def test_the_budget_is_in_the_currency_of_the_billing_account(cloud: GoogleCloud, tools: Tools) -> None:
    cloud.billing.currency = "EUR"
    perform(alert(monthly_alert=20), tools, never)
    (budget,) = cloud.billing.budgets.values()
    assert budget["amount"] == {"specifiedAmount": {"units": "20", "currencyCode": "EUR"}}


def test_a_budget_that_is_there_stays_as_it_is(cloud: GoogleCloud, tools: Tools, said: list[str]) -> None:
    """The project's apps share it, and somebody may have raised it in the console."""
    perform(alert(monthly_alert=200), tools, never)
    assert perform(alert(), tools, never) == 0
    assert said == []
    assert perform(alert(monthly_alert=10), tools, never) == 0
    assert len(said) == 1
    assert "the alert is at 200 USD a month" in said[0]
    assert "gcloud billing budgets update billingAccounts/0-0-0/budgets/budget-1 --budget-amount=10" in said[0]
    (budget,) = cloud.billing.budgets.values()
    assert budget["amount"]["specifiedAmount"]["units"] == "200"


def test_another_budget_of_the_project_is_not_taken_for_it(cloud: GoogleCloud, tools: Tools) -> None:
    other = {"displayName": "mine", "name": "b", "budgetFilter": {"projects": ["projects/1234"]}}
    cloud.billing.budgets["b"] = other
    assert perform(alert(), tools, never) == 1
    assert cloud.billing.budgets["b"] == other


@pytest.mark.parametrize("permission", ["billing.budgets.list", "billing.budgets.create"])
def test_a_deploy_goes_on_without_an_alert_and_says_the_mend_in_one_line(
    cloud: GoogleCloud, tools: Tools, said: list[str], permission: str
) -> None:
    cloud.denied = {permission}
    assert perform(alert(), tools, never) == 0
    assert len(said) == 1
    assert said[0].startswith(f"warning: no spending alert: 403 Permission '{permission}' denied")
    assert "roles/billing.costsManager" in said[0]
    assert "cloud.monthly_alert = 0" in said[0]
    assert cloud.billing.budgets == {}


def test_a_doctor_notes_an_alert_that_it_may_not_see_and_calls_it_no_problem(cloud: GoogleCloud, tools: Tools) -> None:
    cloud.denied = {"billing.budgets.list"}
    finding = looked(alert(), tools, "demo")
    assert (finding.status, "roles/billing.costsManager" in finding.mend) == ("note", True)


def test_a_deploy_with_terraform_makes_no_alert_and_goes_on_without_one(
    cloud: GoogleCloud, tools: Tools, said: list[str]
) -> None:
    assert perform(left_to_terraform(alert()), tools, never) == 0
    assert cloud.billing.budgets == {}
    assert "no spending alert: this is left to Terraform" in said[0]


def test_the_budgets_api_is_asked_for_the_project_itself(cloud: GoogleCloud, tools: Tools, said: list[str]) -> None:
    """Without its header Google refuses a person's token; where the API is off in the project, it says so."""
    cloud.account.apis -= {"billingbudgets.googleapis.com"}
    assert perform(alert(), tools, never) == 0
    assert "has not been used in project 1234" in said[0]
    request = next(iter(alert().lacks([None, None])))
    assert "X-Goog-User-Project: demo-project" in str(request)


def test_no_projects_alert_has_a_name_that_google_refuses() -> None:
    assert len(alert_name("p" * 30)) <= 60
    assert Place("p", "r").number == "PROJECT_NUMBER", "a dry run knows no number"
