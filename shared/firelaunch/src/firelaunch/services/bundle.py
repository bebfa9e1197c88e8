"""The frozen bundle of services that routes and turns get. :mod:`firelaunch.services.build` builds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from pydantic import BaseModel

from ..billing.checkout import Checkout
from ..chats.store import Chats
from ..documents.catalog import Documents
from ..documents.kept_files import KeptFiles
from ..identity import Attestation, DevIdentity, Identity
from ..jobs import Callers, Job, Jobs, Kind
from ..jobs.base import HasKind, kind_of
from ..llm.gateway import Gateway
from ..membership.guests import Guests
from ..metering.model_calls import ModelCalls
from ..metering.reservations import Metering
from ..metering.retries import Retries
from ..prompts.versions import Prompts
from ..push import Push
from ..records.data import Data
from ..scope import Scope
from ..settings.app import Settings
from ..store.guard import Guard
from ..store.scoped import ScopedStore
from ..telemetry.spans import Tracer
from .deferred import Warming

__all__ = ["Services"]

P = TypeVar("P", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Services:
    """The services of one app's process.

    ``store`` reaches this app's documents only. ``data`` reads and writes the app's own collections, and ``files`` the
    files that the app keeps of its own, for the app or for the user that the services are bound to. ``llm`` calls
    models for code outside a chat turn. ``dev_identity`` issues dev tokens; it is None in cloud mode. ``moderate``
    checks users' texts; it is None if there is no moderation. ``app_check`` verifies App Check tokens; it is None if
    the settings ask for none. ``push`` sends notifications to devices; it is None on a laptop. ``internal`` verifies
    the tokens of Cloud Tasks; it is None without Cloud Tasks. ``agents`` verifies tokens at
    ``POST /mcp``. ``tracer`` begins the traces of requests and jobs; it is None if no telemetry is sent. ``guests``
    lets users without an account in; it is None if the app takes none. ``warming`` makes the clients that the first
    requests need.
    """

    settings: Settings
    store: ScopedStore
    data: Data
    files: KeptFiles
    identity: Identity
    agents: Identity
    guests: Guests | None
    dev_identity: DevIdentity | None
    app_check: Attestation | None
    chats: Chats
    documents: Documents
    metering: Metering
    admission: Retries
    gateway: Gateway
    llm: ModelCalls
    prompts: Prompts
    moderate: Callable[[str], None] | None
    jobs: Jobs
    internal: Callers | None
    clock: Callable[[], datetime]
    checkout: Checkout
    push: Push | None
    tracer: Tracer | None = None
    warming: Warming = field(default_factory=lambda: Warming([]))

    def enqueue(
        self, job: Kind[P] | HasKind[P], payload: P | None = None, *, key: str | None = None, delay: float = 0.0
    ) -> Job:
        """Enqueue a job for the scope that these services are bound to: a user, or the app. Return the stored job.

        Args:
            job: a function under ``@job``, or a ``Kind``.
            payload: None for the payload with every field's default.
            key: an idempotency key. Jobs of the same scope, kind and key are one job.
            delay: the seconds before which the job does not start.

        Raises:
            BadRequest: the payload is of another model, or is left out and has fields without defaults.
            TooLarge: the payload is too large.
            JobsUnavailable: in the cloud, jobs.url or jobs.service_account is not set.
        """
        kind = kind_of(job)
        return self.jobs.enqueue(self.store.scope, kind, kind.payload_of(payload), key=key, delay=delay)

    @property
    def features(self) -> frozenset[str]:
        """The features of the bound user's plan; none if no user is bound. This reads the user's document.

        Raises:
            StoreError: the database cannot be reached.
        """
        scope = self.store.scope
        if scope.uid is None:
            return frozenset()
        return self.metering.entitlements.of(self.store.get(scope.root)).features

    def for_member(self, group: Scope, uid: str, guard: Guard) -> Services:
        """Return services bound to a group for one member's request.

        Args:
            guard: the membership, on which each access to the group's data depends. What is spent doesn't depend on it.
        """
        bound = self.within(group)
        return replace(
            bound,
            store=bound.store.within(group, guard),
            data=self.data.for_member(group, uid, guard),
            files=bound.files.for_member(guard),
            chats=bound.chats.for_member(guard),
            documents=self.documents.for_member(group, guard),
        )

    def within(self, scope: Scope) -> Services:
        """Return services bound to ``scope``. They reach no path and no job outside it, and issue no tokens.

        Raises:
            ScopeViolation: ``scope`` is not of this app.
        """
        store = self.store.within(scope)
        metering, gateway = self.metering.within(store), self.gateway.within(scope)
        return replace(
            self,
            store=store,
            data=self.data.within(scope),
            files=self.files.within(scope),
            dev_identity=None,
            internal=None,
            chats=Chats(store, self.clock),
            documents=self.documents.within(scope),
            metering=metering,
            checkout=replace(self.checkout, store=store),
            gateway=gateway,
            llm=self.llm.within(scope, metering, gateway),
            jobs=self.jobs.within(scope),
        )
