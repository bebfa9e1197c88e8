"""What Google's services call: a service's schedules, and the events of files and documents that it hears of.

An app's own service has the schedules of ``firelaunch.toml`` and the handlers of ``App(events=[...])``; those of its
functions are in :mod:`.functions`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from firelaunch.settings.app import Settings
from firelaunch.settings.schedules import Cron

from .declarations import NOTHING, Declarations
from .resources import Place, Schedule, app_service, bucket

__all__ = [
    "EVENTS",
    "PUBLISHER",
    "SCHEDULES",
    "SUBSCRIPTION",
    "WRITTEN",
    "Calls",
    "DocumentTrigger",
    "UploadSubscription",
    "app_calls",
    "topic_of",
    "uploads_of",
]

SCHEDULES = "/internal/schedules/"
EVENTS = "/internal/events/"
"""Below these paths an app's service takes the calls of its schedules and for its handlers."""

PUBLISHER = "roles/pubsub.publisher"
"""Of Cloud Storage's own account, on the topic that it tells of files."""

SUBSCRIPTION: Mapping[str, str | int] = {
    "ack_seconds": 60,
    "retention": "86400s",
    "min_backoff": "10s",
    "max_backoff": "600s",
}
"""Of each app's subscriptions. What nobody took is kept for as long as Eventarc keeps its events
(https://cloud.google.com/eventarc/docs/retry-events)."""

WRITTEN = "google.cloud.firestore.document.v1.written"

_TRIGGER_ID = 63
"""Characters of an Eventarc trigger's id at most: lower-case letters, digits and hyphens
(https://cloud.google.com/eventarc/docs/reference/rest/v1/projects.locations.triggers/create)."""

_RETRIES = 5
"""Cloud Scheduler's most. A tick that is called again is the same tick (docs/schedules.md)."""

_MONTH = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class UploadSubscription:
    """How a service hears of an app's users' files: a subscription, filtered by folder, to the one topic of the bucket.

    A bucket takes ten notifications of one kind at most, whoever makes them; of a topic's subscriptions there is no
    such limit (https://cloud.google.com/storage/docs/pubsub-notifications). A filter compares a name's beginning alone
    (https://cloud.google.com/pubsub/docs/subscription-message-filter), so each handler hears of all the app's files.
    """

    bucket: str
    topic: str
    subscription: str
    only: str
    url: str
    path: str


@dataclass(frozen=True, slots=True)
class DocumentTrigger:
    """How a service hears that a document was written: an Eventarc trigger on an app's own paths alone."""

    trigger: str
    database: str
    pattern: str
    service: str
    path: str


@dataclass(frozen=True, slots=True)
class Calls:
    """The callers of one service, all of it as the account ``account``."""

    account: str
    schedules: tuple[Schedule, ...] = ()
    uploads: tuple[UploadSubscription, ...] = ()
    documents: tuple[DocumentTrigger, ...] = ()


def app_calls(settings: Settings, place: Place, declared: Declarations = NOTHING) -> Calls | None:
    """Return what calls an app's own service for its schedules and handlers; None if the app is private."""
    app, work = settings.app.id, app_service(settings, place, declared).work
    if work is None:
        return None
    url = work.sweep.url
    return Calls(
        account=work.account,
        schedules=tuple(_schedules(settings, url)),
        uploads=tuple(
            uploads_of(settings, place, f"fl-upload-{app}_{each.handler}", url, f"{EVENTS}{each.handler}")
            for each in declared.sources("upload")
        ),
        documents=tuple(
            DocumentTrigger(
                trigger=_trigger_id(app, each.handler),
                database=settings.database,
                pattern="/".join("*" if part.startswith("{") else part for part in each.pattern.split("/")),
                service=app,
                path=f"{EVENTS}{each.handler}",
            )
            for each in declared.sources("write")
        ),
    )


def uploads_of(settings: Settings, place: Place, name: str, url: str, path: str) -> UploadSubscription:
    """Return the subscription ``name`` to the files of the app's users, which calls ``path`` at ``url``."""
    files = bucket(settings, place)
    return UploadSubscription(
        bucket=files,
        topic=topic_of(files),
        subscription=name,
        only=f'hasPrefix(attributes.objectId, "apps/{settings.app.id}/users/")',
        url=url,
        path=path,
    )


def topic_of(bucket_name: str) -> str:
    """The topic that a bucket tells of its files."""
    return f"firelaunch-uploads-{bucket_name}"


def _schedules(settings: Settings, url: str) -> Iterator[Schedule]:
    for name, wanted in settings.schedules.items():
        yield Schedule(
            # Neither an app's id nor the name of another job of firelaunch's has an underscore before this one.
            name=f"{settings.app.id}_{name}",
            cron=wanted.cron,
            url=url,
            path=f"{SCHEDULES}{name}",
            runs=_runs(wanted.ticks),
            zone=wanted.zone,
            retries=_RETRIES,
        )


@cache
def _runs(cron: Cron) -> int:
    """Count the ticks of 30 days."""
    begin = datetime(2025, 1, 1, tzinfo=UTC)
    return len(cron.between(begin, begin + _MONTH, limit=_MONTH // timedelta(minutes=1)))


def _trigger_id(app: str, handler: str) -> str:
    """Return a trigger's id. The hash tells apart what hyphens for underscores, or the cut, make alike."""
    digest = hashlib.sha256(f"{app}/{handler}".encode()).hexdigest()[:8]
    readable = f"fl-write-{app}-{handler.replace('_', '-')}"
    return f"{readable[: _TRIGGER_ID - 9].rstrip('-')}-{digest}"
