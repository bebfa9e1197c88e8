"""How an app and its functions hear of files and documents: of Cloud Storage by Pub/Sub, of Firestore by Eventarc."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .calls import EVENTS, PUBLISHER, SUBSCRIPTION, WRITTEN, DocumentTrigger, UploadSubscription
from .gcloud import Tools, gcloud
from .iam import binds
from .resources import Place
from .steps import Action, Grant, Step

__all__ = ["dropped_subscriptions", "dropped_triggers", "for_uploads", "notification", "trigger"]


def for_uploads(place: Place, uploads: Sequence[UploadSubscription], caller: str) -> Iterable[Step]:
    """The topic of each bucket, Cloud Storage's right to fill it, and the subscriptions; they call as ``caller``."""
    for topic in dict.fromkeys(each.topic for each in uploads):
        yield _topic(place, topic)
        yield _publisher(place, topic)
    for each in uploads:
        yield _subscription(place, each, caller)


def dropped_subscriptions(place: Place, url: str, wanted: Iterable[UploadSubscription]) -> Step:
    """Subscriptions of handlers that the app at ``url`` no longer declares are deleted."""
    kept = {each.subscription for each in wanted}

    def lacks(answers: Sequence[Any]) -> Iterable[Action]:
        for there in answers[0] or []:
            name = there["name"].rpartition("/")[2]
            if name not in kept and str(_push_of(there)[0]).startswith(f"{url}{EVENTS}"):
                yield gcloud("pubsub", "subscriptions", "delete", name, project=place.project)

    return Step(
        "no subscription of a handler that is gone",
        (gcloud("pubsub", "subscriptions", "list", project=place.project),),
        lacks=lacks,
        mend=f"ask for roles/pubsub.admin in {place.project}",
    )


def notification(place: Place, uploads: UploadSubscription) -> Step:
    """The bucket tells the topic of each new file of any app; subscriptions take from it what is theirs."""
    url = f"gs://{uploads.bucket}"
    topic = f"projects/{place.project}/topics/{uploads.topic}"
    create = gcloud(
        *("storage", "buckets", "notifications", "create", url, f"--topic={topic}", "--skip-topic-setup"),
        *("--event-types=OBJECT_FINALIZE", "--object-prefix=apps/", "--payload-format=json"),
        project=place.project,
    )

    def there(item: Mapping[str, Any]) -> bool:
        config = item.get("Notification Configuration", item)
        return str(config.get("topic", "")).endswith(f"/{topic}") and "OBJECT_FINALIZE" in config.get("event_types", [])

    return Step(
        f"{uploads.bucket} tells of new files",
        (gcloud("storage", "buckets", "notifications", "list", url, project=place.project),),
        lacks=lambda a: [] if any(map(there, a[0] or [])) else [create],
        mend=f"ask for roles/storage.admin in {place.project}",
    )


def trigger(place: Place, watch: DocumentTrigger, caller: str) -> Step:
    """The Eventarc trigger, where its database is; the service that it calls has to be there first.

    Google changes neither a trigger's database nor its paths, so one that has others is made anew.
    """
    return _of_triggers(
        place,
        f"Eventarc trigger {watch.trigger}",
        watch.database,
        lambda answers: _trigger(place, watch, caller, answers),
    )


def dropped_triggers(place: Place, service: str, database: str, wanted: Iterable[DocumentTrigger]) -> Step:
    """Triggers of handlers that the app ``service`` no longer declares are deleted."""
    kept = {each.trigger for each in wanted}

    def lacks(answers: Sequence[Any]) -> Iterable[Action]:
        for there in answers[1] or []:
            goes, name = there.get("destination", {}).get("cloudRun", {}), there["name"].rpartition("/")[2]
            of_handler = goes.get("service") == service and str(goes.get("path", "")).startswith(EVENTS)
            if of_handler and name not in kept:
                yield _deleted(place, name, answers[0], database)

    return _of_triggers(place, "no Eventarc trigger of a handler that is gone", database, lacks)


def _of_triggers(place: Place, title: str, database: str, lacks: Callable[[Sequence[Any]], Iterable[Action]]) -> Step:
    """Return a step that looks at all databases, and at the triggers of the place of this one."""
    databases = gcloud("firestore", "databases", "list", project=place.project)

    def listed(location: str) -> Any:
        return gcloud("eventarc", "triggers", "list", f"--location={location}", project=place.project)

    def look(tools: Tools) -> Sequence[Any]:
        found = tools.read(databases)
        return [found, tools.read(listed(_location(found, database, place.region)))]

    return Step(
        title,
        (databases, listed(place.region)),
        lacks=lacks,
        mend=f"ask for roles/eventarc.developer in {place.project}; Eventarc's own account takes some minutes in a new "
        "project",
        look=look,
    )


def _topic(place: Place, name: str) -> Step:
    create = gcloud("pubsub", "topics", "create", name, project=place.project)
    return Step(
        f"topic {name}",
        (gcloud("pubsub", "topics", "list", project=place.project),),
        lacks=lambda a: [] if _named(a[0], f"/topics/{name}") else [create],
        mend=f"ask for roles/pubsub.admin in {place.project}",
    )


def _publisher(place: Place, topic: str) -> Step:
    # https://cloud.google.com/storage/docs/projects#service-agents; the first look makes it where it is not there yet.
    agent = f"service-{place.number}@gs-project-accounts"
    member = f"serviceAccount:{agent}.iam.gserviceaccount.com"
    bind = gcloud(
        *("pubsub", "topics", "add-iam-policy-binding", topic, f"--member={member}", f"--role={PUBLISHER}"),
        project=place.project,
    )
    return Step(
        f"Cloud Storage's account {agent} may fill topic {topic}: {PUBLISHER}",
        (
            gcloud("storage", "service-agent", project=place.project),
            gcloud("pubsub", "topics", "get-iam-policy", topic, project=place.project),
        ),
        lacks=lambda a: [] if binds(a[1], PUBLISHER, member) else [bind],
        mend=f"ask for roles/pubsub.admin in {place.project}",
        grants=(Grant(agent, PUBLISHER, f"topic {topic}"),),
    )


def _subscription(place: Place, uploads: UploadSubscription, caller: str) -> Step:
    endpoint, email = f"{uploads.url}{uploads.path}", place.email(caller)
    push = (
        *(f"--push-endpoint={endpoint}", f"--push-auth-service-account={email}"),
        f"--push-auth-token-audience={uploads.url}",
    )
    create = gcloud(
        *("pubsub", "subscriptions", "create", uploads.subscription, f"--topic={uploads.topic}", *push),
        *(f"--message-filter={uploads.only}", "--expiration-period=never"),
        f"--ack-deadline={SUBSCRIPTION['ack_seconds']}",
        f"--message-retention-duration={SUBSCRIPTION['retention']}",
        f"--min-retry-delay={SUBSCRIPTION['min_backoff']}",
        f"--max-retry-delay={SUBSCRIPTION['max_backoff']}",
        project=place.project,
    )
    change = gcloud("pubsub", "subscriptions", "modify-push-config", uploads.subscription, *push, project=place.project)

    def lacks(answers: Sequence[Any]) -> Iterable[Action]:
        there = _named(answers[0], f"/subscriptions/{uploads.subscription}")
        if there is None:
            yield create
        elif _push_of(there) != (endpoint, email, uploads.url):
            yield change

    def wrong(answers: Sequence[Any]) -> str | None:
        there = _named(answers[0], f"/subscriptions/{uploads.subscription}")
        if there is None:
            return None
        if there.get("filter") == uploads.only and there["topic"].endswith(f"/topics/{uploads.topic}"):
            return None
        return f"subscription {uploads.subscription} is of another topic or has another filter, which cannot be changed"

    return Step(
        f"subscription {uploads.subscription}: new files of the app alone",
        (gcloud("pubsub", "subscriptions", "list", project=place.project),),
        lacks=lacks,
        refuses=wrong,
        mend=f"ask for roles/pubsub.admin in {place.project}; one that cannot be changed: gcloud pubsub subscriptions "
        f"delete {uploads.subscription} --project={place.project}, and deploy again",
    )


def _push_of(subscription: Mapping[str, Any]) -> tuple[Any, ...]:
    push = subscription.get("pushConfig", {})
    token = push.get("oidcToken", {})
    return push.get("pushEndpoint"), token.get("serviceAccountEmail"), token.get("audience")


def _trigger(place: Place, watch: DocumentTrigger, caller: str, answers: Sequence[Any]) -> Iterable[Action]:
    email = place.email(caller)
    to = (
        *(f"--destination-run-service={watch.service}", f"--destination-run-region={place.region}"),
        *(f"--destination-run-path={watch.path}", f"--service-account={email}"),
    )
    at = f"--location={_location(answers[0], watch.database, place.region)}"
    there = _named(answers[1], f"/triggers/{watch.trigger}")
    if there is not None and _watched(there) not in {("", ""), (watch.database, watch.pattern)}:
        yield _deleted(place, watch.trigger, answers[0], watch.database)
        there = None
    if there is None:
        yield gcloud(
            *("eventarc", "triggers", "create", watch.trigger, at),
            *(f"--event-filters=type={WRITTEN}", f"--event-filters=database={watch.database}"),
            f"--event-filters-path-pattern=document={watch.pattern}",
            *("--event-data-content-type=application/protobuf", *to),
            project=place.project,
        )
        return
    goes = there.get("destination", {}).get("cloudRun", {})
    is_so = (goes.get("service"), goes.get("region"), goes.get("path"), there.get("serviceAccount"))
    if is_so != (watch.service, place.region, watch.path, email):
        yield gcloud("eventarc", "triggers", "update", watch.trigger, at, *to, project=place.project)


def _deleted(place: Place, name: str, databases: Any, database: str) -> Action:
    at = f"--location={_location(databases, database, place.region)}"
    return gcloud("eventarc", "triggers", "delete", name, at, project=place.project)


def _watched(there: Mapping[str, Any]) -> tuple[str, str]:
    """Return the database and the paths that a trigger is for."""
    filters = {each["attribute"]: each["value"] for each in there.get("eventFilters", [])}
    return filters.get("database", ""), filters.get("document", "")


def _location(databases: Any, name: str, otherwise: str) -> str:
    """Where a database is: its trigger has to be there too
    (https://cloud.google.com/eventarc/docs/run/route-trigger-cloud-firestore)."""
    found = _named(databases, f"/databases/{name}")
    return str((found or {}).get("locationId") or otherwise)


def _named(listed: Any, end: str) -> Mapping[str, Any] | None:
    return next((item for item in listed or [] if item["name"].endswith(end)), None)
