"""Decide what is acknowledged: Eventarc and Pub/Sub send an event again, for a day, until it gets a 2xx.

So an event that can never be handled must not get an error: it is logged and let go.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from ..errors import Fenced, FirelaunchError, StoreError
from ..settings.app import Settings
from .cloud_events import Malformed, Received

__all__ = ["MAX_EVENT", "ForOthers", "Ignored", "acknowledge", "check_home"]

log = logging.getLogger(__name__)

MAX_EVENT = 16 * 1024 * 1024
"""Most bytes of an event. A document has at most 1 MiB (https://firebase.google.com/docs/firestore/quotas), an event
holds two documents, and JSON with base64 takes a few times as much."""

_GIVE_UP = timedelta(hours=1)
"""The age from which an event is dropped after an unexpected error, so that a fault in the code does not repeat for a
day. While the database is down, events are sent again for as long as their sender does."""


class Ignored(Exception):
    """Raise this in a function if there is nothing to do for an event. The message is logged."""


class ForOthers(Ignored):
    """An event that is for another handler. Pub/Sub cannot tell them apart, so such events are usual."""


def acknowledge(error: Exception, event: Received | None, name: str) -> None:
    """Log an event that is let go because of ``error``.

    Args:
        event: None if it could not be read.
        name: the function's or the handler's.

    Raises:
        Exception: ``error`` itself, if its sender should send the event again.
    """
    if isinstance(error, Malformed | Ignored):
        level = logging.INFO if isinstance(error, ForOthers) else logging.WARNING
        log.log(level, "%s let an event go: %s", name, error)
        return
    if isinstance(error, FirelaunchError):
        gone = isinstance(error, Fenced)  # of a user or a document that stays gone, however often the event comes
        if not gone and (error.status >= 500 or error.retry_after is not None or isinstance(error, StoreError)):
            raise error
        log.warning("%s let an event go: %s", name, error)
        return
    is_old = event is not None and event.time is not None and datetime.now(UTC) - event.time > _GIVE_UP
    if not is_old:
        raise error
    log.error("%s gave up on an event: %s", name, type(error).__name__, exc_info=error)


def check_home(home: Mapping[str, str], settings: Settings) -> None:
    """Refuse a resource whose name matches but that lies in another bucket, database or project.

    Raises:
        Ignored: it does.
    """
    cloud, database = settings.cloud, settings.database
    if home.get("database", database) != database:
        raise Ignored("it is of another database")
    bucket = settings.documents.bucket or (f"{cloud.project}.firebasestorage.app" if cloud.project else "")
    if bucket and home.get("bucket", bucket) != bucket:
        raise Ignored("it is of another bucket")
    if cloud.project and home.get("project", cloud.project) != cloud.project:
        raise Ignored("it is of another project")
