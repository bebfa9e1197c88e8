"""Alerts: made once, of metrics that Cloud Monitoring knows, and changed where the settings change."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from fakes.google import GoogleCloud
from fakes.google.base import TOKEN
from firelaunch.metering.settled_log import log_settled
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch_cli.deploy.alerts import alert_steps
from firelaunch_cli.deploy.gcloud import Tools
from firelaunch_cli.deploy.resources import FEATURE_APIS, FEATURE_PERMISSIONS, app_service, features
from firelaunch_cli.deploy.steps import perform

from .test_release import PLACE, cloud, never
from .world import gcloud_is_there

__all__ = ["cloud"]

pytestmark = pytest.mark.skipif(not gcloud_is_there(), reason="the Google Cloud CLI is not installed")


@pytest.fixture
def said() -> list[str]:
    """The lines that a deploy shows."""
    return []


@pytest.fixture
def tools(cloud: GoogleCloud, tmp_path: Path, said: list[str]) -> Tools:
    cloud.account.apis |= {FEATURE_APIS["alerts"], FEATURE_APIS["log_metrics"]}
    return Tools({**os.environ, **cloud.environ(tmp_path / "home")}, said.append, lambda _: None, TOKEN)


def settings(folder: Path, more: str = "") -> Settings:
    alerts = f'[alerts]\nemail = "ops@example.com"\n{more}'
    return Settings.load(write_app(folder, SETTINGS + alerts), {})


def made(tools: Tools, asked: Settings) -> int:
    return sum(perform(step, tools, never) for step in alert_steps(PLACE, asked))


def titles(cloud: GoogleCloud) -> list[str]:
    return sorted(policy["displayName"] for policy in cloud.monitoring.policies.values())


def test_an_app_gets_its_alerts_once_and_they_go_to_whom_the_settings_name(
    cloud: GoogleCloud, tools: Tools, tmp_path: Path, said: list[str]
) -> None:
    asked = settings(tmp_path, 'hourly_usd = "2.50"\n')
    assert made(tools, asked) == 3 + 1 + 4
    assert titles(cloud) == [
        "firelaunch: demo: a job is dead",
        "firelaunch: demo: first tokens take over 10000 ms",
        "firelaunch: demo: models cost over $2.5 in an hour",
        "firelaunch: demo: over 5% of requests fail",
    ]
    (channel,) = cloud.monitoring.channels
    assert all(policy["notificationChannels"] == [channel] for policy in cloud.monitoring.policies.values())
    assert made(tools, asked) == 0, "they are found again"
    assert said == []


def test_no_alert_is_made_unless_somebody_is_to_get_it(tmp_path: Path) -> None:
    plain = Settings.load(write_app(tmp_path), {})
    assert alert_steps(PLACE, plain) == []
    assert not {"alerts", "log_metrics", "telemetry"} & set(features(plain))


def test_a_change_of_the_settings_replaces_its_policy_and_leaves_the_others(
    cloud: GoogleCloud, tools: Tools, tmp_path: Path
) -> None:
    made(tools, settings(tmp_path))
    before = {policy["displayName"]: name for name, policy in cloud.monitoring.policies.items()}
    cloud.monitoring.policies["projects/demo-project/alertPolicies/99"] = {"displayName": "mine", "userLabels": {}}
    assert made(tools, settings(tmp_path, "first_token_ms = 4000\ndead_jobs = false\n")) == 3
    after = {policy["displayName"]: name for name, policy in cloud.monitoring.policies.items()}
    assert sorted(after) == [
        "firelaunch: demo: first tokens take over 4000 ms",
        "firelaunch: demo: over 5% of requests fail",
        "mine",
    ]
    same = "firelaunch: demo: over 5% of requests fail"
    assert after[same] == before[same]


def test_a_deploy_waits_for_a_metric_that_cloud_monitoring_does_not_know_yet(
    cloud: GoogleCloud, tools: Tools, tmp_path: Path, said: list[str]
) -> None:
    cloud.monitoring.late = 5
    made(tools, settings(tmp_path))
    assert len(cloud.monitoring.policies) == 3
    assert said == ["waiting, 10 minutes at most: Cloud Monitoring does not know a new metric yet"]


def test_without_the_metrics_google_refuses_the_policies_and_the_deploy_goes_on(
    cloud: GoogleCloud, tools: Tools, tmp_path: Path, said: list[str]
) -> None:
    cloud.denied = {"logging.logMetrics.create"}
    made(tools, settings(tmp_path))
    warnings = [line for line in said if line.startswith("warning: ")]
    assert "no metrics from the log, for alerts: 403" in warnings[0]
    assert "roles/logging.configWriter" in warnings[0]
    assert "no alerts of demo: 404 Cannot find metric(s)" in warnings[1]


def test_the_apis_and_permissions_are_asked_for_where_alerts_are_wanted(tmp_path: Path) -> None:
    wanted = features(settings(tmp_path))
    assert {"alerts", "log_metrics"} <= set(wanted)
    assert FEATURE_PERMISSIONS["alerts"]["monitoring.alertPolicies.create"] == "roles/monitoring.alertPolicyEditor"


def test_the_log_has_every_field_that_the_metrics_read(
    cloud: GoogleCloud, tools: Tools, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made(tools, settings(tmp_path))
    record: dict[str, Any] = {"outcome": "failed", "error": "x", "total_ms": 9, "usage": {"cost_micro_usd": 7}}
    with caplog.at_level("INFO"):
        log_settled("turn", "r1", {**record, "first_token_ms": 4})
    fields = vars(caplog.records[-1])
    for metric in cloud.monitoring.metrics.values():
        assert f'jsonPayload.event="{fields["event"]}"' in metric["filter"]
        read = [metric.get("valueExtractor", ""), *metric.get("labelExtractors", {}).values()]
        named = {text.removeprefix("EXTRACT(jsonPayload.").removesuffix(")") for text in read if text}
        assert named <= fields.keys()


def test_an_app_that_sends_to_google_may_write_there_and_others_keep_their_key_as_a_secret(tmp_path: Path) -> None:
    def service(endpoint: str) -> Any:
        text = SETTINGS + f'[telemetry]\nendpoint = "{endpoint}"\n'
        return app_service(Settings.load(write_app(tmp_path, text), {}), PLACE)

    google, other = service("https://telemetry.googleapis.com"), service("https://cloud.langfuse.com/api/public/otel")
    assert "roles/telemetry.writer" in {role.name for role in google.roles}
    assert "OTEL_EXPORTER_OTLP_HEADERS" not in google.secrets
    assert "roles/telemetry.writer" not in {role.name for role in other.roles}
    assert other.secrets["OTEL_EXPORTER_OTLP_HEADERS"] == "demo-otel-exporter-otlp-headers"
