"""What calls functions: the real gcloud against the server that plays Pub/Sub, Cloud Storage and Eventarc."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.google import GoogleCloud
from fakes.google.base import TOKEN
from firelaunch_cli.deploy.calls import DocumentTrigger, UploadSubscription
from firelaunch_cli.deploy.events import (
    for_uploads,
    notification,
    trigger,
)
from firelaunch_cli.deploy.gcloud import CommandFailed, Tools
from firelaunch_cli.deploy.resources import APIS, EVENT_RECEIVER, FEATURE_APIS, Place
from firelaunch_cli.deploy.steps import perform

from .world import gcloud_is_there

pytestmark = pytest.mark.skipif(not gcloud_is_there(), reason="the Google Cloud CLI is not installed")

PLACE = Place("demo-project", "europe-west1", "1234")
BUCKET = "demo-project.firebasestorage.app"
CALLER = "fl-job-demo"
UPLOADS = UploadSubscription(
    bucket=BUCKET,
    topic=f"firelaunch-uploads-{BUCKET}",
    subscription="fl-uploads-demo",
    only='hasPrefix(attributes.objectId, "apps/demo/users/")',
    url="https://fl-fn-demo-1234.europe-west1.run.app",
    path="/ingest_upload",
)
WATCH = DocumentTrigger(
    "fl-removals-demo", "(default)", "apps/demo/users/*/documents/*", "fl-fn-demo", "/on_document_written"
)
TRIGGER = "projects/demo-project/locations/{}/triggers/fl-removals-demo"

Fresh = Callable[[], Tools]


@pytest.fixture
def cloud() -> Iterator[GoogleCloud]:
    """A project with a bucket, a database, the account that calls, and the functions' service."""
    with GoogleCloud() as cloud:
        cloud.account.apis |= {*APIS, *FEATURE_APIS.values()}
        cloud.account.accounts.append(PLACE.email(CALLER))
        member = {"role": EVENT_RECEIVER, "members": [PLACE.member(CALLER)]}
        cloud.account.policy["bindings"].append(member)
        cloud.build.buckets.add(BUCKET)
        name = "projects/demo-project/databases/(default)"
        cloud.firestore.databases["(default)"] = {"name": name, "locationId": "europe-west1"}
        cloud.run.services["fl-fn-demo"] = {}
        yield cloud
        assert cloud.unexpected == []


@pytest.fixture
def fresh(cloud: GoogleCloud, tmp_path: Path) -> Fresh:
    """Tools as each run of a deploy has its own."""
    environ = {**os.environ, **cloud.environ(tmp_path / "home")}
    return lambda: Tools(environ, lambda _: None, pause=lambda _: None, token=TOKEN)


def never(question: str) -> bool:
    raise AssertionError(question)


def count(fresh: Fresh, uploads: UploadSubscription) -> int:
    """How many commands it takes to have an app told of its files."""
    tools = fresh()
    steps = (*for_uploads(PLACE, [uploads], CALLER), notification(PLACE, uploads))
    return sum(perform(step, tools, never) for step in steps)


def test_each_app_hears_of_its_own_files_by_one_notification_of_the_bucket(cloud: GoogleCloud, fresh: Fresh) -> None:
    """A topic, Cloud Storage's right, a subscription and the notification; another app takes a subscription more."""
    assert count(fresh, UPLOADS) == 4
    own = 'hasPrefix(attributes.objectId, "apps/other/users/")'
    assert count(fresh, replace(UPLOADS, subscription="fl-uploads-other", only=own)) == 1
    assert len(cloud.events.notifications[BUCKET]) == 1
    assert len(cloud.events.subscriptions) == 2
    (binding,) = cloud.events.policies[f"projects/demo-project/topics/{UPLOADS.topic}"]["bindings"]
    assert binding["role"] == "roles/pubsub.publisher"
    assert binding["members"] == ["serviceAccount:service-1234@gs-project-accounts.iam.gserviceaccount.com"]


def test_a_subscription_follows_its_service_and_keeps_its_filter(cloud: GoogleCloud, fresh: Fresh) -> None:
    name = f"projects/demo-project/topics/{UPLOADS.topic}"
    cloud.events.topics[name] = {"name": name}

    def subscribe(uploads: UploadSubscription) -> int:
        *_, step = for_uploads(PLACE, [uploads], CALLER)
        return perform(step, fresh(), never)

    moved = replace(UPLOADS, url="https://fl-fn-demo-1234.us-east1.run.app")
    assert [subscribe(uploads) for uploads in (UPLOADS, moved, moved)] == [1, 1, 0]
    push = cloud.events.subscriptions["projects/demo-project/subscriptions/fl-uploads-demo"]["pushConfig"]
    assert push["oidcToken"] == {"serviceAccountEmail": PLACE.email(CALLER), "audience": moved.url}
    with pytest.raises(CommandFailed, match="has another filter, which cannot be changed") as failed:
        subscribe(replace(UPLOADS, only='hasPrefix(attributes.objectId, "apps/")'))
    assert "gcloud pubsub subscriptions delete fl-uploads-demo" in failed.value.mend


def test_a_bucket_that_has_too_many_notifications_is_no_surprise(cloud: GoogleCloud, fresh: Fresh) -> None:
    name = f"projects/demo-project/topics/{UPLOADS.topic}"
    cloud.events.topics[name] = {"name": name}
    storage = "serviceAccount:service-1234@gs-project-accounts.iam.gserviceaccount.com"
    cloud.events.policies[name] = {"bindings": [{"role": "roles/pubsub.publisher", "members": [storage]}]}
    cloud.events.notifications[BUCKET] = [{"topic": f"//x/{n}", "event_types": ["OBJECT_FINALIZE"]} for n in range(10)]
    with pytest.raises(CommandFailed, match="at most 10"):
        perform(notification(PLACE, UPLOADS), fresh(), never)


def test_a_trigger_is_made_once_and_follows_its_service(cloud: GoogleCloud, fresh: Fresh) -> None:
    assert [perform(trigger(PLACE, WATCH, CALLER), fresh(), never) for _ in range(2)] == [1, 0]
    made = cloud.events.triggers[TRIGGER.format("europe-west1")]
    assert made["eventDataContentType"] == "application/protobuf"
    cloud.run.services["other"] = {}
    moved = trigger(PLACE, replace(WATCH, service="other"), CALLER)
    assert [perform(moved, fresh(), never) for _ in range(2)] == [1, 0]
    assert cloud.events.triggers[TRIGGER.format("europe-west1")]["destination"]["cloudRun"]["service"] == "other"


def test_a_trigger_is_where_its_database_is(cloud: GoogleCloud, fresh: Fresh) -> None:
    """Also in a multi-region, where the functions cannot be."""
    cloud.firestore.databases["(default)"]["locationId"] = "eur3"
    assert [perform(trigger(PLACE, WATCH, CALLER), fresh(), never) for _ in range(2)] == [1, 0]
    assert list(cloud.events.triggers) == [TRIGGER.format("eur3")]
    assert cloud.events.triggers[TRIGGER.format("eur3")]["destination"]["cloudRun"]["region"] == "europe-west1"


def test_a_trigger_is_refused_without_its_accounts_role_and_without_its_service(
    cloud: GoogleCloud, fresh: Fresh
) -> None:
    step = trigger(PLACE, WATCH, CALLER)
    held = cloud.account.policy["bindings"].pop()
    with pytest.raises(CommandFailed, match=r"eventarc\.events\.receiveEvent") as failed:
        perform(step, fresh(), never)
    assert "ask for roles/eventarc.developer in demo-project" in failed.value.mend
    cloud.account.policy["bindings"].append(held)
    del cloud.run.services["fl-fn-demo"]
    with pytest.raises(CommandFailed, match="Cloud Run service fl-fn-demo"):
        perform(step, fresh(), never)
    assert cloud.events.triggers == {}


@pytest.mark.parametrize(("database", "said"), [("gone", "Database gone"), ("(default)", "location")])
def test_a_trigger_of_no_database_or_in_another_place_is_refused(
    cloud: GoogleCloud, fresh: Fresh, database: str, said: str
) -> None:
    """As Google refuses it: where the list of databases could not say where it is."""
    (create,) = trigger(PLACE, replace(WATCH, database=database), CALLER).lacks([[], []])
    cloud.firestore.databases["(default)"]["locationId"] = "eur3"
    with pytest.raises(CommandFailed, match=said):
        fresh().run(create)  # type: ignore[arg-type]
