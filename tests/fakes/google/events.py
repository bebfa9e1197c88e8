"""What calls services: Pub/Sub with Cloud Storage's notifications, and Eventarc's triggers; and what they refuse."""

from __future__ import annotations

import re
from typing import Any

from .base import Call, Refusal, Route, exists, not_found
from .build import Build
from .firestore import Firestore
from .project import Project
from .run import Run

__all__ = ["Events"]

_FILTERS = {
    f"google.cloud.firestore.document.v1.{what}": {"type", "database", "namespace", "document"}
    for what in ("created", "updated", "deleted", "written")
}
"""The types of events that are known here, and the attributes that a trigger may ask for."""

_TRIGGER = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
"""A trigger's id (https://cloud.google.com/eventarc/docs/reference/rest/v1/projects.locations.triggers/create)."""

_SUBSCRIPTION = re.compile(r"(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{2,254}")
"""A subscription's id (https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names)."""

_MOST = 10
"""Notifications of one kind that a bucket may have (https://cloud.google.com/storage/docs/pubsub-notifications)."""


_AGENT = (
    'Invalid resource state for "": Permission denied while using the Eventarc Service Agent. If you recently started '
    "to use Eventarc, it may take a few minutes before all necessary permissions are propagated to the Service Agent. "
    "Otherwise, verify that it has Eventarc Service Agent role."
)
"""https://cloud.google.com/eventarc/docs/troubleshooting"""


class Events:
    """State and routes."""

    def __init__(self, project: str, account: Project, firestore: Firestore, run: Run, build: Build) -> None:
        self.topics: dict[str, dict[str, Any]] = {}
        self.policies: dict[str, dict[str, Any]] = {}
        self.subscriptions: dict[str, dict[str, Any]] = {}
        self.notifications: dict[str, list[dict[str, Any]]] = {}
        self.triggers: dict[str, dict[str, Any]] = {}
        self._project = project
        self._account = account
        self._firestore = firestore
        self._run = run
        self._build = build

    def routes(self) -> list[Route]:
        """Every route."""
        pubsub = f"pubsub.googleapis.com/v1/(projects/{self._project}/"
        bucket = "storage.googleapis.com/storage/v1/b/([^/]+)/notificationConfigs"
        places = f"eventarc.googleapis.com/v1/projects/{self._project}/locations/([^/]+)"
        return [
            Route("GET", pubsub + "topics)", lambda *_: {"topics": [*self.topics.values()]}, "pubsub.topics.list"),
            Route("PUT", pubsub + "topics/[^/:]+)", self._create_topic, "pubsub.topics.create"),
            Route("GET", pubsub + "topics/[^/:]+)", self._topic, "pubsub.topics.get"),
            Route("DELETE", pubsub + "topics/[^/:]+)", self._delete_topic, "pubsub.topics.delete"),
            Route("GET", pubsub + "subscriptions/[^/:]+)", self._subscription, "pubsub.subscriptions.get"),
            Route("DELETE", pubsub + "subscriptions/[^/:]+)", self._unsubscribe, "pubsub.subscriptions.delete"),
            Route("GET", pubsub + "topics/[^/:]+):getIamPolicy", self._policy, "pubsub.topics.getIamPolicy"),
            Route("POST", pubsub + "topics/[^/:]+):setIamPolicy", self._set_policy, "pubsub.topics.setIamPolicy"),
            Route("GET", pubsub + "subscriptions)", self._list_subscriptions, "pubsub.subscriptions.list"),
            Route("PUT", pubsub + "subscriptions/[^/:]+)", self._subscribe, "pubsub.subscriptions.create"),
            Route(
                "POST",
                pubsub + "subscriptions/[^/:]+):modifyPushConfig",
                self._modify,
                "pubsub.subscriptions.update",
            ),
            Route(
                *("GET", f"storage.googleapis.com/storage/v1/projects/{self._project}/serviceAccount"),
                *(self._agent, "resourcemanager.projects.get"),
            ),
            Route("GET", bucket, self._list_notifications, "storage.buckets.get"),
            Route("POST", bucket, self._notify, "storage.buckets.update"),
            Route("GET", places + "/triggers", self._list_triggers, "eventarc.triggers.list"),
            Route("POST", places + "/triggers", self._create_trigger, "eventarc.triggers.create"),
            Route("GET", places + "/triggers/([^/:]+)", self._trigger, "eventarc.triggers.get"),
            Route("PATCH", places + "/triggers/([^/:]+)", self._update_trigger, "eventarc.triggers.update"),
            Route("DELETE", places + "/triggers/([^/:]+)", self._delete_trigger, "eventarc.triggers.delete"),
            Route("GET", places + "/operations/([^/:]+)", self._operation, "eventarc.operations.get"),
        ]

    def _create_topic(self, call: Call, name: str) -> Any:
        if name in self.topics:
            raise exists(name)
        self.topics[name] = {**call.json, "name": name}
        self.policies[name] = {"etag": "BwAAAAAA", "bindings": []}
        return self.topics[name]

    def _topic(self, _: Call, name: str) -> Any:
        if name not in self.topics:
            raise not_found(name)
        return self.topics[name]

    def _delete_topic(self, call: Call, name: str) -> Any:
        self._topic(call, name)
        del self.topics[name], self.policies[name]
        return {}

    def _subscription(self, _: Call, name: str) -> Any:
        if name not in self.subscriptions:
            raise not_found(name)
        return self.subscriptions[name]

    def _unsubscribe(self, call: Call, name: str) -> Any:
        self._subscription(call, name)
        del self.subscriptions[name]
        return {}

    def _delete_trigger(self, call: Call, location: str, trigger: str) -> Any:
        there = self._trigger(call, location, trigger)
        del self.triggers[there["name"]]
        return self._done(there["name"])

    def _policy(self, _: Call, name: str) -> Any:
        if name not in self.topics:
            raise not_found(name)
        return self.policies[name]

    def _set_policy(self, call: Call, name: str) -> Any:
        self.policies[name] = self._account.checked(call.json["policy"], self._policy(call, name))
        return self.policies[name]

    def _list_subscriptions(self, _: Call, __: str) -> Any:
        return {"subscriptions": [*self.subscriptions.values()]}

    def _subscribe(self, call: Call, name: str) -> Any:
        wanted = call.json
        if not _SUBSCRIPTION.fullmatch(name.rpartition("/")[2]):
            raise Refusal(400, "INVALID_ARGUMENT", f"Invalid resource name given (name={name}).")
        if name in self.subscriptions:
            raise exists(name)
        if wanted["topic"] not in self.topics:
            raise not_found(wanted["topic"])
        self._check_push(wanted.get("pushConfig", {}))
        self.subscriptions[name] = {**wanted, "name": name, "state": "ACTIVE"}
        return self.subscriptions[name]

    def _modify(self, call: Call, name: str) -> Any:
        if name not in self.subscriptions:
            raise not_found(name)
        self._check_push(call.json["pushConfig"])
        self.subscriptions[name] |= {"pushConfig": call.json["pushConfig"]}
        return {}

    def _check_push(self, push: dict[str, Any]) -> None:
        token = push.get("oidcToken", {})
        if push and not push["pushEndpoint"].startswith("https://"):
            raise Refusal(400, "INVALID_ARGUMENT", f"Invalid push endpoint given (endpoint={push['pushEndpoint']}).")
        if token:
            self._check_account(token["serviceAccountEmail"])

    def _check_account(self, email: str) -> None:
        if email not in self._account.accounts:
            raise Refusal(404, "NOT_FOUND", f"Service account {email} does not exist.")

    def _agent(self, _: Call) -> Any:
        """Cloud Storage's own account, which the first question makes."""
        email = "service-1234@gs-project-accounts.iam.gserviceaccount.com"
        self._account.agents.add(email)
        return {"kind": "storage#serviceAccount", "email_address": email}

    def _list_notifications(self, _: Call, bucket: str) -> Any:
        self._build.check_bucket(bucket)
        return {"kind": "storage#notifications", "items": self.notifications.get(bucket, [])}

    def _notify(self, call: Call, bucket: str) -> Any:
        self._build.check_bucket(bucket)
        there, wanted = self.notifications.setdefault(bucket, []), call.json
        topic = wanted["topic"].removeprefix("//pubsub.googleapis.com/")
        if topic not in self.topics:
            raise Refusal(400, "INVALID_ARGUMENT", f"Cloud Pub/Sub topic {topic} not found.")
        fill = [b["members"] for b in self.policies[topic]["bindings"] if b["role"] == "roles/pubsub.publisher"]
        if not any("@gs-project-accounts." in member for members in fill for member in members):
            raise Refusal(403, "PERMISSION_DENIED", f"The service account has no pubsub.topics.publish on {topic}.")
        if sum(wanted["event_types"] == each["event_types"] for each in there) >= _MOST:
            raise Refusal(400, "INVALID_ARGUMENT", f"Too many overlapping notifications; at most {_MOST} are allowed.")
        known = {"id": str(len(there) + 1), "kind": "storage#notification"}
        there.append({**wanted, **known, "topic": f"//pubsub.googleapis.com/{topic}"})
        return there[-1]

    def _list_triggers(self, _: Call, location: str) -> Any:
        return {"triggers": [each for name, each in self.triggers.items() if f"/{location}/" in name]}

    def _name(self, location: str, trigger: str) -> str:
        return f"projects/{self._project}/locations/{location}/triggers/{trigger}"

    def _trigger(self, _: Call, location: str, trigger: str) -> Any:
        name = self._name(location, trigger)
        if name not in self.triggers:
            raise not_found(name)
        return self.triggers[name]

    def _create_trigger(self, call: Call, location: str) -> Any:
        wanted, name = call.json, self._name(location, call.query["triggerId"])
        if not _TRIGGER.fullmatch(call.query["triggerId"]):
            raise Refusal(400, "INVALID_ARGUMENT", f"Invalid trigger id {call.query['triggerId']}.")
        if name in self.triggers:
            raise exists(name)
        self._check_filters(wanted["eventFilters"], location)
        self._check_target(wanted)
        if self._account.is_late("eventarc"):
            raise Refusal(400, "FAILED_PRECONDITION", _AGENT)
        self.triggers[name] = {**wanted, "name": name, "uid": "1"}
        return self._done(name)

    def _update_trigger(self, call: Call, location: str, trigger: str) -> Any:
        there = self._trigger(call, location, trigger)
        changed = {**there, **{key: call.json[key] for key in ("destination", "serviceAccount") if key in call.json}}
        self._check_target(changed)
        self.triggers[there["name"]] = changed
        return self._done(there["name"])

    def _check_filters(self, filters: list[dict[str, str]], location: str) -> None:
        given = {each["attribute"]: each for each in filters}
        known = _FILTERS.get(given.get("type", {}).get("value", ""))
        if known is None:
            raise Refusal(400, "INVALID_ARGUMENT", f"The event type {given.get('type')} is not supported.")
        if not {"type", "database"} <= set(given) <= known:
            raise Refusal(400, "INVALID_ARGUMENT", f"Filters {sorted(given)} are not those of this event type.")
        database = self._firestore.databases.get(given["database"]["value"])
        if database is None:
            raise not_found(f"Database {given['database']['value']}")
        path = given["document"]["value"].split("/")
        if len(path) % 2 and "**" not in path:
            raise Refusal(400, "INVALID_ARGUMENT", f"{given['document']['value']} is no path of documents.")
        if "*" in given["document"]["value"] and given["document"].get("operator") != "match-path-pattern":
            raise Refusal(400, "INVALID_ARGUMENT", "A path pattern needs the operator match-path-pattern.")
        if database["locationId"] != location:
            said = f"The database is in {database['locationId']}, and the trigger's location is {location}."
            raise Refusal(400, "INVALID_ARGUMENT", said)

    def _check_target(self, trigger: dict[str, Any]) -> None:
        email = trigger.get("serviceAccount", "")
        self._check_account(email)
        if ("roles/eventarc.eventReceiver", None) not in self._account.roles_of(email):
            said = f"Permission eventarc.events.receiveEvent denied for service account {email}."
            raise Refusal(403, "PERMISSION_DENIED", said)
        service = trigger["destination"]["cloudRun"]["service"]
        if service not in self._run.services:
            raise not_found(f"Cloud Run service {service}")

    def _done(self, name: str) -> Any:
        location, trigger = name.split("/")[3], name.rpartition("/")[2]
        there = self.triggers.get(name)
        gone = {"@type": "type.googleapis.com/google.protobuf.Empty"}
        return {
            "name": f"projects/{self._project}/locations/{location}/operations/{trigger}",
            "done": True,
            "response": {"@type": "type.googleapis.com/google.cloud.eventarc.v1.Trigger", **there} if there else gone,
        }

    def _operation(self, _: Call, location: str, trigger: str) -> Any:
        return self._done(self._name(location, trigger))
