"""Everything that one user left in an app, found and removed: documents, jobs, records, receipts, vectors and files.

What is another's stays as it is, byte for byte. Each step can be repeated, so an erasure that was broken off is begun
again. ``docs/erasure.md`` says what no service here can reach.

The first commit raises the user's fence (:mod:`firelaunch.store.fence`): requests, jobs and events that had begun
before it make nothing of the user's any more, however long they go on.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from pydantic import BaseModel, Field

from ...billing.erasing import SubscriptionTraces
from ...documents.erasing import DocumentTraces
from ...jobs.base import Kind
from ...scope import Scope
from ...services.bundle import Services
from ...store.base import DELETE_FIELD, Delete, Document, Filter, Query, Set, Update, Write
from ...store.scoped import ScopedStore
from .. import Handlers, JobDone, JobFailed, JobRun, Postponed

__all__ = ["ERASE", "Erase", "Erasure", "ErasureReport", "Traces", "erase_handlers", "erasure_of"]

log = logging.getLogger(__name__)

_PAGE = 300
_PASSES = 3
_KEPT_DAYS = 30
"""How long it is remembered, under a hash, that a user was erased; no request, job or event goes on for as long."""

_AT_WORK = ("running", "reserved")


class Erase(BaseModel):
    """The payload: whose data goes."""

    uid: str = Field(max_length=128)


ERASE: Final = Kind("erase", Erase, seconds=1700)


class Traces(Protocol):
    """What users leave outside the database."""

    def count(self, user: Scope) -> Mapping[str, int]:
        """How much there is of what."""

    def erase(self, user: Scope) -> None:
        """Remove it. Repeating it changes nothing."""


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """What an erasure found.

    Args:
        found: how many of what, by the name of their collection; ``invites`` had the user's id taken out, and stay.
        running: whether jobs or requests of the user were still at work, whose last writes another pass has to find.
        customer: the user's id in Stripe, which keeps records of its own.
    """

    found: Mapping[str, int] = field(default_factory=dict)
    running: bool = False
    customer: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As clients and jobs have it."""
        return {"found": dict(self.found), "stripe_customer": self.customer}


@dataclass(frozen=True, slots=True)
class Erasure:
    """Erases users of one app.

    Args:
        store: the app's own.
        traces: what there is outside of it.
    """

    store: ScopedStore
    traces: Sequence[Traces] = ()
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def report(self, uid: str) -> ErasureReport:
        """What there is of a user; changes nothing.

        Raises:
            InvalidId: ``uid`` is none.
        """
        user = self.store.scope.of(uid)
        found = Counter(path.rsplit("/", 2)[1] for path in self.store.tree(user.root))
        running = False
        for name, documents in self._elsewhere(user):
            found[name] += len(documents)
            running = running or any(document.data.get("state") in _AT_WORK for document in documents)
        for trace in self.traces:
            found.update(trace.count(user))
        root = self.store.get(user.root)
        billing = {} if root is None else root.data.get("billing") or {}
        return ErasureReport(
            {name: number for name, number in sorted(found.items()) if number}, running, billing.get("customer")
        )

    def run(self, uid: str, step: Callable[[str], None] = lambda _: None) -> ErasureReport:
        """Remove everything there is of a user.

        Args:
            step: told what is done next, for people who wait.

        Returns:
            what there was.

        Raises:
            InvalidId: ``uid`` is none.
            StoreError, IndexFailed, BillingError: something could not be reached; do it again.
        """
        user = self.store.scope.of(uid)
        self.store.commit([Set(user.erasure(), {"delete_at": self.clock() + timedelta(days=_KEPT_DAYS)})])
        step("counting")
        before = self.report(uid)
        for number in range(_PASSES):
            # Jobs first: what still works for the user loses its hold, and writes nothing through it any more.
            step("jobs and records" if number == 0 else "what came meanwhile")
            for name, documents in self._elsewhere(user):
                self._remove(name, documents)
            step("files and indexes")
            for trace in self.traces:
                trace.erase(user)
            step("documents")
            self.store.delete_tree(user.root)
            if not self.report(uid).found:
                break
        step("log of the database")
        self.store.scrub()
        return before

    def _elsewhere(self, user: Scope) -> Iterator[tuple[str, list[Document]]]:
        """Documents of the user that do not lie below their own, a page at a time; the next page is read anew."""
        own = (Filter("uid", "==", user.uid),)
        root = f"apps/{user.app_id}"
        queries = (
            Query(f"{root}/jobs", where=own, limit=_PAGE),
            Query(f"{root}/requests", where=own, limit=_PAGE),
            Query(f"{root}/billing_events", where=own, limit=_PAGE),
            Query(f"{root}/device_owners", where=own, limit=_PAGE),
            Query(f"{root}/sources", where=own, limit=_PAGE),
            Query(f"{root}/invites", where=(Filter("created_by", "==", user.uid),), limit=_PAGE),
        )
        for query in queries:
            found = self.store.query(query)
            while found:
                yield query.collection.rpartition("/")[2], found
                found = self.store.query(replace(query, after=[found[-1].id])) if len(found) == _PAGE else []
        member = self.store.get(user.member())
        if member is not None:
            yield "members", [member]

    def _remove(self, name: str, documents: Sequence[Document]) -> None:
        writes: list[Write] = [
            # An invitation is the app's; only who made it is the user's.
            Update(document.path, {"created_by": DELETE_FIELD}) if name == "invites" else Delete(document.path)
            for document in documents
        ]
        self.store.commit(writes)


def erase_handlers(erasure: Erasure, lease_seconds: float, more: Handlers | None = None) -> Handlers:
    """The handler of erasures.

    Args:
        lease_seconds: after which whatever worked for the user has noticed that its job is gone.
    """
    handlers = Handlers(more)

    @handlers.on(ERASE)
    def erase(run: JobRun, payload: Erase) -> JobDone:
        if run.scope.uid is not None:
            raise JobFailed("An erasure is a job of the app.")
        told: dict[str, Any] | None = run.checkpoint
        report = erasure.run(payload.uid, lambda note: run.progress(0, None, note))
        if told is None:
            told = report.as_dict()
            if report.running:
                run.commit(checkpoint=told)
                raise Postponed(retry_after=lease_seconds)
        log.info("a user of %s was erased: %s", run.scope.app_id, told["found"])
        # Whose data it was goes as well; the counts stay.
        emptied = Update(run.scope.job(run.id), {"payload": "{}", "checkpoint": DELETE_FIELD})
        return JobDone(told, [emptied])

    return handlers


def erasure_of(services: Services) -> Erasure:
    """What erases users of the app, in all places that ``services`` know of."""
    traces: list[Traces] = [DocumentTraces(services.store, services.documents)]
    if services.checkout.payments is not None:
        traces.append(SubscriptionTraces(services.store, services.checkout.payments))
    return Erasure(services.store, traces)
