"""The alerts of an app: policies of Cloud Monitoring, of which ``alerts.email`` gets e-mails.

The errors of HTTP are a metric of Cloud Run's own. The others are made from the app's log lines
(:mod:`firelaunch.metering.settled_log`), so they need no telemetry to be on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from firelaunch.settings.app import Settings
from firelaunch.telemetry.names import EVENT, EVENT_DEAD_JOB, EVENT_SETTLED

from .gcloud import Request
from .resources import Place
from .steps import Action, Step

__all__ = ["alert_steps", "policies"]

_MONITORING = "https://monitoring.googleapis.com/v3"
_LOGGING = "https://logging.googleapis.com/v2"
_PERIOD = "300s"
_RATE_LIMIT, _CLOSED_AFTER = "3600s", "86400s"
_REQUESTS, _FIRST_TOKEN, _COST = "firelaunch_requests", "firelaunch_first_token_ms", "firelaunch_cost_micro_usd"
_LABEL, _DIGEST = "firelaunch_app", "firelaunch_settings"
_WITHOUT = 'to go without: alerts.email = ""'
_SETTLED = f'resource.type="cloud_run_revision" AND jsonPayload.{EVENT}="{EVENT_SETTLED}"'
_PAGE = 1000

_METRICS: Mapping[str, Mapping[str, Any]] = {
    _REQUESTS: {
        "description": "Requests to models that were settled, by how they ended.",
        "filter": _SETTLED,
        "metricDescriptor": {
            "metricKind": "DELTA",
            "valueType": "INT64",
            "labels": [{"key": "outcome", "valueType": "STRING"}],
        },
        "labelExtractors": {"outcome": "EXTRACT(jsonPayload.outcome)"},
    },
    _FIRST_TOKEN: {
        "description": "Milliseconds to the first token of streamed answers.",
        "filter": f"{_SETTLED} AND jsonPayload.first_token_ms>=0",
        "metricDescriptor": {"metricKind": "DELTA", "valueType": "DISTRIBUTION", "unit": "ms"},
        "valueExtractor": "EXTRACT(jsonPayload.first_token_ms)",
        "bucketOptions": {"exponentialBuckets": {"numFiniteBuckets": 48, "growthFactor": 1.25, "scale": 10}},
    },
    _COST: {
        "description": "Micro-dollars that models cost.",
        "filter": f"{_SETTLED} AND jsonPayload.cost_micro_usd>0",
        "metricDescriptor": {"metricKind": "DELTA", "valueType": "DISTRIBUTION", "unit": "1"},
        "valueExtractor": "EXTRACT(jsonPayload.cost_micro_usd)",
        "bucketOptions": {"exponentialBuckets": {"numFiniteBuckets": 32, "growthFactor": 2, "scale": 1}},
    },
}
"""Metrics made from log lines, for all apps of the project
(https://cloud.google.com/logging/docs/reference/v2/rest/v2/projects.metrics)."""


def alert_steps(place: Place, settings: Settings) -> list[Step]:
    """Return the steps that make an app's alerts; none if nobody is to get them.

    They come last: Cloud Monitoring learns of a new metric within ten minutes, and refuses policies for it until then.
    """
    if not settings.alerts.email:
        return []
    return [_metrics(place), _channel(place, settings.alerts.email), _policies(place, settings)]


def policies(app: str, settings: Settings, channel: str = "") -> Iterator[dict[str, Any]]:
    """Yield the policies that an app should have.

    Args:
        channel: the name of the channel by which they tell; "" for none.
    """
    alerts = settings.alerts
    if alerts.errors_percent:
        share = alerts.errors_percent / 100
        answers = f'{_of(app)} AND metric.type="run.googleapis.com/request_count"'
        calls = f'{_of(app)} AND metric.type="logging.googleapis.com/user/{_REQUESTS}"'
        conditions = [
            _ratio("answers with status 5xx", 'metric.labels.response_code_class="5xx"', answers, share),
            _ratio("requests to models that failed", 'metric.labels.outcome="failed"', calls, share),
        ]
        yield _policy(app, f"over {alerts.errors_percent}% of requests fail", conditions, channel)
    if alerts.first_token_ms:
        wanted = f'{_of(app)} AND metric.type="logging.googleapis.com/user/{_FIRST_TOKEN}"'
        condition = _threshold("95th percentile", wanted, "REDUCE_PERCENTILE_95", alerts.first_token_ms)
        yield _policy(app, f"first tokens take over {alerts.first_token_ms} ms", [condition], channel)
    if alerts.dead_jobs:
        line = f'{_of(app)} AND jsonPayload.{EVENT}="{EVENT_DEAD_JOB}"'
        matched = {"displayName": "a job is dead", "conditionMatchedLog": {"filter": line}}
        limit = {"notificationRateLimit": {"period": _RATE_LIMIT}}
        yield _policy(app, "a job is dead", [matched], channel, limit)
    if alerts.hourly_usd is not None:
        dollars = f"${alerts.hourly_usd / 1_000_000:g}"
        yield _policy(app, f"models cost over {dollars} in an hour", [_spent(app, alerts.hourly_usd)], channel)


def _of(app: str) -> str:
    return f'resource.type="cloud_run_revision" AND resource.labels.service_name="{app}"'


def _policy(
    app: str, title: str, conditions: Sequence[Mapping[str, Any]], channel: str, strategy: Mapping[str, Any] = {}
) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps([title, conditions, strategy]).encode()).hexdigest()[:16]
    return {
        "displayName": f"firelaunch: {app}: {title}",
        "combiner": "OR",
        "conditions": list(conditions),
        "notificationChannels": [channel] if channel else [],
        "alertStrategy": {"autoClose": _CLOSED_AFTER, **strategy},
        "userLabels": {_LABEL: app, _DIGEST: digest},
    }


def _threshold(title: str, wanted: str, reducer: str, threshold: float) -> dict[str, Any]:
    aligned = {"alignmentPeriod": _PERIOD, "perSeriesAligner": "ALIGN_DELTA", "crossSeriesReducer": reducer}
    condition = {
        "filter": wanted,
        "aggregations": [aligned],
        "comparison": "COMPARISON_GT",
        "thresholdValue": threshold,
        "duration": "0s",
    }
    return {"displayName": title, "conditionThreshold": condition}


def _ratio(title: str, part: str, of: str, threshold: float) -> dict[str, Any]:
    condition = _threshold(title, f"{of} AND {part}", "REDUCE_SUM", threshold)
    inner = condition["conditionThreshold"]
    inner |= {"denominatorFilter": of, "denominatorAggregations": inner["aggregations"]}
    return condition


def _spent(app: str, micro_usd: int) -> dict[str, Any]:
    """Only PromQL adds up a distribution (https://cloud.google.com/monitoring/promql/promql-mapping)."""
    metric = f"logging_googleapis_com:user_{_COST}_sum"
    series = f'{metric}{{monitored_resource="cloud_run_revision",service_name="{app}"}}'
    query = {
        "query": f"sum(increase({series}[1h])) > {micro_usd}",
        "duration": "0s",
        "evaluationInterval": "60s",
    }
    return {"displayName": "costs of an hour", "conditionPrometheusQueryLanguage": query}


def _metrics(place: Place) -> Step:
    metrics = f"{_LOGGING}/projects/{place.project}/metrics"

    def lacks(answers: Sequence[Any]) -> Iterable[Action]:
        there = {each["name"] for each in (answers[0] or {}).get("metrics", [])}
        for name, metric in _METRICS.items():
            if name not in there:
                yield Request("POST", metrics, {"name": name, **metric}, settled="already exists")

    return Step(
        "metrics from the log, for alerts",
        (Request("GET", f"{metrics}?pageSize={_PAGE}"),),
        lacks=lacks,
        mend=f"ask for roles/logging.configWriter in {place.project}; {_WITHOUT}",
        optional=True,
    )


def _channels(place: Place, email: str) -> Request:
    wanted = quote(f'type="email" AND labels.email_address="{email}"')
    return Request("GET", f"{_MONITORING}/projects/{place.project}/notificationChannels?filter={wanted}")


def _channel(place: Place, email: str) -> Step:
    body = {"type": "email", "displayName": f"firelaunch: {email}", "labels": {"email_address": email}}
    create = Request("POST", f"{_MONITORING}/projects/{place.project}/notificationChannels", body)
    return Step(
        f"alerts go to {email}",
        (_channels(place, email),),
        lacks=lambda a: [] if (a[0] or {}).get("notificationChannels") else [create],
        mend=f"ask for roles/monitoring.notificationChannelEditor in {place.project}; {_WITHOUT}",
        optional=True,
    )


def _policies(place: Place, settings: Settings) -> Step:
    app, url = settings.app.id, f"{_MONITORING}/projects/{place.project}/alertPolicies"
    own = quote(f'user_labels.{_LABEL}="{app}"')
    listed = Request("GET", f"{url}?pageSize={_PAGE}&filter={own}")

    def lacks(answers: Sequence[Any]) -> Iterable[Action]:
        there = (answers[0] or {}).get("alertPolicies", [])
        known = {each.get("userLabels", {}).get(_DIGEST) for each in there}
        channels = (answers[1] or {}).get("notificationChannels", [])
        channel = channels[0]["name"] if channels else ""
        for policy in policies(app, settings, channel):
            if policy["userLabels"][_DIGEST] not in known:
                yield Request("POST", url, policy)
        wanted = {policy["userLabels"][_DIGEST] for policy in policies(app, settings)}
        for each in there:
            if each.get("userLabels", {}).get(_DIGEST) not in wanted:
                yield Request("DELETE", f"{_MONITORING}/{each['name']}", project=place.project)

    return Step(
        f"alerts of {app}",
        (listed, _channels(place, settings.alerts.email)),
        lacks=lacks,
        mend="deploy again in ten minutes; where a permission is missing, ask for roles/monitoring.alertPolicyEditor "
        f"in {place.project}; {_WITHOUT}",
        optional=True,
    )
