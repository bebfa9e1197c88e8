"""Erase all data of one user, or one group, in an app: documents, jobs, records, receipts, vectors and files.

Other users' data stays unchanged, byte for byte. Each step can be repeated, so an erasure that broke off starts again
from the beginning. ``docs/erasure.md`` lists the data that no service here can reach.

The first commit raises the user's fence (:mod:`firelaunch.store.fence`). After it, requests, jobs and events that
started earlier can create no more data of the user, however long they go on.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from secrets import token_hex
from typing import Any, Final, Literal, Protocol

from pydantic import BaseModel, Field

from ...billing.erasing import SubscriptionTraces
from ...documents.catalog import Documents
from ...documents.erasing import DocumentTraces
from ...documents.kept_files import KeptFileTraces
from ...errors import Contention, NotFound, PreconditionFailed
from ...jobs.base import Kind
from ...metering.reservations import USED, Day
from ...scope import Scope, record_text_id
from ...services.bundle import Services
from ...services.groups import forget_group, forget_member, owner_of
from ...store.base import DELETE_FIELD, Create, Delete, Document, Set, Update, Write
from ...store.scoped import ScopedStore
from .. import Handlers, JobDone, JobFailed, JobRun, Postponed
from .export import ExportTraces
from .group_messages import group_chats, remove_messages, written_in
from .user_data import SENT, KeptDocuments, groups_of, guests_on_their_way, kept_elsewhere, names_user, pages

__all__ = ["ERASE", "Erase", "Erasure", "ErasureReport", "Traces", "erase_handlers", "erasure_of"]

log = logging.getLogger(__name__)

_PASSES = 3
_TRIES = 50
"""Tries to remove the day's usage while other requests of its user change it."""
_KEPT_DAYS = 30
"""Days for which a user's erasure is remembered under a hash: longer than any request, job or event goes on."""

_AT_WORK = ("running", "reserved")


class Erase(BaseModel):
    """The payload: the user to erase."""

    uid: str = Field(max_length=128)


ERASE: Final = Kind("erase", Erase, seconds=1700)


class Traces(Protocol):
    """Data of users outside the database."""

    def count(self, user: Scope) -> Mapping[str, int]:
        """Return the number of a user's items, by their kind."""

    def erase(self, user: Scope) -> None:
        """Remove a user's items. Repeating this changes nothing."""


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """The data that an erasure found.

    Args:
        found: the number of items, by the name of their collection. ``invites`` stay, without the user's id.
        running: whether jobs or requests of the user were still running. Another pass has to find their last writes.
        customer: the user's id in Stripe, which keeps records of its own.
    """

    found: Mapping[str, int] = field(default_factory=dict)
    running: bool = False
    customer: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the report in the form that clients and jobs get."""
        return {"found": dict(self.found), "stripe_customer": self.customer}


@dataclass(frozen=True, slots=True)
class Erasure:
    """Erases users of one app.

    Args:
        store: the app's store.
        traces: the users' data outside the store.
        forget: removes what searches know of records of the app or of a group, by their collection and ids.
        chats_on_erase: what becomes of the messages of users in chats of groups.
        discard: deletes a file of a group's, by its id.
    """

    store: ScopedStore
    traces: Sequence[Traces] = ()
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    forget: Callable[[Scope, str, Iterable[str]], None] = lambda *_: None
    chats_on_erase: Literal["delete", "anonymize", "hand_over"] = "delete"
    discard: Callable[[Scope, str], object] = lambda *_: None

    def report(self, uid: str) -> ErasureReport:
        """Count a user's data, without changing anything.

        Raises:
            InvalidId: ``uid`` is no valid id.
        """
        user = self.store.scope.of(uid)
        counts = Counter(path.rsplit("/", 2)[1] for path in self.store.tree(user.root))
        running = False
        for kept, documents in self._elsewhere(user):
            counts[kept.name] += len(documents)
            running = running or any(document.data.get("state") in _AT_WORK for document in documents)
        for trace in self.traces:
            counts.update(trace.count(user))
        root, *members = self.store.get_many([user.root, *_membership(user)])
        counts["members"] += sum(member is not None for member in members)
        billing = {} if root is None else root.data.get("billing") or {}
        return ErasureReport(
            {name: number for name, number in sorted(counts.items()) if number}, running, billing.get("customer")
        )

    def run(self, uid: str, step: Callable[[str], None] = lambda _: None) -> ErasureReport:
        """Erase all data of a user, or of a group, by the ``uid`` of its scope.

        Args:
            step: is called with a name of each next step, to show to people who wait.

        Returns:
            the data that there was.

        Raises:
            InvalidId: ``uid`` is no valid id.
            StoreError, IndexFailed, BillingError: a service could not be reached. Run the erasure again.
        """
        user = self.store.scope.of(uid)
        now = self.clock()
        remembered = {"begun_at": now, "delete_at": now + timedelta(days=_KEPT_DAYS)}
        self.store.commit([Set(user.erasure(), remembered, merge=True)])  # a guest who was closed stays closed
        for guest in list(guests_on_their_way(self.store, user)):
            self.run(guest, step)
        step("counting")
        before = self.report(uid)
        self._leave_groups(user, now)
        for number in range(_PASSES):
            # Jobs go first: workers that still work for the user lose their leases, and can write nothing more.
            step("jobs and records" if number == 0 else "what came meanwhile")
            for kept, documents in self._elsewhere(user):
                self._remove(user, kept, documents)
            for path in _membership(user):
                self.store.commit([Delete(path)])
            step("files and indexes")
            for trace in self.traces:
                trace.erase(user)
            step("documents")
            self._remove_tree(user)
            if not self.report(uid).found:
                break
        step("log of the database")
        self.store.scrub()
        return before

    def _remove_tree(self, user: Scope) -> None:
        """Remove the user's own documents."""
        days = f"{user.root}/usage"
        for collection in self.store.collections(user.root):
            if f"{user.root}/{collection}" != days:
                self.store.delete_tree(f"{user.root}/{collection}")
        today = self.clock().astimezone(UTC).date().isoformat()
        for day in list(self.store.ids(days)):
            if day == today:
                self._take_day(user, day)
            else:
                self.store.delete_tree(user.usage(day))
        self.store.commit([Delete(user.root)])

    def _take_day(self, user: Scope, day: str) -> None:
        """Remove the day's usage, and keep its sums with the user's fence, so that an erasure gives no new budget.

        It is one commit: what was spent is in one of both documents at any time, and never in both.

        Raises:
            Contention: other requests of the user came first each time.
        """
        for _ in range(_TRIES):
            fence, usage = self.store.get_many([user.erasure(), user.usage(day)])
            if usage is None:
                return
            kept = {USED: Day.of(usage, fence, day).kept(day, self.clock())}
            raised = Update(user.erasure(), kept, None if fence is None else fence.update_time)
            with suppress(NotFound, PreconditionFailed):
                self.store.commit([raised, Delete(usage.path, usage.update_time)])
                return
        raise Contention(retry_after=1)

    def _leave_groups(self, owner: Scope, now: datetime) -> None:
        """End the user's memberships, and erase groups that nobody else is in; or end those of the group."""
        if owner.group is not None:
            forget_group(self.store, owner)
            return
        for group in groups_of(self.store, owner):
            if not forget_member(self.store, owner, group, now):
                self.run(str(owner.of_group(group).uid))

    def _elsewhere(self, user: Scope) -> Iterator[tuple[KeptDocuments, list[Document]]]:
        """Yield the user's documents outside the user's own tree, by collection and a page at a time."""
        groups = groups_of(self.store, user)
        chats = group_chats(self.store, user, groups)
        in_chats = (each for chat in chats for each in written_in(user, *chat, self.chats_on_erase))
        for kept in chain(kept_elsewhere(user, self.store.user_fields, groups), in_chats):
            for page in pages(self.store, kept):
                yield kept, page

    def _remove(self, user: Scope, kept: KeptDocuments, documents: Sequence[Document]) -> None:
        if kept.folder:
            heir = owner_of(self.store, user.of_group(str(kept.group)))
            remove_messages(self.store, user, kept, documents, heir, self.discard)
            return
        if kept.on_erase == "hand_over":
            self._hand_over(user.of_group(str(kept.group)), kept, documents)
            return
        if kept.on_erase == "delete":
            self._change(kept, documents)
            self._forget(kept, documents)
            return
        named = [document for document in documents if names_user(document.id, user)]
        unnamed = [document for document in documents if document not in named]
        if unnamed:
            self._change(kept, unnamed)
        for document in named:
            self._rename(kept, document)
        self._forget(kept, named)

    def _forget(self, kept: KeptDocuments, documents: Sequence[Document]) -> None:
        app = self.store.scope
        place = app if kept.group is None else app.of_group(kept.group)
        self.forget(place, kept.name, [document.id for document in documents])

    def _hand_over(self, group: Scope, kept: KeptDocuments, documents: Sequence[Document]) -> None:
        """Have documents of a group name one of its owners, after the user has left it."""
        for document in documents:
            heir = owner_of(self.store, group)
            with suppress(NotFound):  # somebody deleted it meanwhile
                self.store.commit([Update(document.path, {kept.field: DELETE_FIELD if heir is None else heir.id})])

    def _rename(self, kept: KeptDocuments, document: Document) -> None:
        """Give a document without the user's field an id of its own, where the id says who the user was."""
        data = {name: value for name, value in document.data.items() if name != kept.field}
        moved = Create(f"{kept.query.collection}/{token_hex(10)}", data)
        with suppress(NotFound, PreconditionFailed):  # somebody changed it; the next pass sees to it
            self.store.commit([moved, Delete(document.path, document.update_time)])

    def _change(self, kept: KeptDocuments, documents: Sequence[Document]) -> None:
        writes = [_removal(kept, document) for document in documents]
        try:
            self.store.commit(writes)
        except (NotFound, PreconditionFailed):  # one of them was deleted, or settled, meanwhile
            for write in writes:
                with suppress(NotFound, PreconditionFailed):
                    self.store.commit([write])


def _removal(kept: KeptDocuments, document: Document) -> Write:
    if kept.on_erase == "anonymize":
        return Update(document.path, {kept.field: DELETE_FIELD})
    if kept.field == SENT and document.data.get("state") == "reserved":
        # The answer may be running, and its group owes what it costs. It settles with this record, which then says
        # nothing of the user. If it settles first, this write fails, and the next pass deletes the record.
        return Update(document.path, {SENT: DELETE_FIELD, "call": DELETE_FIELD}, document.update_time)
    return Delete(document.path)


def _membership(owner: Scope) -> list[str]:
    """Return the path of the user's membership of the app, which a group has none of."""
    return [] if owner.group is not None else [owner.member()]


def erase_handlers(erasure: Erasure, lease_seconds: float, more: Handlers | None = None) -> Handlers:
    """Return the handler of erasures, together with ``more``.

    Args:
        lease_seconds: the seconds after which each worker for the user has noticed that its job is gone.
    """
    handlers = Handlers(more)

    @handlers.on(ERASE)
    def erase(run: JobRun, payload: Erase) -> JobDone:
        if run.scope.uid is not None:
            raise JobFailed("An erasure is a job of the app.")
        result: dict[str, Any] | None = run.checkpoint
        report = erasure.run(payload.uid, lambda note: run.progress(0, None, note))
        if result is None:
            result = report.as_dict()
            if report.running:
                run.commit(checkpoint=result)
                raise Postponed(retry_after=lease_seconds)
        log.info("a user of %s was erased: %s", run.scope.app_id, result["found"])
        # The user's id in the job's own payload goes as well; the counts stay.
        emptied = Update(run.scope.job(run.id), {"payload": "{}", "checkpoint": DELETE_FIELD})
        return JobDone(result, [emptied])

    return handlers


def erasure_of(services: Services) -> Erasure:
    """Return the erasure for the app's users, in all places that ``services`` know."""
    app = services.store.scope
    traces: list[Traces] = [
        ExportTraces(services),
        KeptFileTraces(services.store, services.documents.files(app)),
        DocumentTraces(services.store, services.documents),
    ]
    if services.checkout.payments is not None:
        traces.append(SubscriptionTraces(services.store, services.checkout.payments))
    return Erasure(
        services.store,
        traces,
        forget=partial(_forget, services.documents),
        # An app whose groups have no chats any more may still have some, which nobody can read.
        chats_on_erase=services.settings.groups.chats_on_erase or "delete",
        discard=lambda group, file: services.files.within(group).delete(file),
        clock=services.clock,
    )


def _forget(documents: Documents, place: Scope, collection: str, ids: Iterable[str]) -> None:
    """Remove the texts of records from the index at once, and not with the job of their deletion."""
    for record in ids if collection in documents.searchable else ():
        with suppress(NotFound):
            documents.delete_any(place, record_text_id(collection, record))
