"""Cloud Logging's metrics, and Cloud Monitoring's alert policies and notification channels."""

from __future__ import annotations

import re
from typing import Any

from .base import Call, Refusal, Route, not_found

__all__ = ["Monitoring"]

_METRIC_ID = re.compile(r"[A-Za-z0-9_\-.,+!*',()%/]{1,100}")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_TYPE = re.compile(r'metric\.type="([^"]+)"')
_GOOGLES = {"run.googleapis.com/request_count"}
_CONDITIONS = {"conditionThreshold", "conditionMatchedLog", "conditionPrometheusQueryLanguage", "conditionAbsent"}
_REDUCERS = {"INT64": {"REDUCE_SUM"}, "DISTRIBUTION": {f"REDUCE_PERCENTILE_{part:02}" for part in (5, 50, 95, 99)}}


def _invalid(said: str) -> Refusal:
    return Refusal(400, "INVALID_ARGUMENT", said)


class Monitoring:
    """State and routes (https://cloud.google.com/monitoring/api/ref_v3/rest, .../logging/docs/reference/v2/rest).

    Attributes:
        late: how often policies for a new metric are refused before Cloud Monitoring knows it.
    """

    def __init__(self, project: str) -> None:
        self.project = project
        self.late = 0
        self.metrics: dict[str, dict[str, Any]] = {}
        self.channels: dict[str, dict[str, Any]] = {}
        self.policies: dict[str, dict[str, Any]] = {}
        self._numbers = 0

    def routes(self) -> list[Route]:
        """Every route."""
        metrics = f"logging.googleapis.com/v2/projects/{self.project}/metrics"
        v3 = f"monitoring.googleapis.com/v3/projects/{self.project}"
        policies, channels = f"{v3}/alertPolicies", f"{v3}/notificationChannels"
        return [
            Route("GET", metrics, self._list_metrics, "logging.logMetrics.list"),
            Route("POST", metrics, self._create_metric, "logging.logMetrics.create"),
            Route("GET", channels, self._list_channels, "monitoring.notificationChannels.list"),
            Route("POST", channels, self._create_channel, "monitoring.notificationChannels.create"),
            Route("GET", policies, self._list_policies, "monitoring.alertPolicies.list"),
            Route("POST", policies, self._create_policy, "monitoring.alertPolicies.create"),
            Route("DELETE", policies + "/([0-9]+)", self._delete_policy, "monitoring.alertPolicies.delete"),
        ]

    def _list_metrics(self, _: Call) -> Any:
        return {"metrics": list(self.metrics.values())} if self.metrics else {}

    def _create_metric(self, call: Call) -> Any:
        metric = call.json
        name, descriptor = metric.get("name", ""), metric.get("metricDescriptor", {})
        if not _METRIC_ID.fullmatch(name) or name.startswith("/"):
            raise _invalid(f"Invalid metric name: {name}")
        if name in self.metrics:
            raise Refusal(409, "ALREADY_EXISTS", f"Metric {name} already exists.")
        if not metric.get("filter"):
            raise _invalid("The filter must not be empty.")
        if (descriptor.get("valueType") == "DISTRIBUTION") != ("valueExtractor" in metric):
            raise _invalid("A value extractor goes with a distribution, and with nothing else.")
        if set(metric.get("labelExtractors", {})) != {label["key"] for label in descriptor.get("labels", [])}:
            raise _invalid("Each label of the descriptor needs an extractor, and each extractor a label.")
        self.metrics[name] = metric
        return metric

    def _list_channels(self, call: Call) -> Any:
        email = re.search(r'email_address="([^"]*)"', call.query.get("filter", ""))
        found = [c for c in self.channels.values() if email is None or c["labels"]["email_address"] == email[1]]
        return {"notificationChannels": found} if found else {}

    def _create_channel(self, call: Call) -> Any:
        channel = call.json
        if channel.get("type") != "email" or "@" not in channel.get("labels", {}).get("email_address", ""):
            raise _invalid("The channel's type and labels do not fit.")
        return self._keep(self.channels, "notificationChannels", channel)

    def _list_policies(self, call: Call) -> Any:
        wanted = re.fullmatch(r'user_labels\.([a-z_]+)="([^"]*)"', call.query.get("filter", ""))
        if "filter" in call.query and wanted is None:
            raise _invalid("The filter cannot be read.")
        found = [p for p in self.policies.values() if wanted is None or p["userLabels"].get(wanted[1]) == wanted[2]]
        return {"alertPolicies": found} if found else {}

    def _create_policy(self, call: Call) -> Any:
        policy = call.json
        conditions = policy.get("conditions", [])
        if policy.get("combiner") not in {"OR", "AND"} or not 1 <= len(conditions) <= 6:
            raise _invalid("A policy needs a combiner, and one to six conditions.")
        if len(policy.get("displayName", "")) > 512:
            raise _invalid("The display name is too long.")
        for key, value in policy.get("userLabels", {}).items():
            if not _LABEL_KEY.fullmatch(key) or len(value) > 63 or value != value.lower():
                raise _invalid(f"The user label {key!r} is not valid.")
        for channel in policy.get("notificationChannels", []):
            if channel not in self.channels:
                raise not_found(channel)
        for condition in conditions:
            self._check(condition, policy)
        return self._keep(self.policies, "alertPolicies", policy)

    def _check(self, condition: dict[str, Any], policy: dict[str, Any]) -> None:
        kinds = _CONDITIONS & condition.keys()
        if len(kinds) != 1 or not condition.get("displayName"):
            raise _invalid('Condition subtype (e.g. "condition_absent", "condition_threshold") is absent or unknown.')
        if kinds == {"conditionMatchedLog"}:
            if len(policy["conditions"]) > 1:
                raise _invalid("A policy with a log match condition has no other condition.")
            if "notificationRateLimit" not in policy.get("alertStrategy", {}):
                raise _invalid("A policy with a log match condition needs a notification rate limit.")
        if kinds == {"conditionThreshold"}:
            threshold = condition["conditionThreshold"]
            if int(threshold["duration"].removesuffix("s")) % 60:
                raise _invalid("The duration must be a multiple of a minute.")
            self._check_series(threshold["filter"], threshold["aggregations"])
            if "denominatorFilter" in threshold:
                self._check_series(threshold["denominatorFilter"], threshold["denominatorAggregations"])

    def _check_series(self, wanted: str, aggregations: list[dict[str, Any]]) -> None:
        found = _TYPE.search(wanted)
        if found is None or "resource.type=" not in wanted:
            raise _invalid("The filter must name a metric's type and a resource's.")
        own = self.metrics.get(found[1].removeprefix("logging.googleapis.com/user/"))
        if found[1] not in _GOOGLES and (own is None or self.late > 0):
            self.late -= 1
            raise Refusal(
                404,
                "NOT_FOUND",
                f'Cannot find metric(s) that match type = "{found[1]}". If a metric was created recently, it could '
                "take up to 10 minutes to become available. Please try again soon.",
            )
        value = own["metricDescriptor"]["valueType"] if own else "INT64"
        for each in aggregations:
            if (
                int(each["alignmentPeriod"].removesuffix("s")) < 60
                or each["crossSeriesReducer"] not in _REDUCERS[value]
            ):
                raise _invalid("The aggregation does not fit the metric.")

    def _delete_policy(self, _: Call, number: str) -> Any:
        name = f"projects/{self.project}/alertPolicies/{number}"
        if self.policies.pop(name, None) is None:
            raise not_found(name)
        return {}

    def _keep(self, there: dict[str, dict[str, Any]], kind: str, made: dict[str, Any]) -> dict[str, Any]:
        self._numbers += 1
        name = f"projects/{self.project}/{kind}/{self._numbers}"
        there[name] = {**made, "name": name}
        return there[name]
