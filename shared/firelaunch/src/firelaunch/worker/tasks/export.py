"""Export all data of one user, for the user themselves, or of one group, for its owners: once a day, kept for a day.

An export is a job with a record below its owner, ``apps/{app}/users/{uid}/exports/{job}``. Whoever erases the owner
removes the record first, and no file of the export appears after that. :mod:`.user_archive` makes the file; that module
is imported with the first such job, so that it does not slow down the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import IO, Any, Final, cast

from pydantic import BaseModel, Field

from ...errors import AlreadyExists, Fenced, Forbidden, NotFound
from ...jobs.base import Job, Kind, job_view
from ...paging import iso_time
from ...scope import Scope
from ...services.bundle import Services
from ...store.audit import audit_writes
from ...store.base import Create, Delete, Document, Update, Write
from ...store.fence import Fence
from ...store.scoped import ScopedStore
from ...store.signed_links import LINK_KEY, check_link, link_of, new_link_key, read_link
from .. import Handlers, JobDone, JobFailed, JobRun

__all__ = [
    "EXPORT",
    "JOBS_OF_EXPORTS",
    "ExportTraces",
    "archive_of",
    "archive_of_link",
    "export_handlers",
    "export_view",
    "start_export",
]

_KEPT = timedelta(days=1)
"""The time for which the file of an export is kept."""

_LINK_SECONDS = 3600.0
"""Seconds for which a link to the file works."""


class UserExport(BaseModel):
    """The payload: the day (UTC) whose export this is."""

    day: str


class Expiry(BaseModel):
    """The payload: the export whose file has been kept for long enough."""

    export: str = Field(max_length=64)


EXPORT: Final = Kind("user_export", UserExport, max_attempts=5, seconds=1700)
EXPIRE: Final = Kind("user_export_expiry", Expiry)


JOBS_OF_EXPORTS: Final = frozenset({EXPORT.name, EXPIRE.name})
"""The kinds of these jobs. Those of a group are for its owners alone, as the export is. Their ids can be computed."""


def start_export(services: Services, owner: Scope, *, told_by: str | None = None) -> Job:
    """Start the export of the data of a user or a group, and return its job; or return that of this day's export.

    Args:
        told_by: the user who starts it, if the audit log is to tell of it, as it does of what admins take out of the
            app, and owners out of a group.

    Raises:
        JobsUnavailable: jobs cannot be delivered here.
    """
    day = services.metering.today()
    prepared = services.jobs.prepare(owner, EXPORT, UserExport(day=day), key=day)
    facts = {"day": day, "created_at": services.clock(), LINK_KEY: new_link_key()}
    record = Create(owner.export(prepared.job_id), facts)
    try:
        services.store.commit([prepared.write, record, *_told(services, owner, told_by)])
    except AlreadyExists:
        return services.jobs.get(owner, prepared.job_id)
    services.jobs.send(prepared)
    return services.jobs.get(owner, prepared.job_id)


def _told(services: Services, owner: Scope, by: str | None) -> list[Write]:
    """Return the writes by which the audit log tells of an export."""
    if by is None:
        return []
    if owner.group is not None:
        return audit_writes(owner, "group.exported", by, services.clock(), after={"group": owner.group})
    return audit_writes(owner, "data.exported", by, services.clock(), whom=owner.uid)


def export_view(
    services: Services, owner: Scope, export_id: str, address: Callable[[str], str], *, reader: str
) -> dict[str, Any]:
    """Return an export as its user sees it, with a link to its file as long as that is kept.

    Args:
        owner: whose data it holds: a user's, or a group's.
        reader: the id of the user who sees it.
        address: returns the address at which :func:`archive_of_link` is asked with a key.

    Raises:
        NotFound: the user has no such export (any more).
    """
    record = _record(services, owner, export_id)
    job = job_view(services.jobs.get(owner, export_id))
    view = {name: job[name] for name in ("id", "state", "created_at", "progress", "error")}
    view |= {"bytes": record.data.get("bytes"), "expires_at": iso_time(record.data.get("expires_at"))}
    if not _is_kept(services, record) or LINK_KEY not in record.data:
        return {**view, "url": None, "url_expires_at": None}
    until = min(services.clock() + timedelta(seconds=_LINK_SECONDS), record.data["expires_at"])
    return {**view, "url": address(link_of(record, owner, until, reader=reader)), "url_expires_at": iso_time(until)}


def archive_of_link(services: Services, export_id: str, key: str) -> Iterator[bytes]:
    """Return the file of an export in pieces, for whoever has a link's key.

    Raises:
        NotFound: the key is none of this export's, its hour is over, the file is not there any more, or the export is a
            group's and who got the link is no owner any more.
    """
    target = read_link(key, services.store.scope, services.clock)
    if target.owner.uid is None:
        raise NotFound
    check_link(target, _record(services, target.owner, export_id))
    if target.owner.group is not None:
        from ...services.groups import check_owner  # an app without groups starts without it

        try:
            check_owner(services.store, target.owner, target.member)
        except Forbidden:
            raise NotFound from None
    return archive_of(services, target.owner, export_id)


def archive_of(services: Services, user: Scope, export_id: str) -> Iterator[bytes]:
    """Return the file of an export in pieces.

    Raises:
        NotFound: the user has no such export, or its file is not there yet, or not any more.
    """
    if not _is_kept(services, _record(services, user, export_id)):
        raise NotFound
    return services.documents.files(user).pieces(archive_path(user, export_id))


def archive_path(user: Scope, export_id: str) -> str:
    """Return the path of an export's file, in a folder of its own."""
    return f"{user.export(export_id)}/data.zip"


def _record(services: Services, user: Scope, export_id: str) -> Document:
    record = services.store.get(user.export(export_id))
    if record is None:
        raise NotFound
    return record


def _remove_expired(services: Services, user: Scope) -> None:
    """Remove the user's files that have been kept for long enough: users can cancel the jobs that would do it."""
    for export_id in list(services.store.ids(user.exports())):
        record = services.store.get(user.export(export_id))
        if record is not None and record.data.get("expires_at") is not None and not _is_kept(services, record):
            services.documents.files(user).delete(record.path)
            services.store.commit([Delete(record.path)])


def _is_kept(services: Services, record: Document) -> bool:
    expires_at = record.data.get("expires_at")
    return expires_at is not None and expires_at > services.clock()


class ExportTraces:
    """The files of exports, in the form of :class:`~firelaunch.worker.tasks.erase.Traces`."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def count(self, user: Scope) -> dict[str, int]:  # noqa: ARG002 - the port's
        """Return nothing: the exports' records are counted with the user's documents."""
        return {}

    def erase(self, user: Scope) -> None:
        """Remove the records, so that no job makes a file any more, and then the files."""
        store, files = self._services.store, self._services.documents.files(user)
        for export_id in list(store.ids(user.exports())):
            store.commit([Delete(user.export(export_id))])
            files.delete(user.export(export_id))


def export_handlers(app: ScopedStore, more: Handlers | None = None) -> Handlers:
    """Return the handlers of exports, together with ``more``.

    Args:
        app: the app's store.
    """
    handlers = Handlers(more)

    @handlers.on(EXPORT)
    def export(run: JobRun, payload: UserExport) -> JobDone:  # noqa: ARG001 - every handler has a payload
        from .user_archive import user_archive

        user, services = run.scope, run.services
        if user.uid is None:
            raise JobFailed("An export is a user's, or a group's.")
        record = services.store.get(user.export(run.id))
        if record is None:
            return JobDone({"status": "gone"})
        _remove_expired(services, user)
        # The job that removes the file is there before the file is.
        services.jobs.enqueue(user, EXPIRE, Expiry(export=run.id), key=run.id, delay=_KEPT.total_seconds())
        archive = user_archive(run, app)
        try:
            fence = Fence(services.store, record.path, record.update_time)
            services.documents.files(user).put(archive_path(user, run.id), cast("IO[bytes]", archive), fence)
        except Fenced:
            return JobDone({"status": "gone"})
        ready = {"bytes": archive.size, "expires_at": services.clock() + _KEPT}
        return JobDone({"status": "ready", "bytes": archive.size}, [Update(record.path, ready, record.update_time)])

    @handlers.on(EXPIRE)
    def expire(run: JobRun, payload: Expiry) -> JobDone:
        record = run.scope.export(payload.export)
        run.services.documents.files(run.scope).delete(record)
        return JobDone(writes=[Delete(record)])

    return handlers
